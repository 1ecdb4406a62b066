"""Bilinear weights from any grid with rows and columns, as ESMF has them.

The quadrilateral of source centres around a target, and the inverse bilinear map in the plane that touches the sphere
at the target (orthographic). Around the pole of a global latitude-longitude grid a virtual node holds the mean of the
last row, with triangles to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.spatial import KDTree

from ..lake.errors import UsageError
from . import clip, mapping, parallel, sphere
from .cells import circles
from .grid import Grid
from .weights import Weights

_TARGETS = 1 << 15
"""Targets worked on at once."""

_INSIDE = 1e-9
"""How far outside the unit square a target may map and still count as in the cell."""

_CANDIDATES = (4, 16, 64)
_NEWTON_STEPS = 12
_AROUND = tuple((down, along) for down in (0, -1, 1) for along in (0, -1, 1))
"""The cell a target is expected in, then those around it: edges are great circles, not lines of the projection."""

type _Links = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Target, node and weight of each link."""


def bilinear(source: Grid, target: Grid, pole: str, valid: np.ndarray | None = None) -> Weights:
    """Weights among the four centres around; ``valid`` bool ``(n_a,)`` are the source cells that count.

    A quadrilateral with a corner that does not count gives nothing. Raises `UsageError` for the pole rule ``nearest``.
    """
    if pole == "nearest":
        raise UsageError("backend 'curvilinear' has no pole rule 'nearest'", expected="mean or none", found=pole)
    mesh = _mesh(source, pole, valid)
    points = np.ascontiguousarray(target.vectors.T)
    blocks = [np.arange(s, min(s + _TARGETS, target.size)) for s in range(0, target.size, _TARGETS)]
    found = list(parallel.each(_located, ((source, target, mesh, points, block) for block in blocks), None))
    links: list[_Links] = [part for parts, _ in found for part in parts]
    left = np.concatenate([rest for _, rest in found])
    if left.size:
        links += list(_searched(mesh, points, left))
    row, column, share = (np.concatenate(parts) for parts in zip(*links, strict=True)) if links else _NONE
    matrix = csr_array(coo_array(_without_poles(source, mesh, row, column, share), shape=(target.size, source.size)))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return Weights(matrix, source.shape, target.shape, "bilinear", "centres")


_NONE: _Links = (np.empty(0, int), np.empty(0, int), np.empty(0))


@dataclass(frozen=True, eq=False)
class _Mesh:
    """Nodes ``(3, m)``, the poles last, and the cells between them as node numbers ``(4, n)``.

    The first ``ny`` times ``nx`` of them are those between rows and columns of centres; triangles to a pole follow.
    """

    nodes: np.ndarray
    cells: np.ndarray
    ny: int
    nx: int
    periodic: bool
    usable: np.ndarray | None

    @cached_property
    def circles(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and radius of each cell."""
        step = 1 << 16
        found = [circles(self.nodes[:, self.cells[:, s : s + step]]) for s in range(0, self.cells.shape[1], step)]
        return np.concatenate([f[0] for f in found], axis=1), np.concatenate([f[1] for f in found])

    def weights(self, cell: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights ``(4, n)`` of the corners of cells at points ``(3, n)``, and whether the point is in a usable one."""
        share, inside = _inverse_bilinear(self.nodes[:, self.cells[:, cell]], points)
        return share, inside if self.usable is None else inside & self.usable[cell]

    def links(self, target: np.ndarray, cell: np.ndarray, share: np.ndarray) -> _Links:
        """The links of targets, each in one cell, that weigh something."""
        row, node, weight = np.repeat(target, 4), self.cells[:, cell].T.ravel(), share.T.ravel()
        there = weight > 0
        return row[there], node[there], weight[there]


def _mesh(source: Grid, pole: str, valid: np.ndarray | None) -> _Mesh:
    if len(source.shape) != 2 or min(source.shape) < 2:
        raise UsageError("bilinear weights need two rows and two columns of the source", found=source.shape)
    number = np.arange(source.size).reshape(source.shape)
    periodic = source.is_periodic
    if periodic:
        if source.repeats_its_first:
            number = number[:, :-1]
        number = np.concatenate([number, number[:, :1]], axis=1)
    cells = [np.stack([c.ravel() for c in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])])]
    nodes = [source.vectors.T]
    counts = np.ones(source.size, bool) if valid is None else valid
    if periodic and pole == "mean" and source.circles is not None:
        rows = source.circles[0]
        for north in (True, False):
            last = rows.max() if north else rows.min()
            spacing = np.abs(np.diff(rows)).max(initial=0.0)
            nodes.append(_pole(source, north))
            ring = number[_last_row(rows, north)]
            counts = np.append(counts, bool(counts[ring].any()))
            if abs(last) < 90 - 1e-9 and abs(last) + 1.5 * spacing >= 90 and (last > 0) == north:
                tip = np.full(ring.size - 1, source.size + (not north))
                cells.append(np.stack([ring[:-1], ring[1:], tip, tip]))
    every = np.concatenate(cells, axis=1)
    return _Mesh(
        np.ascontiguousarray(np.concatenate(nodes, axis=1)),
        every,
        number.shape[0] - 1,
        number.shape[1] - 1,
        periodic,
        None if valid is None else counts[every].all(axis=0),
    )


