"""Overviews: blocks of pixels to one, by what the pixels mean. Pure functions of arrays; the dtype is kept.

A cell at the lower or right edge has fewer pixels under it when the size is no multiple of the factor, and is made
from those there are. Pixels without data count for nothing; a cell has none only where all its pixels have none.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .recipe import Method


def reduced(values: np.ndarray, factor: int, method: Method, nodata: float | None) -> np.ndarray:
    """``values`` (..., y, x) in cells of ``factor`` x ``factor``: (..., ceil(y / factor), ceil(x / factor)).

    ``nodata`` is the stored value that means no data; NaN always does. Integer means are rounded half to even.
    Of classes that are equally frequent in a cell, the one that comes first in reading order is taken.
    """
    if method == "first":
        return np.ascontiguousarray(values[..., ::factor, ::factor])
    if method == "mean":
        return _mean(values, factor, nodata)
    if method == "max":
        return _largest(values, factor, nodata)
    if method == "flags":
        return _flags(values, factor, nodata)
    return _mode(values, factor, nodata)


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


def _mean(values: np.ndarray, factor: int, nodata: float | None) -> np.ndarray:
    small = values.dtype.kind in "iub" and values.dtype.itemsize <= 2
    total = np.zeros(_shape(values, factor), "int32" if small else "float64")
    count = np.zeros(total.shape, "uint16")
    for where, part in _parts(values, factor):
        good = valid(part, nodata)
        if good is None:
            total[where] += part
            count[where] += 1
        else:
            # Where nodata is 0, as in Sentinel-2, it adds nothing anyway.
            total[where] += part if nodata == 0 and part.dtype.kind != "f" else np.where(good, part, 0)
            count[where] += good
    # float32 will do: sums of 16-bit numbers are below 2**24, and no quotient but a true half comes near one.
    mean = np.divide(total, np.maximum(count, 1), dtype="float32" if small and factor <= 4 else "float64")
    if values.dtype.kind != "f":
        np.rint(mean, out=mean)
    out = mean.astype(values.dtype)
    empty = count == 0
    if empty.any():
        out[empty] = _empty(values, nodata)
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
