"""Apply weights to fields: one sparse product per field, and gaps as xESMF has them."""

import numpy as np

from ..lake.errors import UsageError
from .weights import Weights

_TOLERANCE = 1e-6


def apply(
    weights: Weights, fields: np.ndarray, *, skipna: bool = False, na_thres: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """Fields ``(..., *source_shape)`` of any float type on the target grid, float32 ``(..., *target_shape)``.

    The sum is taken in float64. Without ``skipna`` a target cell is NaN where any of its sources is. With it, missing
    sources are left out and the rest is scaled up, unless less than ``1 - na_thres`` of a cell's weight is there
    (``na_thres`` 0: any gap makes a NaN, 1: only a cell with nothing is NaN); that is xESMF's meaning. Target cells
    that see no source are NaN. ``out`` is filled and returned when given: C-contiguous, float32, of the result's shape.

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
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise UsageError("out does not fit", expected=f"C-contiguous float32 {shape}", found=f"{out.dtype} {out.shape}")
    results = out.reshape(-1, weights.empty.size)
    wide = np.empty(int(np.prod(weights.source_shape)))
    for number, index in enumerate(np.ndindex(outer)):
        wide[:] = fields[index].reshape(wide.size)
        results[number] = _filled(weights, wide, na_thres) if skipna else _plain(weights, wide)
    return out


def _plain(weights: Weights, field: np.ndarray) -> np.ndarray:
    result = weights.matrix @ field
    result[weights.empty] = np.nan
    return result


def _filled(weights: Weights, field: np.ndarray, na_thres: float) -> np.ndarray:
    result = weights.matrix @ field
    valid_share = weights.row_sums
    if np.isnan(result).any():
        # Only now is the second product worth its time: most fields have no gaps, or none this grid sees.
        missing = np.isnan(field)
        result = weights.matrix @ np.where(missing, 0.0, field)
        valid_share = weights.matrix @ (~missing).astype("float64")
    elif weights.is_normal:
        result[weights.empty] = np.nan
        return result
    bad = valid_share < np.clip(1 - na_thres, _TOLERANCE, 1 - _TOLERANCE)
    result /= np.where(bad, 1.0, valid_share)
    result[bad | weights.empty] = np.nan
    return result
