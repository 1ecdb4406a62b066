"""Areas of overlap as conservative weights, whatever the cells look like."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from .weights import Weights

NEGLIGIBLE = 1e-12
"""Share of a target cell below which an overlap is rounding (ESMF drops them at about 4e-14)."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """Areas ``(n_b, n_a)`` that cells of two grids have in common and areas ``(n,)`` of the cells, in steradians.

    ``convention`` says which edges the cells have (see `Weights`).
    """

    matrix: csr_array
    area_a: np.ndarray
    area_b: np.ndarray
    convention: str


def weigh(
    overlap: Overlap, source_shape: tuple[int, ...], target_shape: tuple[int, ...], norm: str, valid: np.ndarray | None
) -> Weights:
    """Conservative weights; ``norm`` is ``fracarea`` or ``dstarea``, ``valid`` bool ``(n_a,)`` the source cells that
    count (all when None). Takes the overlap's matrix over."""
    matrix, area_a, area_b = overlap.matrix, overlap.area_a, overlap.area_b
    matrix.sum_duplicates()
    count = np.diff(matrix.indptr)
    dropped = matrix.data < NEGLIGIBLE * np.repeat(area_b, count)
    if valid is not None:
        dropped |= ~valid[matrix.indices]
    if dropped.any():
        matrix.data[dropped] = 0
        matrix.eliminate_zeros()
        count = np.diff(matrix.indptr)
    covered_a = np.bincount(matrix.indices, weights=matrix.data, minlength=area_a.size)
    covered_b = np.asarray(matrix.sum(axis=1)).ravel()
    matrix.data /= np.repeat(area_b if norm == "dstarea" else covered_b, count)
    return Weights(
        matrix=matrix,
        source_shape=source_shape,
        target_shape=target_shape,
        method="conservative",
        convention=overlap.convention,
        norm=norm,
        area_a=area_a,
        area_b=area_b,
        frac_a=covered_a / np.where(area_a > 0, area_a, 1),
        frac_b=covered_b / np.where(area_b > 0, area_b, 1),
    )
