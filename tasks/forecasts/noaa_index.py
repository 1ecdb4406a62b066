"""NOAA's index (``.idx``), an inventory by wgrib2: ``n[.sub]:offset:d=YYYYMMDDHH:ELEMENT:level:window:[ensemble]``.

It names where a message begins and not how long it is, so the length is the distance to the next one.
Format: https://www.cpc.ncep.noaa.gov/products/wesley/wgrib2/short_inventory.html
"""

import re
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pyarrow as pa

from ..lake.errors import CorruptInput, UsageError
from .index import line_error, refuse_no_index, table
from .noaa_levels import level_of

STATISTICS = {"acc": "accum", "ave": "avg", "max": "max", "min": "min", "RMS": "rms", "StdDev": "sd", "covar": "cov"}
"""wgrib2's word for the statistic over a window -> ecCodes' stepType; any other word stays as it is."""

SECONDS = {"sec": 1, "min": 60, "hour": 3600, "day": 86400}

_WINDOW = re.compile(r"(?:(\d+)-)?(\d+) (sec|min|hour|day)(?: (.+))? (?:fcst|anl)")
_MEMBER = re.compile(r"ENS=([+-]\d+)")
_CONTROLS = ("ENS=low-res ctl", "ENS=hi-res ctl")
_SUBS = re.compile(r"\d+(?:\.(\d+))?")


