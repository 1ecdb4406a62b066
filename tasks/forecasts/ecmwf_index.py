"""ECMWF's open-data index (``.index``): a JSON object per line, in no particular order, keys in any order.

Format: https://confluence.ecmwf.int/display/DAC/ECMWF+open+data%3A+real-time+forecasts+from+IFS+and+AIFS
"""

from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa

from ..lake.errors import CorruptInput
from .index import line_error, refuse_no_index, refuse_ranges, table

LEVEL_TYPES = {"pl": "isobaricInhPa"}
"""``levtype`` -> level_type; any other (sfc, sol, ml) stays as it is."""

ACCUMULATED = frozenset(
    {
        "tp", "cp", "lsp", "sf", "ro", "sro", "ssro", "e", "pev", "es", "smlt",
        "ssr", "ssrd", "str", "strd", "tsr", "ttr", "ssrc", "strc", "tsrc", "ttrc", "fdir",
        "sshf", "slhf", "ewss", "nsss", "lgws", "mgws", "gwd", "bld",
    }
)  # fmt: skip
"""Params accumulated from the start of the run."""

EXTREMES: dict[str, tuple[str, int | None]] = {
    "10fg": ("max", None),
    "10fg3": ("max", 3),
    "10fg6": ("max", 6),
    "mx2t": ("max", None),
    "mx2t3": ("max", 3),
    "mx2t6": ("max", 6),
    "mn2t": ("min", None),
    "mn2t3": ("min", 3),
    "mn2t6": ("min", 6),
    "mxtpr": ("max", None),
    "mxtpr3": ("max", 3),
    "mxtpr6": ("max", 6),
    "mntpr": ("min", None),
    "mntpr3": ("min", 3),
    "mntpr6": ("min", 6),
}
"""Param -> window and its length in hours; None: since the previous post-processing."""

POST_PROCESSING = ((90, 1), (144, 3))
"""Up to which step (h) the model post-processes every how many hours; every 6 hours beyond. So 10fg covers
an hour up to step 90, is called 10fg3 up to 144, and is 10fg again, of 6 hours, from there."""

_CONTROL = "cf"
_PERTURBED = "pf"

_Offset = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_Length = Annotated[int, msgspec.Meta(gt=0, lt=2**62)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**15)]
_Level = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class _Line(msgspec.Struct, gc=False, rename={"offset": "_offset", "length": "_length"}):
    date: str
    time: str
    type: str
    step: int
    levtype: str
    param: str
    offset: _Offset
    length: _Length
    levelist: _Level | None = None
    number: _Number | None = None


# Every value is a string but the byte range, in some copies not even that: hence not strict.
_decoder = msgspec.json.Decoder(_Line, strict=False)


def read_ecmwf(
    index: bytes, *, url: str, where: str, run: datetime, step: int, member: int | None = None, size: int | None = None
) -> pa.Table:
    """An ECMWF index as a table in `manifest.SCHEMA`, a row per line, in the order of the file.

    ``run`` is UTC, ``step`` in hours; ``url`` goes into the table and ``where`` into errors. A row's member
    is its ``number``, 0 for type ``cf``, else ``member`` (0 where a single run serves as the control of an
    ensemble, None for a single run). ``size`` (bytes of the GRIB file) makes sure that no range ends beyond.

    Raises ``CorruptInput``, which names the line, for anything that is no such index: a web page, an empty
    or truncated file, a line of another run or step, a perturbed member without number, a range that is not.
    """
    refuse_no_index(index, where)
    rows = _decode(index, where)
    _check_run(rows, index, where, run, step)
    params = [r.param for r in rows]
    window, start = _windows(params, step)
    offset = np.array([r.offset for r in rows], np.int64)
    length = np.array([r.length for r in rows], np.int64)
    refuse_ranges(where, lambda row: _line_of(index, row), offset, length, size)
    return table(
        param=params,
        level_type=[LEVEL_TYPES.get(r.levtype, r.levtype) for r in rows],
        level=[r.levelist for r in rows],
        member=_members(rows, index, where, member),
        lead_time=np.full(len(rows), step * 3600, np.int64),
        window=window,
        window_start=start,
        url=url,
        offset=offset,
        length=length,
        sub=np.zeros(len(rows), np.int16),
    )


def _decode(index: bytes, where: str) -> list[_Line]:
    try:
        rows = _decoder.decode_lines(index)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _first_error(index, where) from None
    if not rows:
        raise CorruptInput(f"{where} has no lines", expected="an index", found=f"{len(index)} bytes")
    return rows


def _first_error(index: bytes, where: str) -> CorruptInput:
    """Which line cannot be read, and why: found again one by one, as the fast way does not tell."""
    lines = index.splitlines()
    last = max(n for n, line in enumerate(lines, 1) if line.strip())
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            truncated = number == last and line.startswith(b"{") and not line.rstrip().endswith(b"}")
            found = line[:80].decode("utf-8", "replace")
            what = "is truncated" if truncated else f"is no index entry ({error})"
            return line_error(where, number, what, expected="a whole JSON object", found=repr(found))
    return CorruptInput(f"{where} is no index", expected="a JSON object per line", found="JSON across lines")


def _line_of(index: bytes, row: int) -> int:
    """Line number of a row: blank lines are none."""
    return [n for n, line in enumerate(index.split(b"\n"), 1) if line.strip()][row]


def _check_run(rows: list[_Line], index: bytes, where: str, run: datetime, step: int) -> None:
    asked = (f"{run:%Y%m%d}", f"{run:%H%M}", step)
    if {(r.date, r.time, r.step) for r in rows} == {asked}:
        return
    row, found = next((n, f) for n, r in enumerate(rows) if (f := (r.date, r.time, r.step)) != asked)
    raise line_error(
        where, _line_of(index, row), "belongs to another run or step",
        expected="{} {} step {}".format(*asked), found="{} {} step {}".format(*found),
    )  # fmt: skip


def _members(rows: list[_Line], index: bytes, where: str, member: int | None) -> list[int | None]:
    members: list[int | None] = []
    for row, r in enumerate(rows):
        if r.number is not None:
            members.append(r.number)
        elif r.type == _CONTROL:
            members.append(0)
        elif r.type == _PERTURBED:
            raise line_error(where, _line_of(index, row), "is a perturbed member without a number")
        else:
            members.append(member)
    return members


def _windows(params: list[str], step: int) -> tuple[list[str], np.ndarray]:
    """Window and start (s, -1 for none) of each row, from tables: the index does not tell."""
    kinds = {p: _window(p, step) for p in set(params)}
    starts = {p: -1 if start is None else start * 3600 for p, (_, start) in kinds.items()}
    return [kinds[p][0] for p in params], np.array([starts[p] for p in params], np.int64)


def _window(param: str, step: int) -> tuple[str, int | None]:
    if param in ACCUMULATED:
        return "accum", 0
    if param in EXTREMES:
        kind, hours = EXTREMES[param]
        if hours is None:
            hours = next((h for last, h in POST_PROCESSING if step <= last), 6)
        return kind, max(0, step - hours)
    return "instant", None
