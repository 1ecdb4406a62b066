"""Weights for any grids of cells, with great-circle edges as ESMF has them.

Conservative: cells are spherical polygons, clipped against each other. Bilinear: the quadrilateral of source centres
around a target, and the inverse bilinear map in the plane that touches the sphere at the target (orthographic). Around
the pole of a global latitude-longitude grid a virtual node holds the mean of the last row, with triangles to it.
"""

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.spatial import KDTree

from ..lake.errors import UsageError
from . import axis, sphere
from .grid import Grid
from .overlap import weigh
from .weights import Weights

_PAIRS = 200_000
"""Pairs of cells worked on at once: some 100 MB."""

_INSIDE = 1e-9
"""How far outside the unit square a target may map and still count as in the cell."""

_CANDIDATES = (4, 16, 64)
_NEWTON_STEPS = 12


def make(source: Grid, target: Grid, method: str, *, norm: str, pole: str, extrapolate: bool) -> Weights:
    """See `weights.make`; conservative or bilinear weights. Raises `UsageError` for ``extrapolate`` and for the pole
    rule ``nearest``, which this backend lacks."""
    if extrapolate:
        raise UsageError(f"method {method!r} does not extrapolate; 'nearest' does")
    return _conservative(source, target, norm) if method == "conservative" else _bilinear(source, target, pole)


def _conservative(source: Grid, target: Grid, norm: str) -> Weights:
    area_a, area_b = sphere.polygon_areas(source.corners), sphere.polygon_areas(target.corners)
    row, column, overlap = _overlaps(source.corners, target.corners)
    matrix = csr_array(coo_array((overlap, (row, column)), shape=(target.size, source.size)))
    return weigh(matrix, area_a, area_b, (source.shape, target.shape), norm=norm, convention="great-circles")


def _overlaps(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of polygons ``(m, 4, 3)`` and ``(n, 4, 3)`` that overlap: target, source, area in steradians."""
    (centre_a, radius_a), (centre_b, radius_b) = _circles(source), _circles(target)
    tree_a, planes = KDTree(centre_a), sphere.edge_planes(target)
    reach = radius_a.max() + radius_b.max()
    near_a = KDTree(centre_b).query(centre_a, distance_upper_bound=reach)[0] < np.inf
    used_a = np.flatnonzero(near_a)
    used_b = np.flatnonzero(tree_a.query(centre_b, distance_upper_bound=reach)[0] < np.inf)
    if not used_a.size:
        return np.empty(0, int), np.empty(0, int), np.empty(0)
    found = []
    tree_a = KDTree(centre_a[used_a])
    # A guess from a sample of targets of how many pairs each makes sets the size of the blocks.
    sample = used_b[:: max(1, used_b.size // 100)]
    each = tree_a.query_ball_point(centre_b[sample], reach, return_length=True).mean() + 1
    for start in range(0, used_b.size, block := max(1, int(_PAIRS / each))):
        chosen = used_b[start : start + block]
        near = KDTree(centre_b[chosen]).sparse_distance_matrix(tree_a, reach, output_type="ndarray")
        row, column = chosen[near["i"]], used_a[near["j"]]
        touch = near["v"] <= radius_b[row] + radius_a[column]
        row, column = row[touch], column[touch]
        area = sphere.overlap_areas(source[column], planes[row])
        there = area > 0
        found.append((row[there], column[there], area[there]))
    row, column, area = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return row, column, area


def _circles(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each polygon and the chord to its furthest corner: everything of the cell lies within.

    The middle lies inside the sphere, by less than the cell's own extent squared; the radius is taken from there.
    """
    middle = corners.mean(axis=1)
    middle = middle / np.linalg.norm(middle, axis=1, keepdims=True)
    return middle, np.linalg.norm(corners - middle[:, None], axis=2).max(axis=1) * (1 + 1e-9)


def _bilinear(source: Grid, target: Grid, pole: str) -> Weights:
    if pole == "nearest":
        raise UsageError("backend 'curvilinear' has no pole rule 'nearest'", expected="mean or none", found=pole)
    nodes, cells = _cells(source, pole)
    points = target.vectors
    row, column, share = _interpolated(nodes, cells, points)
    virtual = column >= source.size
    if virtual.any():
        extra = []
        for north, node in ((True, source.size), (False, source.size + 1)):
            here = column == node
            extra.append(_spread(source, north, row[here], share[here]))
        kept = (row[~virtual], column[~virtual], share[~virtual])
        row, column, share = (np.concatenate(parts) for parts in zip(kept, *extra, strict=True))
    matrix = csr_array(coo_array((share, (row, column)), shape=(target.size, source.size)))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return Weights(matrix, source.shape, target.shape, "bilinear", "centres", options={"pole": pole})


def _cells(source: Grid, pole: str) -> tuple[np.ndarray, np.ndarray]:
    """Nodes ``(m, 3)``, the poles behind the centres, and the cells between them as node numbers ``(n, 4)``."""
    number = np.arange(source.size).reshape(source.shape)
    if source.is_periodic:
        if axis.repeats_its_first(source.longitude):
            number = number[:, :-1]
        number = np.concatenate([number, number[:, :1]], axis=1)
    corners = [number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]]
    cells = [np.stack([c.ravel() for c in corners], axis=1)]
    nodes = source.vectors
    if source.is_periodic and pole == "mean":
        for north in (True, False):
            latitude = source.latitude.max() if north else source.latitude.min()
            spacing = np.abs(np.diff(source.latitude)).max(initial=0.0)
            nodes = np.concatenate([nodes, [[0.0, 0.0, 1.0 if north else -1.0]]])
            if abs(latitude) < 90 - 1e-9 and abs(latitude) + 1.5 * spacing >= 90 and (latitude > 0) == north:
                ring = number[_last_row(source, north)]
                tip = np.full(ring.size - 1, len(nodes) - 1)
                cells.append(np.stack([ring[:-1], ring[1:], tip, tip], axis=1))
    return nodes, np.concatenate(cells)


