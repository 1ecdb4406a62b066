"""The cells of a grid as spherical polygons, made piece by piece: all corners of a large grid are hundreds of MB."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import KDTree

from ..lake.errors import UsageError
from . import clip, corners
from .grid import Grid

_TILE = 128
"""Side in cells of the pieces in which a grid is worked on."""


class Cells(ABC):
    """Quadrilateral cells with great-circle edges, counted in the order of the values."""

    @abstractmethod
    def corners(self, number: np.ndarray) -> np.ndarray:
        """Corners of the cells with these numbers, counter-clockwise: ``(3, 4, n)``."""

    @abstractmethod
    def near(self, polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs that may overlap: which of the polygons ``(3, k, n)``, and the number of the cell."""

    @abstractmethod
    def around(self, polygons: np.ndarray) -> "Cells":
        """What is needed to answer `near` for these polygons: small enough to be sent to another process."""


def of(grid: Grid) -> Cells:
    """The cells of a grid. Raises `UsageError` for a grid of points and for cells half a turn wide or more."""
    if grid.kind == "rectilinear":
        width = np.abs(np.diff(grid.longitude_bounds)).max()
        if width > 180 - 1e-6:
            raise UsageError("a cell with great-circle edges must be less than half a turn wide", found=f"{width:g}")
        return Boxes(np.sort(grid.latitude_bounds, axis=1), np.sort(grid.longitude_bounds, axis=1))
    return Polygons.of(grid)


