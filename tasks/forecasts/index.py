"""What index readers have in common: text that is no index, and the table they all make."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from ..lake.errors import CorruptInput
from .manifest import SCHEMA


def refuse_no_index(index: bytes, where: str) -> None:
    """Raise ``CorruptInput`` for what servers give instead of an index: nothing, or a web page."""
    start = index[:200].lstrip()
    if not start:
        raise CorruptInput(f"{where} is empty", expected="an index", found=f"{len(index)} bytes")
    if start.startswith(b"<"):
        first = start.splitlines()[0].decode("utf-8", "replace")[:60]
        raise CorruptInput(f"{where} is a web page", expected="an index", found=f"{first!r} in line 1")


def line_error(where: str, line: int, what: str, *, expected: object = None, found: object = None) -> CorruptInput:
    """The error for one line (counted from 1) of an index."""
    return CorruptInput(f"{where}: line {line} {what}", expected=expected, found=found)


def refuse_ranges(
    where: str, line_of: Callable[[int], int], offset: np.ndarray, length: np.ndarray, size: int | None
) -> None:
    """Raise ``CorruptInput``, which names the line, when a byte range is empty or ends beyond ``size`` bytes.

    ``offset`` and ``length`` are int64 (row,); ``line_of`` gives the line number of a row.
    """
    for row in np.flatnonzero(length <= 0)[:1]:
        raise line_error(
            where, line_of(int(row)), "names an empty byte range", expected="some bytes", found=f"{length[row]} bytes"
        )
    for row in np.flatnonzero(offset + length > size)[:1] if size is not None else ():
        raise line_error(
            where, line_of(int(row)), "reaches beyond the end of the GRIB file",
            expected=f"at most {size} bytes", found=f"byte {offset[row] + length[row]}",
        )  # fmt: skip


def table(
    *,
    param: Sequence[str],
    level_type: Sequence[str],
    level: Sequence[float | None],
    member: Sequence[int | None],
    lead_time: np.ndarray,
    window: Sequence[str],
    window_start: np.ndarray,
    url: str,
    offset: np.ndarray,
    length: np.ndarray,
    sub: np.ndarray,
) -> pa.Table:
    """Columns of an index as a table in `manifest.SCHEMA`; ``etag`` and ``last_modified`` are null.

    ``lead_time`` and ``window_start`` are in seconds, int64; -1 stands for no start. Every field lies in ``url``.
    """
    count = len(param)
    start = pa.array(window_start, pa.int64(), mask=window_start < 0)
    columns = {
        "param": _names(param),
        "level_type": _names(level_type),
        "level": pa.array(level, pa.float64()),
        "member": pa.array(member, pa.int16()),
        "lead_time": pa.array(lead_time, pa.int64()).cast(pa.duration("s")),
        "window": _names(window),
        "window_start": start.cast(pa.duration("s")),
        "url": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([url])),
        "offset": pa.array(offset, pa.int64()),
        "length": pa.array(length, pa.int64()),
        "sub": pa.array(sub, pa.int16()),
        "etag": pa.nulls(count, pa.string()),
        "last_modified": pa.nulls(count, pa.timestamp("s", tz="UTC")),
    }
    return pa.Table.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _names(values: Sequence[str]) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode()
