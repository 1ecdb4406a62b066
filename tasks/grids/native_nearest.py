"""Nearest-neighbour weights between any two grids, by great-circle distance."""

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from . import parallel
from .grid import Grid
from .weights import Weights

_MARGIN = 1.02
"""A cell's half diagonal is taken this much longer: cells are not quite parallelograms."""


def nearest(source: Grid, target: Grid, everywhere: bool, valid: np.ndarray | None = None) -> Weights:
    """Weight 1 of the nearest source centre; ``valid`` bool ``(n_a,)`` are the source cells that count.

    Unless ``everywhere``, a target further from its source than half the diagonal of that source's cell gets nothing.
    """
    known = np.flatnonzero(np.isfinite(source.vectors).all(axis=1) & (True if valid is None else valid))
    tree = KDTree(source.vectors[known], balanced_tree=False, compact_nodes=False)
    distance, place = tree.query(target.vectors, workers=parallel.cores())
    inside = np.isfinite(distance)
    if not everywhere and not (source.is_global and valid is None):
        inside &= distance <= _reach(source)[known][place]
    row, column = np.flatnonzero(inside), known[place[inside]]
    matrix = csr_array((np.ones(row.size), (row, column)), shape=(target.size, source.size))
    return Weights(matrix, source.shape, target.shape, "nearest", "centres")


def _reach(source: Grid) -> np.ndarray:
    """Half the diagonal of each source cell as a chord of the unit sphere."""
    if source.kind == "unstructured" or min(source.shape) < 2:
        # The diagonal of a square cell, from the spacing to the neighbours on its four sides.
        found = np.zeros(source.size)
        there = np.flatnonzero(np.isfinite(source.vectors).all(axis=1))
        points = source.vectors[there]
        spacing = KDTree(points).query(points, k=min(5, there.size))[0]
        found[there] = _MARGIN * np.sqrt(0.5) * spacing.reshape(there.size, -1).max(axis=1)
        return found
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
    return _MARGIN / 2 * np.sqrt(square).ravel()