def tiles(shape: tuple[int, ...]) -> list[np.ndarray]:
    """The numbers of the cells of a grid, tile by tile."""
    if len(shape) == 1:
        step = _TILE * _TILE
        return [np.arange(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
    found = []
    for top in range(0, shape[0], _TILE):
        rows = np.arange(top, min(top + _TILE, shape[0]))
        for left in range(0, shape[1], _TILE):
            columns = np.arange(left, min(left + _TILE, shape[1]))
            found.append((rows[:, None] * shape[1] + columns).ravel())
    return found


@dataclass(frozen=True, eq=False)
class Boxes(Cells):
    """Cells between the corners of a latitude-longitude grid; bounds ``(ny, 2)`` and ``(nx, 2)``, lower one first."""

    latitude: np.ndarray
    longitude: np.ndarray

    @cached_property
    def _nodes(self) -> tuple[np.ndarray, ...]:
        phi, lam = np.radians(self.latitude), np.radians(self.longitude)
        cos = np.where(np.abs(self.latitude) >= 90, 0.0, np.cos(phi))
        return cos, np.sin(phi), np.cos(lam), np.sin(lam)

    def corners(self, number: np.ndarray) -> np.ndarray:
        row, column = np.divmod(number, len(self.longitude))
        cos_phi, sin_phi, cos_lam, sin_lam = self._nodes
        found = np.empty((3, 4, number.size))
        for corner, (low, left) in enumerate(((0, 0), (0, 1), (1, 1), (1, 0))):
            cos = cos_phi[row, low]
            found[0, corner] = cos * cos_lam[column, left]
            found[1, corner] = cos * sin_lam[column, left]
            found[2, corner] = sin_phi[row, low]
        return found

    def near(self, polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high, west, width = _box(polygons)
        rows = np.argsort(self.latitude[:, 0], kind="stable")
        # Great-circle edges bend towards the poles.
        half = np.radians(np.diff(self.longitude).max() / 2)
        bottom, top = self.latitude[rows].T
        bottom, top = np.where(bottom < 0, _bent(bottom, half), bottom), np.where(top > 0, _bent(top, half), top)
        first_row = np.searchsorted(top, low, side="right")
        row_count = np.maximum(np.searchsorted(bottom, high, side="left") - first_row, 0)
        columns = np.argsort(self.longitude[:, 0], kind="stable")
        left, right = self.longitude[columns].T
        start = left[0]
        # Two turns of columns, as a polygon that begins within one turn may reach into the next.
        west = west - 360 * np.floor((west - start) / 360)
        left, right = np.concatenate([left, left + 360]), np.concatenate([right, right + 360])
        first_column = np.searchsorted(right, west, side="right")
        column_count = np.searchsorted(left, west + width, side="left") - first_column
        column_count = np.clip(column_count, 0, columns.size)
        return _products((first_row, row_count, rows), (first_column, column_count, np.tile(columns, 2)), columns.size)

    def around(self, polygons: np.ndarray) -> Cells:
        return self


@dataclass(frozen=True, eq=False)
class Polygons(Cells):
    """Any cells: either the nodes ``(3, ny + 1, nx + 1)`` of a grid, or the corners ``(3, 4, n)`` of each."""

    nodes: np.ndarray
    by_cell: bool
    number: np.ndarray | None = None
    """The numbers of the cells in their grid, where these are only some of them."""

    @staticmethod
    def of(grid: Grid) -> "Polygons":
        if grid.kind == "curvilinear" and grid.given_latitude_bounds is None:
            if grid.x is not None and grid.y is not None:
                nodes = corners.nodes_of_projection(grid.mapping, grid.x, grid.y)
            else:
                nodes = corners.nodes_between(grid.latitude, grid.longitude)
            return Polygons(np.ascontiguousarray(np.moveaxis(nodes, -1, 0)), by_cell=False)
        return Polygons(np.ascontiguousarray(grid.corners.transpose(2, 1, 0)), by_cell=True)

    def corners(self, number: np.ndarray) -> np.ndarray:
        if self.by_cell:
            return clip.oriented(self.nodes[:, :, number])
        wide = self.nodes.shape[2]
        row, column = np.divmod(number, wide - 1)
        flat, at = self.nodes.reshape(3, -1), row * wide + column
        return clip.oriented(np.stack([flat[:, at + step] for step in (0, 1, wide + 1, wide)], axis=1))

    @cached_property
    def _circles(self) -> tuple[np.ndarray, np.ndarray]:
        count = self.nodes.shape[2] if self.by_cell else (self.nodes.shape[1] - 1) * (self.nodes.shape[2] - 1)
        return circles(self.corners(np.arange(count)))

    def near(self, polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre, radius = circles(polygons)
        middle, reach = self._circles
        if not middle.shape[1]:
            return np.empty(0, int), np.empty(0, int)
        limit = radius.max() + reach.max()
        tree, other = (KDTree(c.T, balanced_tree=False, compact_nodes=False) for c in (centre, middle))
        found = tree.sparse_distance_matrix(other, limit, output_type="ndarray")
        touch = found["v"] <= radius[found["i"]] + reach[found["j"]]
        which, cell = found["i"][touch], found["j"][touch]
        return which, cell if self.number is None else self.number[cell]

    @cached_property
    def _tiles(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Numbers of the cells of each tile, and a circle around all of them."""
        middle, reach = self._circles
        shape = self.nodes.shape[2:] if self.by_cell else (self.nodes.shape[1] - 1, self.nodes.shape[2] - 1)
        numbers = tiles(shape)
        found = [_around_all(middle[:, n], reach[n]) for n in numbers]
        return numbers, np.stack([f[0] for f in found], axis=1), np.array([f[1] for f in found])

    def around(self, polygons: np.ndarray) -> Cells:
        middle, reach = _around_all(*circles(polygons))
        numbers, centres, radii = self._tiles
        off = centres - middle[:, None]
        touched = np.flatnonzero(np.sqrt(clip.dot(off, off)) <= radii + reach)
        chosen = np.sort(np.concatenate([numbers[t] for t in touched])) if touched.size else np.empty(0, int)
        return _Some(self.corners(chosen), True, chosen)


class _Some(Polygons):
    """Some cells of a grid, asked for by the numbers they have there."""

    def corners(self, number: np.ndarray) -> np.ndarray:
        assert self.number is not None
        return self.nodes[:, :, np.searchsorted(self.number, number)]

    @cached_property
    def _circles(self) -> tuple[np.ndarray, np.ndarray]:
        return circles(self.nodes)


def circles(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each polygon ``(3, k, n)`` and the chord to its furthest corner: all of the cell lies within."""
    middle = polygons.mean(axis=1)
    middle /= np.sqrt(clip.dot(middle, middle))
    off = polygons - middle[:, None]
    return middle, np.sqrt(clip.dot(off, off).max(axis=0)) * (1 + 1e-9)


def _around_all(middle: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, float]:
    """A circle around circles: its middle ``(3,)``, not always on the sphere, and its radius."""
    whole = middle.mean(axis=1)
    off = middle - whole[:, None]
    return whole, float((np.sqrt(clip.dot(off, off)) + reach).max())


def _bent(latitude: np.ndarray, half_width: np.ndarray | float) -> np.ndarray:
    """The latitude furthest from the equator that a great circle reaches between two points at ``latitude``
    (degrees), each ``half_width`` (radians, below a quarter turn) from the middle."""
    with np.errstate(divide="ignore"):
        return np.degrees(np.arctan(np.tan(np.radians(latitude)) / np.cos(half_width)))


def _box(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest latitude, western longitude and width of polygons ``(3, k, n)``, a hair too large, degrees."""
    latitude = np.degrees(np.arctan2(polygons[2], np.hypot(polygons[0], polygons[1])))
    longitude = np.degrees(np.arctan2(polygons[1], polygons[0]))
    middle = polygons.mean(axis=1)
    centre = np.degrees(np.arctan2(middle[1], middle[0]))
    # A corner at a pole has no longitude.
    off = np.where(np.abs(latitude) > 90 - 1e-9, 0.0, (longitude - centre + 180) % 360 - 180)
    west, east = off.min(axis=0), off.max(axis=0)
    low, high = latitude.min(axis=0), latitude.max(axis=0)
    half = np.radians(np.clip((east - west) / 2, 0, 89.9))
    low, high = np.where(low < 0, _bent(low, half), low), np.where(high > 0, _bent(high, half), high)
    polar = np.flatnonzero((east - west > 179) | (np.maximum(np.abs(latitude).max(axis=0), 0) > 60))
    if polar.size:
        third = clip.edge_planes(polygons[:, :, polar])[2]
        corner = (np.abs(latitude[:, polar]) > 90 - 1e-9).any(axis=0)
        for sign in (1, -1):
            # The side of each edge on which the pole lies is the third component of its plane.
            holds = (sign * third >= -1e-9).all(axis=0) & ~corner & (sign * middle[2, polar] > 0)
            held = polar[holds]
            west[held], east[held] = -180.0, 180.0
            (high if sign > 0 else low)[held] = sign * 90.0
    hair = 1e-9
    return low - hair, high + hair, centre + west - hair, np.minimum(east - west + 2 * hair, 360)


def _products(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray], columns: tuple[np.ndarray, np.ndarray, np.ndarray], width: int
) -> tuple[np.ndarray, np.ndarray]:
    """All cells in ranges of rows and columns, given as first place, count, and the number at each place."""
    (first_row, row_count, row_at), (first_column, column_count, column_at) = rows, columns
    count = row_count * column_count
    which = np.repeat(np.arange(count.size), count)
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    down, along = np.divmod(nth, np.maximum(column_count, 1)[which])
    return which, row_at[first_row[which] + down] * width + column_at[first_column[which] + along]