def _last_row(source: Grid, north: bool) -> int:
    return int(source.latitude.argmax() if north else source.latitude.argmin())


def _spread(source: Grid, north: bool, row: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A pole's share handed out evenly to the last row."""
    count = source.shape[1] - axis.repeats_its_first(source.longitude)
    ring = _last_row(source, north) * source.shape[1] + np.arange(count)
    return np.repeat(row, count), np.tile(ring, row.size), np.repeat(share / count, count)


def _interpolated(
    nodes: np.ndarray, cells: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, node and weight for every target ``(n, 3)`` that lies in a cell."""
    corners = nodes[cells]
    middle, radius = _circles(corners)
    tree, furthest = KDTree(middle), radius.max()
    found = []
    waiting = np.arange(len(points))
    for count in _CANDIDATES:
        count = min(count, len(cells))
        distance, candidates = tree.query(points[waiting], k=count, distance_upper_bound=furthest * (1 + 1e-9))
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
            share, inside = _inverse_bilinear(corners[cell], points[waiting[try_now]])
            hit = try_now[inside]
            done[hit] = True
            found.append((np.repeat(waiting[hit], 4), cells[cell[inside]].ravel(), share[inside].ravel()))
        # Who has seen all cells within reach will not find one among more.
        waiting = waiting[~done & (distance[:, -1] < np.inf)]
        if not waiting.size or count == len(cells):
            break
    if not found:
        return np.empty(0, int), np.empty(0, int), np.empty(0)
    row, column, share = (np.concatenate(parts) for parts in zip(*found, strict=True))
    there = np.abs(share) > 0
    return row[there], column[there], share[there]


def _inverse_bilinear(corners: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(n, 4)`` of the corners ``(n, 4, 3)`` at the points ``(n, 3)``, and whether the point is inside.

    A quadrilateral whose last two corners are one is a triangle, where the map is linear.
    """
    east = np.stack([-points[:, 1], points[:, 0], np.zeros(len(points))], axis=1)
    # At the pole there is no east: any direction across will do.
    length = np.linalg.norm(east, axis=1, keepdims=True)
    east = np.where(length > 1e-12, east / np.where(length > 1e-12, length, 1), [[1.0, 0.0, 0.0]])
    north = np.cross(points, east)
    offset = corners - points[:, None]
    plane = np.stack([np.einsum("nkc,nc->nk", offset, east), np.einsum("nkc,nc->nk", offset, north)], axis=2)
    a, b, c, d = np.moveaxis(plane, 1, 0)
    triangle = (corners[:, 2] == corners[:, 3]).all(axis=1)
    s, t = np.full(len(points), 0.5), np.full(len(points), 0.5)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_NEWTON_STEPS):
            along_s = (1 - t)[:, None] * (b - a) + t[:, None] * (c - d)
            along_t = (1 - s)[:, None] * (d - a) + s[:, None] * (c - b)
            here = (1 - t)[:, None] * (a + s[:, None] * (b - a)) + t[:, None] * (d + s[:, None] * (c - d))
            det = along_s[:, 0] * along_t[:, 1] - along_s[:, 1] * along_t[:, 0]
            s = s - (here[:, 0] * along_t[:, 1] - here[:, 1] * along_t[:, 0]) / det
            t = t - (along_s[:, 0] * here[:, 1] - along_s[:, 1] * here[:, 0]) / det
        inside = (s >= -_INSIDE) & (s <= 1 + _INSIDE) & (t >= -_INSIDE) & (t <= 1 + _INSIDE)
        share = np.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], axis=1)
        parts = np.stack([_cross(b, c), _cross(c, a), _cross(a, b), np.zeros(len(points))], axis=1)
        flat = parts / _cross(b - a, c - a)[:, None]
    share = np.where(triangle[:, None], flat, share)
    inside = np.where(triangle, (flat >= -_INSIDE).all(axis=1), inside)
    share = np.clip(share, 0, 1)
    return share / np.where(inside, share.sum(axis=1), 1)[:, None], inside


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
