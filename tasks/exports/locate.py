"""Where points of the earth lie on a grid: nearest cells, bilinear corners, great-circle distances."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..lake.errors import UsageError
from .fields import Horizontal

EARTH_RADIUS_KM = 6371.229
"""Radius of the sphere that NWP models use (GRIB2 code table 3.2, shape of the earth 6)."""

_HALF_DIAGONAL = 0.75  # of the widest neighbour spacing: half a diagonal of a square cell is 0.707


@dataclass(frozen=True, eq=False)
class Places:
    """Cells that stand for points: ``rows``, ``columns`` (intp) and ``weights`` (float64), all of shape
    ``(point, corner)``; one corner for the nearest cell, four for bilinear. Weights of a point add up to 1."""

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray


def great_circle_km(lat1: np.ndarray, lon1: np.ndarray, lat2: np.ndarray, lon2: np.ndarray) -> np.ndarray:
    """Great-circle distance in km of points in degrees, by the haversine formula (exact for small distances)."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half = np.sin((phi2 - phi1) / 2) ** 2
    half = half + np.cos(phi1) * np.cos(phi2) * np.sin(np.radians(np.subtract(lon2, lon1)) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def nearest(grid: Horizontal, latitude: np.ndarray, longitude: np.ndarray) -> tuple[Places, np.ndarray]:
    """The nearest cell of each point by great-circle distance, and a mask of the points on the grid.

    ``latitude`` and ``longitude`` are degrees of shape ``(point,)``, any branch of longitude. A point is on
    the grid when it is at most half a cell beyond the outermost centres.
    """
    if grid.regular:
        columns, on_x = nearest_columns(grid, longitude)
        # With the column of least difference in longitude at hand, the nearest cell lies in that column on
        # any row; near a pole it is not always the row nearest in latitude.
        distance = great_circle_km(
            latitude[:, None], longitude[:, None], grid.latitude[None, :], grid.longitude[columns][:, None]
        )
        rows = distance.argmin(axis=1)
        inside = on_x & _within_half_a_cell(grid.latitude, latitude)
    else:
        rows, columns, inside = curvilinear_search(grid)(latitude, longitude)
    return Places(rows[:, None], columns[:, None], np.ones((len(rows), 1))), inside


def bilinear(grid: Horizontal, latitude: np.ndarray, longitude: np.ndarray) -> tuple[Places, np.ndarray]:
    """The four cells around each point with weights linear in degrees, and a mask of the points on the grid.

    Between the outermost row and the edge of the grid (or the pole) the outermost row counts alone. Raises
    ``UsageError`` on a curvilinear grid, whose cells are no boxes in latitude and longitude.
    """
    if not grid.regular:
        raise UsageError("method 'bilinear' needs a grid with latitude and longitude axes; use 'nearest' here")
    row, next_row, up = _between(grid.latitude, latitude)
    if grid.global_longitude:
        turned = np.mod(grid.longitude - grid.longitude[0], 360)
        order = np.argsort(turned, kind="stable")
        axis = np.append(turned[order], turned[order[0]] + 360)
        column, next_column, right = _between(axis, np.mod(longitude - grid.longitude[0], 360))
        order = np.append(order, order[0])
        column, next_column = order[column], order[next_column]
        on_x = np.ones(len(longitude), dtype=bool)
    else:
        turned = _turned(grid, longitude)
        column, next_column, right = _between(grid.longitude, turned)
        on_x = _within_half_a_cell(grid.longitude, turned)
    rows = np.stack([row, row, next_row, next_row], axis=1)
    columns = np.stack([column, next_column, column, next_column], axis=1)
    weights = np.stack([(1 - up) * (1 - right), (1 - up) * right, up * (1 - right), up * right], axis=1)
    return Places(rows, columns, weights), on_x & _within_half_a_cell(grid.latitude, latitude)


def curvilinear_search(
    grid: Horizontal,
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A function of latitude and longitude (degrees, any one shape) that gives the row and column of the
    nearest cell of a curvilinear grid and whether the point is on the grid, all of that shape."""
    from scipy.spatial import KDTree

    known = np.isfinite(grid.latitude) & np.isfinite(grid.longitude)
    vectors = _unit_vectors(grid.latitude, grid.longitude)
    cells = np.flatnonzero(known)
    tree = KDTree(vectors.reshape(-1, 3)[cells])
    reach = _HALF_DIAGONAL * _widest_neighbour(vectors).ravel()

    def search(latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chord, found = tree.query(_unit_vectors(latitude, longitude))
        cell = cells[found]
        rows, columns = np.unravel_index(cell, grid.latitude.shape)
        return rows, columns, chord <= reach[cell]

    return search


def nearest_columns(grid: Horizontal, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The column of a regular grid nearest to each longitude (any branch) and a mask of those on the grid."""
    first = grid.longitude.min()
    turned = np.mod(grid.longitude - first, 360)
    # A copy of every column a turn to either side, so that the nearest is found across the seam.
    axis = np.concatenate([turned - 360, turned, turned + 360])
    columns = _nearest_on(axis, np.mod(longitude - first, 360)) % len(turned)
    if grid.global_longitude:
        return columns, np.ones(len(longitude), dtype=bool)
    return columns, _within_half_a_cell(grid.longitude, _turned(grid, longitude))


def nearest_rows(grid: Horizontal, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of a regular grid nearest in latitude, and a mask of the latitudes on the grid."""
    return _nearest_on(grid.latitude, latitude), _within_half_a_cell(grid.latitude, latitude)


def _unit_vectors(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Points on the unit sphere, shape ``(..., 3)``: nearest by chord is nearest by great circle."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _widest_neighbour(vectors: np.ndarray) -> np.ndarray:
    """Chord to the farthest of the four neighbours of each cell, shape ``(y, x)``."""
    widest = np.zeros(vectors.shape[:2])
    for axis in (0, 1):
        if vectors.shape[axis] < 2:
            continue
        chord = np.nan_to_num(np.linalg.norm(np.diff(vectors, axis=axis), axis=-1))
        lower = np.insert(chord, 0, 0, axis=axis)
        upper = np.insert(chord, chord.shape[axis], 0, axis=axis)
        # Across the seam of a global grid neighbours in the array are no neighbours on earth.
        widest = np.maximum(widest, np.maximum(lower, upper))
    return widest


def _turned(grid: Horizontal, longitude: np.ndarray) -> np.ndarray:
    """Longitudes brought within half a turn of the middle of a regional grid."""
    middle = (grid.longitude.min() + grid.longitude.max()) / 2
    return middle + np.mod(longitude - middle + 180, 360) - 180


def _within_half_a_cell(axis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mask of the values at most half a cell (and rounding) beyond the ends of an axis."""
    ordered = np.sort(axis)
    if len(ordered) < 2:
        return np.isclose(values, ordered[0])
    low, high = (ordered[1] - ordered[0]) / 2, (ordered[-1] - ordered[-2]) / 2
    return (values >= ordered[0] - low - 1e-6) & (values <= ordered[-1] + high + 1e-6)


def _nearest_on(axis: np.ndarray, values: np.ndarray) -> np.ndarray:
    order = np.argsort(axis, kind="stable")
    ordered = axis[order]
    return order[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, values)]


def _between(axis: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the axis values below and above each value and the fraction from the one to the other;
    values beyond the ends take the end."""
    order = np.argsort(axis, kind="stable")
    ordered = axis[order]
    if len(ordered) == 1:
        zero = np.zeros(len(values), dtype=np.intp)
        return zero, zero, np.zeros(len(values))
    low = np.clip(np.searchsorted(ordered, values, side="right") - 1, 0, len(ordered) - 2)
    fraction = (values - ordered[low]) / (ordered[low + 1] - ordered[low])
    return order[low], order[low + 1], np.clip(fraction, 0, 1)