def read_noaa(
    index: bytes, *, url: str, where: str, run: datetime, step: int, size: int | None, member: int | None = None
) -> pa.Table:
    """A NOAA index as a table in `manifest.SCHEMA`, a row per field, in the order of the file.

    ``run`` is UTC, ``step`` in hours, ``size`` the length of the GRIB file in bytes; ``url`` goes into the
    table and ``where`` into errors. Fields of one message share its byte range and count up in ``sub``.
    ``member`` is the member of the whole file (GEFS); what the lines say must agree.
    Two lines that read the same are two rows: GFS writes some fields as a bucket and as a run total.

    Raises ``CorruptInput``, which names the line, for anything that is no such index: a web page, an empty
    or truncated file, offsets that go backwards or reach beyond ``size``, a line of another run, step or
    member, a time window of unknown form; ``UsageError`` without ``size``.
    """
    refuse_no_index(index, where)
    if size is None:
        raise UsageError(f"{where} does not tell where its last message ends", expected="the size of its GRIB file")
    rows, lines = _split(index, where)
    numbers, offsets, dates, elements, levels, windows, endings = zip(*rows, strict=True)
    _each(dates, lines, where, lambda text: _check_date(text, run))
    when = _each(windows, lines, where, _window)
    members = _each(endings, lines, where, lambda text: _member(text, member))
    end = np.array([w[2] for w in when], np.int64)
    stray = np.flatnonzero(-(-end // 3600) != step)
    if len(stray):
        row = int(stray[0])
        found = repr(windows[row])
        raise line_error(where, lines[row], "belongs to another step", expected=f"step {step}", found=found)
    offset = _offsets(offsets, lines, where)
    length = _lengths(offset, lines, where, size)
    places = [level_of(text) for text in levels]
    return table(
        param=elements,
        level_type=[p[0] for p in places],
        level=[p[1] for p in places],
        member=members,
        lead_time=end,
        window=[w[0] for w in when],
        window_start=np.array([w[1] for w in when], np.int64),
        url=url,
        offset=offset,
        length=length,
        sub=_subs(numbers, offset, lines, where),
    )


def _split(index: bytes, where: str) -> tuple[list[list[str]], list[int]]:
    """The seven parts of every line that is not blank, and its number."""
    try:
        text = index.decode("ascii")
    except UnicodeDecodeError as error:
        line = index.count(b"\n", 0, error.start) + 1
        found = f"byte {index[error.start]:#04x}"
        raise line_error(where, line, "is not text", expected="ASCII", found=found) from None
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line:
            continue
        parts = line.split(":", 6)
        if len(parts) != 7:
            what = "is truncated or no index entry"
            raise line_error(where, number, what, expected="7 parts between colons", found=repr(line[:80]))
        rows.append(parts)
        lines.append(number)
    if not rows:
        raise CorruptInput(f"{where} has no lines", expected="an index", found=f"{len(index)} bytes")
    # An ensemble's last part may be cut and still read well (ENS=+1 of ENS=+12): only the line end is proof.
    if not text.endswith("\n"):
        raise line_error(where, lines[-1], "is truncated", expected="a line end", found=repr(rows[-1][-1][-20:]))
    return rows, lines


def _each[T](texts: tuple[str, ...], lines: list[int], where: str, meaning: Callable[[str], T]) -> list[T]:
    """What each text means; every distinct text is looked at once."""
    known: dict[str, T] = {}
    for text in dict.fromkeys(texts):
        try:
            known[text] = meaning(text)
        except CorruptInput as error:
            line = lines[texts.index(text)]
            raise line_error(where, line, error.message, expected=error.expected, found=error.found) from None
    return [known[text] for text in texts]


def _check_date(text: str, run: datetime) -> None:
    if text != f"d={run:%Y%m%d%H}":
        raise CorruptInput("belongs to another run", expected=f"d={run:%Y%m%d%H}", found=text)


def _window(text: str) -> tuple[str, int, int]:
    """Kind of window, its start (s, -1 for none) and its end (s) after the initialisation time."""
    if text == "anl":
        return "instant", -1, 0
    match = _WINDOW.fullmatch(text)
    if match is None or (match[1] is None) != (match[4] is None):
        forms = "such as '6 hour fcst' or '0-6 hour acc fcst'"
        raise CorruptInput("has an unknown time window", expected=forms, found=repr(text))
    start, end, unit, statistic = match.groups()
    seconds = SECONDS[unit]
    if statistic is None:
        return "instant", -1, int(end) * seconds
    return STATISTICS.get(statistic, statistic), int(start) * seconds, int(end) * seconds


def _member(text: str, member: int | None) -> int | None:
    """The member a line belongs to; null for ensemble means and other statistics."""
    if not text:
        return member
    match = _MEMBER.match(text)
    if text.startswith(_CONTROLS):
        found = 0
    elif match:
        found = int(match[1])
    else:
        return None
    if member is not None and found != member:
        raise CorruptInput("belongs to another member", expected=f"member {member}", found=repr(text))
    return found


def _offsets(texts: tuple[str, ...], lines: list[int], where: str) -> np.ndarray:
    for row, text in enumerate(texts):
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise line_error(where, lines[row], "has no byte offset", expected="a number", found=repr(text[:40]))
    offset = np.array([int(t) for t in texts], np.int64)
    back = np.flatnonzero(np.diff(offset) < 0)
    if len(back):
        row = int(back[0]) + 1
        least = f"an offset of at least {offset[row - 1]}"
        raise line_error(where, lines[row], "goes backwards", expected=least, found=f"{offset[row]}")
    return offset


def _lengths(offset: np.ndarray, lines: list[int], where: str, size: int) -> np.ndarray:
    """Distance to the next distinct offset, which for the last message is the end of the file."""
    distinct, place = np.unique(offset, return_inverse=True)
    if size <= distinct[-1]:
        row = int(np.flatnonzero(offset >= size)[0])
        what = "lies beyond the end of the GRIB file"
        raise line_error(where, lines[row], what, expected=f"an offset below {size}", found=f"{offset[row]}")
    return np.diff(distinct, append=size)[place]


def _subs(numbers: tuple[str, ...], offset: np.ndarray, lines: list[int], where: str) -> np.ndarray:
    """0-based number of each field inside its message."""
    rows = np.arange(len(offset))
    first = np.maximum.accumulate(np.where(np.diff(offset, prepend=-1) > 0, rows, 0))
    sub = rows - first
    for row, text in enumerate(numbers):
        match = _SUBS.fullmatch(text)
        if match is None:
            what = "has no message number"
            raise line_error(where, lines[row], what, expected="such as 12 or 12.1", found=repr(text[:40]))
        if match[1] is not None and int(match[1]) != sub[row] + 1:
            what = "is out of place in its message"
            raise line_error(where, lines[row], what, expected=f"field {sub[row] + 1}", found=f"field {match[1]}")
    return sub
