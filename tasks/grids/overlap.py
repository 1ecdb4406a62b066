"""Areas of overlap as conservative weights, whatever the cells look like."""

import numpy as np
from scipy.sparse import csr_array

from .weights import Weights

NEGLIGIBLE = 1e-12
"""Share of a target cell below which an overlap is rounding (ESMF drops them at about 4e-14)."""


def weigh(
    overlap: csr_array,
    area_a: np.ndarray,
    area_b: np.ndarray,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    norm: str,
    convention: str,
) -> Weights:
    """Conservative weights from overlap areas ``(n_b, n_a)`` in steradians and the areas of the cells.

    ``shapes`` are those of source and target; ``norm`` is ``fracarea`` or ``dstarea``.
    """
    overlap.sum_duplicates()
    overlap.data[overlap.data < NEGLIGIBLE * np.repeat(area_b, np.diff(overlap.indptr))] = 0
    overlap.eliminate_zeros()
    covered_b = np.asarray(overlap.sum(axis=1)).ravel()
    covered_a = np.asarray(overlap.sum(axis=0)).ravel()
    divisor = area_b if norm == "dstarea" else covered_b
    overlap.data /= np.repeat(divisor, np.diff(overlap.indptr))
    return Weights(
        matrix=overlap,
        source_shape=shapes[0],
        target_shape=shapes[1],
        method="conservative",
        convention=convention,
        norm=norm,
        area_a=area_a,
        area_b=area_b,
        frac_a=covered_a / np.where(area_a > 0, area_a, 1),
        frac_b=covered_b / np.where(area_b > 0, area_b, 1),
    )
