"""Conservative weights between any grids of cells, with great-circle edges as ESMF has them.

Cells are spherical polygons, clipped against each other, tile by tile on threads or on an executor.
"""

from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
from scipy.sparse import coo_array, csr_array

from . import cells, clip, parallel
from .cells import Boxes, Cells
from .grid import Grid
from .overlap import Overlap

_PAIRS = 1 << 15
"""Pairs of cells clipped at once: what stays in the cache."""


def overlap(source: Grid, target: Grid, pool: Executor | None = None) -> Overlap:
    """Areas in steradians that the cells of two grids have in common. Raises `UsageError` for grids of points."""
    ours, theirs = cells.of(source), cells.of(target)
    # The tiles are of the grid that is harder to search; a latitude-longitude grid needs no search.
    turned = isinstance(ours, Boxes) and not isinstance(theirs, Boxes)
    cut, searched, shape = (theirs, ours, target.shape) if turned else (ours, theirs, source.shape)
    numbers = cells.tiles(shape)
    found = [
        (number[which], cell, common, area)
        for number, (which, cell, common, area) in zip(
            numbers, parallel.each(_tile, _pieces(cut, searched, numbers, pool), pool), strict=True
        )
    ]
    which, cell, common = (np.concatenate([f[i] for f in found]) for i in range(3))
    area = np.empty(int(np.prod(shape)))
    for number, (_, _, _, part) in zip(numbers, found, strict=True):
        area[number] = part
    del found
    row, column = (which, cell) if turned else (cell, which)
    matrix = csr_array(coo_array((common, (row, column)), shape=(target.size, source.size)))
    other = _areas(searched, source.size if turned else target.size)
    area_a, area_b = (other, area) if turned else (area, other)
    return Overlap(matrix, area_a, area_b, "great-circles")


def _pieces(
    cut: Cells, searched: Cells, numbers: list[np.ndarray], pool: Executor | None
) -> Iterator[tuple[Cells | np.ndarray, np.ndarray | None, Cells]]:
    for number in numbers:
        if pool is None:
            yield cut, number, searched
        else:
            corners = cut.corners(number)
            yield corners, None, searched.around(corners)


def _tile(
    cut: Cells | np.ndarray, number: np.ndarray | None, searched: Cells
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of polygons of the tile and cells of the other grid that overlap, by how much, and the polygons' areas."""
    if number is not None:
        assert isinstance(cut, Cells)
        polygons = cut.corners(number)
        searched = searched.around(polygons)
    else:
        assert isinstance(cut, np.ndarray)
        polygons = cut
    which, cell = searched.near(polygons)
    common = np.empty(which.size)
    for start in range(0, which.size, _PAIRS):
        block = slice(start, start + _PAIRS)
        planes = clip.edge_planes(searched.corners(cell[block]))
        common[block] = clip.overlaps(polygons[:, :, which[block]], planes)
    there = common > 0
    return which[there], cell[there], common[there], clip.areas(polygons)


def _areas(of: Cells, size: int) -> np.ndarray:
    step = 1 << 16
    numbers = (np.arange(start, min(start + step, size)) for start in range(0, size, step))
    return np.concatenate([clip.areas(of.corners(number)) for number in numbers])