def _pole(source: Grid, north: bool) -> np.ndarray:
    """The pole of the grid's rows as a unit vector ``(3, 1)``."""
    sign = 1.0 if north else -1.0
    if source.kind == "rectilinear":
        return np.array([[0.0], [0.0], [sign]])
    latitude, longitude = mapping.geographic(source.mapping, np.zeros(1), np.array([90.0 * sign]))
    return sphere.unit_vectors(latitude, longitude).T


def _last_row(rows: np.ndarray, north: bool) -> int:
    return int(rows.argmax() if north else rows.argmin())


def _without_poles(
    source: Grid, mesh: _Mesh, row: np.ndarray, column: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Links to a pole handed out evenly to its last row, as values and places of a sparse matrix."""
    virtual = column >= source.size
    if not virtual.any() or source.circles is None:
        return share, (row, column)
    rows, columns, shares = [row[~virtual]], [column[~virtual]], [share[~virtual]]
    count = mesh.nx
    for north in (True, False):
        here = column == source.size + (not north)
        ring = _last_row(source.circles[0], north) * source.shape[1] + np.arange(count)
        rows.append(np.repeat(row[here], count))
        columns.append(np.tile(ring, int(here.sum())))
        shares.append(np.repeat(share[here] / count, count))
    return np.concatenate(shares), (np.concatenate(rows), np.concatenate(columns))


def _located(
    source: Grid, target: Grid, mesh: _Mesh, points: np.ndarray, block: np.ndarray
) -> tuple[list[_Links], np.ndarray]:
    """Links of those targets that are where the source's own coordinates say, and the targets still to be found."""
    at = _places(source, target, block)
    if at is None:
        return [], block
    (row, column), near = at
    waiting, row, column = block[near], row[near], column[near]
    found = []
    for down, along in _AROUND:
        j, i = row + down, column + along
        if mesh.periodic:
            i = i % mesh.nx
        there = np.flatnonzero((j >= 0) & (j < mesh.ny) & (i >= 0) & (i < mesh.nx))
        cell = j[there] * mesh.nx + i[there]
        share, inside = mesh.weights(cell, points[:, waiting[there]])
        found.append(mesh.links(waiting[there[inside]], cell[inside], share[:, inside]))
        open_ = np.ones(waiting.size, bool)
        open_[there[inside]] = False
        waiting, row, column = waiting[open_], row[open_], column[open_]
        if not waiting.size:
            break
    # On a projection the cells around are all there are; rows along circles may bend by many rows, or end at a pole.
    return found, waiting[:0] if source.circles is None else waiting


def _places(source: Grid, target: Grid, block: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray] | None:
    """Row and column of the cell each target is expected in, and which targets are near the grid at all; None where
    the source has no axes to tell from."""
    latitude, longitude = (p[block] for p in target.points)
    if source.circles is None:
        if source.x is None or source.y is None:
            return None
        x, y = mapping.projected(source.mapping, latitude, longitude)
        (row, near_y), (column, near_x) = _interval(source.y, y), _interval(source.x, x)
        return (row, column), near_y & near_x
    if source.is_rotated:
        longitude, latitude = mapping.projected(source.mapping, latitude, longitude)
    rows, columns = source.circles
    row, _ = _interval(rows, latitude)
    first, last = columns.min(), columns.max()
    if not source.is_periodic:
        longitude = longitude - 360 * np.round((longitude - (first + last) / 2) / 360)
        return (row, _interval(columns, longitude)[0]), np.ones(block.size, bool)
    longitude = longitude - 360 * np.floor((longitude - first) / 360)
    ring = np.sort(columns)[: -1 if source.repeats_its_first else None]
    column, _ = _interval(np.append(ring, first + 360), longitude)
    if columns[0] > columns[-1]:
        # Columns count from the east, and the one across the seam comes last all the same.
        column = (ring.size - 2 - column) % ring.size
    return (row, column), np.ones(block.size, bool)


def _interval(line: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which gap of a monotonic axis holds each value, the outermost for those beyond, and whether it lies within a
    spacing of the axis."""
    with np.errstate(invalid="ignore"):
        if line[0] > line[-1]:
            place = line.size - 1 - np.searchsorted(line[::-1], values, side="right")
        else:
            place = np.searchsorted(line, values, side="right") - 1
        margin = np.abs(np.diff(line)).max()
        near = (values >= line.min() - margin) & (values <= line.max() + margin)
    return np.clip(place, 0, line.size - 2), near


def _searched(mesh: _Mesh, points: np.ndarray, waiting: np.ndarray) -> Iterator[_Links]:
    """Links of targets found by a search tree over the middles of all cells."""
    middle, radius = mesh.circles
    tree, furthest = KDTree(middle.T, balanced_tree=False, compact_nodes=False), radius.max()
    count_all = radius.size
    for count in _CANDIDATES:
        count = min(count, count_all)
        distance, candidates = tree.query(
            points[:, waiting].T, k=count, distance_upper_bound=furthest * (1 + 1e-9), workers=parallel.cores()
        )
        distance, candidates = distance.reshape(waiting.size, count), candidates.reshape(waiting.size, count)
        near = distance[:, 0] < np.inf
        waiting, distance, candidates = waiting[near], distance[near], candidates[near]
        done = np.zeros(waiting.size, bool)
        for nth in range(count):
            try_now = np.flatnonzero(~done & (distance[:, nth] < np.inf))
            cell = candidates[try_now, nth]
            close = distance[try_now, nth] <= radius[cell]
            try_now, cell = try_now[close], cell[close]
            if not try_now.size:
                continue
            share, inside = mesh.weights(cell, points[:, waiting[try_now]])
            hit = try_now[inside]
            done[hit] = True
            yield mesh.links(waiting[hit], cell[inside], share[:, inside])
        # Who has seen all cells within reach will not find one among more.
        waiting = waiting[~done & (distance[:, -1] < np.inf)]
        if not waiting.size or count == count_all:
            break


def _inverse_bilinear(corners: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(4, n)`` of the corners ``(3, 4, n)`` at the points ``(3, n)``, and whether the point is inside.

    A quadrilateral whose last two corners are one is a triangle, where the map is linear.
    """
    a, b, c, d = np.moveaxis(_flattened(corners, points), 1, 0)
    triangle = (corners[:, 2] == corners[:, 3]).all(axis=0)
    s, t = np.full(points.shape[1], 0.5), np.full(points.shape[1], 0.5)
    ab, ad, twist = b - a, d - a, a - b + c - d
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_NEWTON_STEPS):
            along_s, along_t = ab + t * twist, ad + s * twist
            here = a + s * ab + t * along_t
            det = _cross(along_s, along_t)
            step_s, step_t = _cross(here, along_t) / det, _cross(along_s, here) / det
            s, t = s - step_s, t - step_t
            if not ((np.abs(step_s) > 1e-14) | (np.abs(step_t) > 1e-14)).any():
                break
        inside = (s >= -_INSIDE) & (s <= 1 + _INSIDE) & (t >= -_INSIDE) & (t <= 1 + _INSIDE)
        share = np.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t])
        if triangle.any():
            parts = np.stack([_cross(b, c), _cross(c, a), _cross(a, b), np.zeros(points.shape[1])])
            flat = parts / _cross(ab, c - a)
            share = np.where(triangle, flat, share)
            inside = np.where(triangle, (flat >= -_INSIDE).all(axis=0), inside)
    # The plane also shows the far side of the earth.
    inside &= clip.dot(corners[:, 0], points) > 0
    share = np.clip(share, 0, 1)
    return share / np.where(inside, share.sum(axis=0), 1), inside


def _flattened(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Corners ``(3, 4, n)`` in the plane tangent at the points ``(3, n)``: east and north, ``(2, 4, n)``."""
    x, y, z = points
    length = np.hypot(x, y)
    polar = length <= 1e-12
    # At the pole there is no east: any direction across will do.
    east_x, east_y = (
        np.where(polar, 1.0, -y / np.where(polar, 1, length)),
        np.where(polar, 0, x / np.where(polar, 1, length)),
    )
    north = np.stack([-z * east_y, z * east_x, x * east_y - y * east_x])
    off = corners - points[:, None]
    return np.stack([off[0] * east_x + off[1] * east_y, clip.dot(off, north[:, None])])


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[0] * v[1] - u[1] * v[0]
