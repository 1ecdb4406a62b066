"""Overviews: blocks of pixels to one, by what the pixels mean. Pure functions of arrays; the dtype is kept.

A cell at the lower or right edge has fewer pixels under it when the size is no multiple of the factor, and is made
from those there are. Pixels without data count for nothing; a cell has none only where all its pixels have none.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

Method = Literal["mean", "max", "flags", "mode", "first"]
"""How a cell of an overview comes from the cells under it: mean of what is valid; maximum (masks); bitwise or (bit
flags); most frequent class; the one in the upper left (subsampling)."""

_TILE = 256
"""Rows and columns of cells that are made at once."""


def reduced(values: np.ndarray, factor: int, method: Method, nodata: float | None) -> np.ndarray:
    """``values`` (..., y, x) in cells of ``factor`` x ``factor``: (..., ceil(y / factor), ceil(x / factor)).

    ``nodata`` is the stored value that means no data; NaN always does. Integer means are rounded half to even.
    Of classes that are equally frequent in a cell, the one that comes first in reading order is taken.
    """
    if method == "first":
        return values[..., ::factor, ::factor].copy()
    make = {"mean": _mean, "max": _largest, "flags": _flags, "mode": _mode}[method]
    out = np.empty(_shape(values, factor), values.dtype)
    # A tile of cells at a time: what is in between stays in the processor's cache, which is twice as quick; and tiles
    # that are without gaps need no counting.
    rows, columns = out.shape[-2:]
    for top in range(0, rows, _TILE):
        bottom = min(top + _TILE, rows)
        for left in range(0, columns, _TILE):
            right = min(left + _TILE, columns)
            tile = values[..., top * factor : bottom * factor, left * factor : right * factor]
            out[..., top:bottom, left:right] = make(tile, factor, nodata)
    return out


def _shape(values: np.ndarray, factor: int) -> tuple[int, ...]:
    *leading, rows, columns = values.shape
    return (*leading, -(-rows // factor), -(-columns // factor))


def _parts(values: np.ndarray, factor: int) -> Iterator[tuple[Any, np.ndarray]]:
    """The pixels at each place of a cell, in reading order, and where in the result their cells are."""
    for row in range(factor):
        for column in range(factor):
            part = values[..., row::factor, column::factor]
            yield (..., slice(part.shape[-2]), slice(part.shape[-1])), part


def valid(part: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Where there are data; None when that is everywhere."""
    if part.dtype.kind == "f":
        good = ~np.isnan(part)
        return good & (part != nodata) if nodata is not None and not np.isnan(nodata) else good
    return None if nodata is None or np.isnan(nodata) else part != nodata


def _empty(values: np.ndarray, nodata: float | None) -> Any:
    """What stands for no data in the result."""
    if values.dtype.kind == "f" and nodata is None:
        return np.nan
    return 0 if nodata is None else nodata


def _sums(values: np.ndarray, factor: int, kind: str) -> np.ndarray:
    """Sums of cells: rows first, since those lie together in memory, then columns.

    Always in this order, so that a cell comes out the same beside whichever others it is made.
    """
    for axis in (-2, -1):
        parts = [np.moveaxis(values, axis, 0)[i::factor] for i in range(min(factor, values.shape[axis]))]
        total = parts[0].astype(kind)
        for part in parts[1:]:
            total[: len(part)] += part
        values = np.moveaxis(total, 0, axis)
    return values


def _sizes(values: np.ndarray, factor: int) -> np.ndarray:
    """How many pixels each cell has: (rows, columns)."""
    rows, columns = (np.minimum(factor, n - np.arange(0, n, factor)) for n in values.shape[-2:])
    return rows[:, None] * columns


def _mean(values: np.ndarray, factor: int, nodata: float | None) -> np.ndarray:
    integers = values.dtype.kind in "iub"
    small = integers and values.dtype.itemsize <= 2
    kind = "int32" if small else "float64"
    if not integers and (nodata is None or np.isnan(nodata)):
        total = _sums(values, factor, kind)
        if not np.isnan(total).any():
            return (total / _sizes(values, factor)).astype(values.dtype)
    good = valid(values, nodata)
    count = _sizes(values, factor) if good is None else _sums(good.view("uint8"), factor, "uint16")
    # Where nodata is 0, as in Sentinel-2, it adds nothing anyway.
    plain = good is None or (integers and nodata == 0)
    total = _sums(values if plain else np.where(good, values, 0), factor, kind)
    # float32 will do: sums of 16-bit numbers are below 2**24, and no quotient but a true half comes near one.
    mean = np.divide(total, np.maximum(count, 1), dtype="float32" if small and factor <= 4 else "float64")
    if integers:
        np.rint(mean, out=mean)
    out = mean.astype(values.dtype)
    if good is not None and not count.all():
        out[count == 0] = _empty(values, nodata)
    return out


def _largest(values: np.ndarray, factor: int, nodata: float | None) -> np.ndarray:
    out = np.zeros(_shape(values, factor), values.dtype)
    seen = np.zeros(out.shape, bool)
    for where, part in _parts(values, factor):
        good = valid(part, nodata)
        better = ~seen[where] | (part > out[where])
        if good is not None:
            better &= good
        np.copyto(out[where], part, where=better)
        seen[where] |= better
    out[~seen] = _empty(values, nodata)
    return out


def _flags(values: np.ndarray, factor: int, nodata: float | None) -> np.ndarray:
    out = np.zeros(_shape(values, factor), values.dtype)
    seen = np.zeros(out.shape, bool)
    for where, part in _parts(values, factor):
        good = valid(part, nodata)
        out[where] |= part if good is None else np.where(good, part, 0).astype(part.dtype)
        seen[where] |= True if good is None else good
    out[~seen] = _empty(values, nodata)
    return out


def _mode(values: np.ndarray, factor: int, nodata: float | None) -> np.ndarray:
    shape = _shape(values, factor)
    parts: list[np.ndarray] = []
    goods: list[np.ndarray] = []
    for where, part in _parts(values, factor):
        whole, there = np.zeros(shape, values.dtype), np.zeros(shape, bool)
        good = valid(part, nodata)
        whole[where] = part
        there[where] = True if good is None else good
        parts.append(whole)
        goods.append(there)
    counts = [good.astype("uint8") for good in goods]
    for i in range(len(parts)):
        for j in range(i):
            same = (parts[i] == parts[j]) & goods[i] & goods[j]
            counts[i] += same
            counts[j] += same
    out = np.full(shape, _empty(values, nodata), values.dtype)
    best = np.zeros(shape, "uint8")
    for part, count in zip(parts, counts, strict=True):
        better = count > best
        np.copyto(out, part, where=better)
        np.maximum(best, count, out=best)
    return out
