"""Apply weights to fields: one sparse product per field, and gaps as xESMF has them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..lake.errors import UsageError
from .weights import Weights

if TYPE_CHECKING:
    from dask.array import Array

_TOLERANCE = 1e-6


def apply(
    weights: Weights,
    fields: np.ndarray,
    *,
    skipna: bool = False,
    na_thres: float = 1.0,
    out: np.ndarray | None = None,
    precision: Literal["double", "single"] = "double",
    threads: int = 1,
) -> np.ndarray:
    """Fields ``(..., *source_shape)`` of any float type on the target grid, float32 ``(..., *target_shape)``.

    Without ``skipna`` a target cell is NaN where any of its sources is. With it, missing sources are left out and the
    rest is scaled up, unless less than ``1 - na_thres`` of a cell's weight is there (``na_thres`` 0: any gap makes a
    NaN, 1: only a cell with nothing is NaN); that is xESMF's meaning. Target cells that see no source are NaN.

    ``out`` is filled and returned when given: C-contiguous, float32 or float64, of the result's shape. Sums are taken
    in float64; ``precision`` ``single`` takes weights and sums in float32, which is a third faster and off by some
    1e-7 of the largest value around. ``threads`` share the fields among them.

    May be called from many threads: the product runs outside the GIL. Raises `UsageError` for shapes that do not fit.
    """
    nd = len(weights.source_shape)
    if fields.ndim < nd or fields.shape[fields.ndim - nd :] != weights.source_shape:
        raise UsageError(
            "the field is not on the weights' source grid", expected=("...", *weights.source_shape), found=fields.shape
        )
    if not 0 <= na_thres <= 1:
        raise UsageError("na_thres is a share", expected="0 to 1", found=na_thres)
    outer = fields.shape[: fields.ndim - nd]
    shape = (*outer, *weights.target_shape)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype not in (np.float32, np.float64) or not out.flags.c_contiguous:
        raise UsageError(
            "out does not fit", expected=f"C-contiguous float32 or float64 {shape}", found=f"{out.dtype} {out.shape}"
        )
    results = out.reshape(-1, weights.empty.size)
    kind = np.dtype(np.float32 if precision == "single" else np.float64)
    numbered = list(enumerate(np.ndindex(outer)))

    def work(part: list[tuple[int, tuple[int, ...]]]) -> None:
        kernel = _Kernel(weights, kind, na_thres if skipna else None)
        for number, index in part:
            results[number] = kernel(fields[index])

    if threads <= 1 or len(numbered) <= 1:
        work(numbered)
    else:
        with ThreadPoolExecutor(min(threads, len(numbered))) as pool:
            list(pool.map(work, _dealt(numbered, threads)))
    return out


def lazily(
    fields: "Array", lake: str, key: str, *, skipna: bool = False, na_thres: float = 1.0, threads: int = 1
) -> "Array":
    """`apply` to a Dask array ``(..., *source_shape)``, chunk by chunk, with weights by the lake's URL and their key.

    The graph carries the two texts; a worker reads the weights once. Chunks must hold whole fields. Raises `UsageError`
    for other chunks and shapes that do not fit, `NotFound` for weights that are not there.
    """
    from .store import read

    weights = read(lake, key)
    nd = len(weights.source_shape)
    if fields.ndim < nd or fields.shape[fields.ndim - nd :] != weights.source_shape:
        raise UsageError(
            "the field is not on the weights' source grid", expected=("...", *weights.source_shape), found=fields.shape
        )
    if any(len(c) > 1 for c in fields.chunks[fields.ndim - nd :]):
        raise UsageError(
            "a chunk must hold whole fields", expected=weights.source_shape, found=tuple(map(max, fields.chunks))
        )
    outer, kept = fields.ndim - nd, len(weights.target_shape)
    return fields.map_blocks(
        _chunk,
        lake=lake,
        key=key,
        options={"skipna": skipna, "na_thres": na_thres, "threads": threads},
        dtype=np.float32,
        chunks=(*fields.chunks[:outer], *((n,) for n in weights.target_shape)),
        drop_axis=list(range(outer + kept, fields.ndim)) or None,
        new_axis=list(range(fields.ndim, outer + kept)) or None,
        meta=np.empty((0,) * (outer + kept), np.float32),
    )


def _chunk(fields: np.ndarray, lake: str, key: str, options: dict[str, Any]) -> np.ndarray:
    from .store import read

    return apply(read(lake, key), fields, **options)


def _dealt[T](items: list[T], hands: int) -> Iterator[list[T]]:
    yield from (items[start::hands] for start in range(min(hands, len(items))))


class _Kernel:
    """The product of one thread, with buffers that are used again: fresh memory costs more than the product."""

    def __init__(self, weights: Weights, kind: np.dtype, na_thres: float | None) -> None:
        self._weights, self._na_thres = weights, na_thres
        self._matrix: Any = weights.single if kind == np.float32 else weights.matrix
        self._wide = np.empty(int(np.prod(weights.source_shape)), kind)
        self._missing: np.ndarray | None = None
        self._valid_share = weights.row_sums

    def __call__(self, field: np.ndarray) -> np.ndarray:
        """One field ``source_shape`` as ``(n_b,)``."""
        values = self._wide
        if field.dtype == values.dtype and field.flags.c_contiguous:
            values = field.reshape(-1)
        else:
            values.reshape(field.shape)[...] = field
        result = self._matrix @ values
        if self._na_thres is not None:
            return self._filled(values, result, self._na_thres)
        return self._emptied(result)

    def _emptied(self, result: np.ndarray) -> np.ndarray:
        if self._weights.any_empty:
            result[self._weights.empty] = np.nan
        return result

    def _filled(self, values: np.ndarray, result: np.ndarray, na_thres: float) -> np.ndarray:
        valid_share = self._weights.row_sums
        if np.isnan(result).any():
            # Only now is another product worth its time: most fields have no gaps, or none this grid sees.
            valid_share = self._share_of_valid(np.isnan(values))
            if values is not self._wide:
                self._wide[...] = values
            np.copyto(self._wide, 0, where=self._missing)
            result = self._matrix @ self._wide
        elif self._weights.is_normal:
            return self._emptied(result)
        bad = valid_share < np.clip(1 - na_thres, _TOLERANCE, 1 - _TOLERANCE)
        result /= np.where(bad, 1.0, valid_share)
        result[bad | self._weights.empty] = np.nan
        return result

    def _share_of_valid(self, missing: np.ndarray) -> np.ndarray:
        """Weight of each row on sources that are there. Fields in a row often lack the same cells (land, sea)."""
        if self._missing is None or not np.array_equal(missing, self._missing):
            self._missing = missing
            valid = np.logical_not(missing, out=np.empty(missing.size, np.float64), casting="unsafe")
            self._valid_share = self._weights.matrix @ valid
        return self._valid_share
