"""Nearest-neighbour weights between any two grids, by great-circle distance."""

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from .grid import Grid
from .weights import Weights

_MARGIN = 1.02
"""A cell's half diagonal is taken this much longer: cells are not quite parallelograms."""


def make(source: Grid, target: Grid, method: str, *, norm: str, pole: str, extrapolate: bool) -> Weights:
    """See `weights.make`. ``norm`` and ``pole`` mean nothing here.

    Without ``extrapolate`` a target further from its source than half the diagonal of that source's cell gets nothing.
    """
    known = np.flatnonzero(np.isfinite(source.vectors).all(axis=1))
    tree = KDTree(source.vectors[known])
    distance, nearest = tree.query(target.vectors)
    inside = np.isfinite(distance)
    if not (extrapolate or source.is_global):
        inside &= distance <= _reach(source, tree, known)[nearest]
    column = known[nearest[inside]]
    row = np.flatnonzero(inside)
    matrix = csr_array((np.ones(row.size), (row, column)), shape=(target.size, source.size))
    return Weights(
        matrix, source.shape, target.shape, "nearest", "centres", options={"extrapolate": str(extrapolate).lower()}
    )


def _reach(source: Grid, tree: KDTree, known: np.ndarray) -> np.ndarray:
    """Half the diagonal of each known source cell as a chord of the unit sphere."""
    if source.kind == "unstructured" or min(source.shape) < 2:
        # The diagonal of a square cell, from the spacing to the neighbours on its four sides.
        spacing = tree.query(source.vectors[known], k=min(5, known.size))[0]
        return _MARGIN * np.sqrt(0.5) * np.max(np.atleast_2d(spacing), axis=-1)
    points = source.vectors.reshape(*source.shape, 3)
    square = np.zeros(source.shape)
    for dim in (0, 1):
        gap = np.linalg.norm(np.diff(points, axis=dim), axis=-1)
        # Never mind a wrap: the neighbour across the seam is as far as the one on the other side.
        pad = [(0, 0), (0, 0)]
        pad[dim] = (1, 1)
        gap = np.pad(gap, pad, mode="edge")
        both = np.maximum(*(np.take(gap, range(s, s + source.shape[dim]), axis=dim) for s in (0, 1)))
        square += both**2
    return _MARGIN / 2 * np.sqrt(square).ravel()[known]
