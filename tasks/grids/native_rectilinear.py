"""Weights for grids whose rows lie along latitude circles: rectilinear and reduced ones.

Cells are bounded by latitude circles and meridians, so an overlap is a product of two 1-D overlaps: in longitude,
modulo a turn, and in the sine of latitude. Bilinear is linear in latitude and in longitude, each in degrees. CDO and
YAC have the same convention.
"""

import numpy as np
from scipy.sparse import coo_array, csr_array, kron

from . import axis
from .grid import Grid
from .overlap import Overlap
from .weights import Weights

_ON_EDGE = 1e-9
"""Degrees by which a target may lie beyond the last centre and still count as on it."""


def overlap(source: Grid, target: Grid) -> Overlap:
    """Areas in steradians that the cells of two grids have in common."""
    rows = _overlaps(_row_sines(source), _row_sines(target))
    if source.row_sizes is None and target.row_sizes is None:
        matrix = kron(rows, _turned_overlaps(source.longitude_bounds, target.longitude_bounds), format="csr")
    else:
        matrix = _by_rings(rows, _rings(source), _rings(target))
    return Overlap(csr_array(matrix), source.areas.ravel(), target.areas.ravel(), "circles")


def _rings(grid: Grid) -> list[tuple[int, np.ndarray]]:
    """First cell and longitude bounds ``(n, 2)`` of each row."""
    if grid.row_sizes is None:
        return [(row * grid.shape[1], grid.longitude_bounds) for row in range(grid.shape[0])]
    starts, found = np.cumsum([0, *grid.row_sizes]), []
    for start, size in zip(starts, grid.row_sizes, strict=False):
        centres = grid.longitude[start : start + size]
        found.append((int(start), np.stack([centres - 180.0 / size, centres + 180.0 / size], axis=1)))
    return found


def _by_rings(rows: csr_array, source: list[tuple[int, np.ndarray]], target: list[tuple[int, np.ndarray]]) -> coo_array:
    """Overlaps row by row: where rows differ in length there is no product of two axes for the whole grid."""
    heights, known = rows.tocoo(), {}
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for to, from_, height in zip(heights.row, heights.col, heights.data, strict=True):
        (start_b, bounds_b), (start_a, bounds_a) = target[to], source[from_]
        # Rows that begin alike and are as long have the same overlaps, on either side of the equator too.
        alike = (len(bounds_a), float(bounds_a[0, 0]), len(bounds_b), float(bounds_b[0, 0]))
        if alike not in known:
            known[alike] = _turned_overlaps(bounds_a, bounds_b).tocoo()
        columns = known[alike]
        parts.append((columns.row + start_b, columns.col + start_a, columns.data * height))
    row, column, area = (np.concatenate(p) for p in zip(*parts, strict=True)) if parts else (np.empty(0, int),) * 3
    sizes = tuple(last[0] + len(last[1]) for last in (target[-1], source[-1]))
    return coo_array((area.astype("float64"), (row, column)), shape=sizes)


def _row_sines(grid: Grid) -> np.ndarray:
    return np.sin(np.radians(np.sort(grid.latitude_bounds, axis=1)))


def _overlaps(source: np.ndarray, target: np.ndarray) -> csr_array:
    """Lengths that intervals ``(m, 2)`` and ``(n, 2)`` have in common, as ``(n, m)``; the source's do not overlap."""
    order = np.argsort(source[:, 0])
    low, high = source[order].T
    first = np.searchsorted(high, target[:, 0], side="right")
    count = np.maximum(np.searchsorted(low, target[:, 1], side="left") - first, 0)
    row = np.repeat(np.arange(len(target)), count)
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    at = np.repeat(first, count) + nth
    length = np.minimum(high[at], target[row, 1]) - np.maximum(low[at], target[row, 0])
    return csr_array((np.maximum(length, 0), (row, order[at])), shape=(len(target), len(source)))


def _turned_overlaps(source: np.ndarray, target: np.ndarray) -> csr_array:
    """`_overlaps` of longitude bounds in degrees, whatever turn they are counted in; lengths in radians."""
    source, target = np.sort(source, axis=1), np.sort(target, axis=1)
    start = source[:, 0].min()
    # Targets begin within a turn from the source's start and are at most a turn wide: two turns of source meet them.
    # Less a hair first: an edge that rounding puts just below the start must not be moved up a whole turn.
    moved = target - 360 * np.floor((target[:, :1] - start) / 360 + 1e-12)
    twice = _overlaps(np.concatenate([source, source + 360]), moved).tocoo()
    places = (twice.row, twice.col % len(source))
    return csr_array(coo_array((np.radians(twice.data), places), shape=(len(target), len(source))))


def bilinear(source: Grid, target: Grid, pole: str, valid: np.ndarray | None = None) -> Weights:
    """Weights linear in latitude and in longitude; ``valid`` bool ``(n_a,)`` are the source cells that count.

    A target with a share from a cell that does not count gets nothing, as in ESMF.
    """
    if source.row_sizes is None and target.kind == "rectilinear":
        matrix = _bilinear_axes(source, target, pole)
    else:
        matrix = _bilinear_points(source, target, pole)
    made = Weights(matrix, source.shape, target.shape, "bilinear", "centres")
    return made if valid is None else made.without((abs(matrix) @ ~valid) > 0)


def _bilinear_axes(source: Grid, target: Grid, pole: str) -> csr_array:
    ny, nx = source.shape
    below, above, up, beyond = _across_rows(source, source.latitude, target.latitude, pole)
    rows = _two_a_row(below, above, up, 1 - beyond, ny)
    columns = _two_a_row(*_along(source, target.longitude), np.ones(target.longitude.size), nx)
    matrix = kron(rows, columns, format="csr")
    if beyond.any():
        poles = csr_array((beyond, (np.arange(beyond.size), below)), shape=rows.shape)
        poles.eliminate_zeros()
        matrix = matrix + kron(poles, np.full((target.longitude.size, nx), 1 / nx), format="csr")
    matrix = csr_array(matrix)
    matrix.sum_duplicates()
    return matrix


def _bilinear_points(source: Grid, target: Grid, pole: str) -> csr_array:
    lat, lon = target.points
    starts, latitude = np.arange(source.shape[0]) * source.shape[-1], source.latitude
    if source.row_sizes is not None:
        starts = np.cumsum([0, *source.row_sizes[:-1]])
        latitude = source.latitude[starts]
    below, above, up, beyond = _across_rows(source, latitude, lat, pole)
    parts = [_in_row(source, row, share * (1 - beyond), lon, starts) for row, share in ((below, 1 - up), (above, up))]
    sizes = np.asarray(source.row_sizes or [source.shape[-1]] * latitude.size)
    # One part a row, not a target: targets beyond the same row share their columns.
    for row in np.unique(below[beyond > 0]):
        here = np.flatnonzero((beyond > 0) & (below == row))
        columns = starts[row] + np.arange(sizes[row])
        each = np.repeat(beyond[here] / sizes[row], sizes[row])
        parts.append((np.repeat(here, sizes[row]), np.tile(columns, here.size), each))
    row, column, share = (np.concatenate(p) for p in zip(*parts, strict=True))
    there = np.isfinite(share) & (share != 0)
    matrix = csr_array(coo_array((share[there], (row[there], column[there])), shape=(target.size, source.size)))
    matrix.sum_duplicates()
    return matrix


def _two_a_row(first: np.ndarray, second: np.ndarray, share: np.ndarray, scale: np.ndarray, size: int) -> csr_array:
    """Linear interpolation along an axis of ``size`` as a matrix; rows with a share of NaN are empty."""
    there = np.flatnonzero(np.isfinite(share))
    values = np.concatenate([(1 - share[there]) * scale[there], share[there] * scale[there]])
    places = (np.concatenate([there, there]), np.concatenate([first[there], second[there]]))
    matrix = csr_array(coo_array((values, places), shape=(share.size, size)))
    matrix.eliminate_zeros()
    return matrix


def _across_rows(
    source: Grid, latitude: np.ndarray, lat: np.ndarray, pole: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows on either side of each latitude, the share of the second, and the share of the pole beyond the last row."""
    below, above, up = _between(latitude, lat)
    beyond = np.zeros(lat.size)
    if not source.is_periodic or pole == "none":
        return below, above, up, beyond
    for last in (int(latitude.argmax()), int(latitude.argmin())):
        edge = latitude[last]
        outside = (lat > edge) if edge == latitude.max() else (lat < edge)
        # A row more than a spacing and a half from the pole is the end of the grid.
        if abs(edge) + 1.5 * np.abs(np.diff(latitude)).max(initial=0.0) < 90 or not outside.any():
            continue
        below[outside], above[outside], up[outside] = last, last, 0.0
        if pole == "mean":
            beyond[outside] = (np.abs(lat[outside]) - abs(edge)) / (90 - abs(edge))
    return below, above, up, beyond


def _between(centres: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the centres on either side and the share of the second; NaN beyond the last ones."""
    order = np.argsort(centres)
    line = centres[order]
    if line.size == 1:
        share = np.where(np.abs(values - line[0]) <= _ON_EDGE, 0.0, np.nan)
        return np.zeros(values.size, int), np.zeros(values.size, int), share
    left = np.clip(np.searchsorted(line, values, side="right") - 1, 0, line.size - 2)
    share = (values - line[left]) / (line[left + 1] - line[left])
    outside = (values < line[0] - _ON_EDGE) | (values > line[-1] + _ON_EDGE)
    return order[left], order[left + 1], np.where(outside, np.nan, np.clip(share, 0, 1))


def _in_row(
    source: Grid, row: np.ndarray, share: np.ndarray, lon: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, source and weight of linear interpolation in longitude along row number ``row`` of the source."""
    if source.row_sizes is not None:
        sizes = np.asarray(source.row_sizes)[row]
        at = np.mod(lon - source.longitude[starts[row]], 360) / 360 * sizes
        left, right = np.floor(at).astype(int) % sizes, (np.floor(at).astype(int) + 1) % sizes
        east = at - np.floor(at)
    else:
        left, right, east = _along(source, lon)
    target = np.arange(lon.size)
    return (
        np.concatenate([target, target]),
        np.concatenate([starts[row] + left, starts[row] + right]),
        np.concatenate([share * (1 - east), share * east]),
    )


def _along(source: Grid, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    line = source.longitude
    first = line.min()
    turned = lon - 360 * np.floor((lon - first) / 360 + 1e-12)
    if not source.is_periodic:
        return _between(line, turned)
    index = np.arange(line.size)
    if axis.repeats_its_first(line):
        return _between(line, turned)
    # The first column once more, a turn later, closes the ring.
    west = int(line.argmin())
    left, right, east = _between(np.append(line, first + 360), turned)
    index = np.append(index, west)
    return index[left], index[right], east
