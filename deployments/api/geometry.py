"""Where a request asks for data: WKT and boxes, made into cells of a grid."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from tasks.exports.fields import Horizontal
from tasks.exports.locate import Places, bilinear, great_circle_km, nearest
from tasks.serving.reader import Box, Cells

from .refusals import Refused

METHODS = {"nearest": nearest, "bilinear": bilinear}
_NEAR = 1e-9


@dataclass(frozen=True, eq=False)
class Points:
    """Points that were found on a grid: as asked for (degrees), the cells, and those cells' places.

    ``latitude`` and ``longitude`` are of the cell (nearest) or the point itself (bilinear), longitude -180..180;
    ``distance_km`` is to the nearest cell's centre.
    """

    names: tuple[str, ...]
    asked_latitude: np.ndarray
    asked_longitude: np.ndarray
    places: Places
    latitude: np.ndarray
    longitude: np.ndarray
    distance_km: np.ndarray

    @property
    def cells(self) -> Cells:
        """The cells to be read: those of the first point, of the second..."""
        return Cells(self.places.rows.ravel(), self.places.columns.ravel())


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a grid. On a regular grid ``x`` and ``y`` are the axes of the box and ``mask`` says which of its cells
    are meant, None for all; on a curvilinear one they are the places of each cell. Longitudes grow eastwards from the
    western edge of what was asked for, beyond 180 where that lies across it."""

    place: Box | Cells
    x: np.ndarray
    y: np.ndarray
    mask: np.ndarray | None = None


def points(text: str) -> list[tuple[float, float]]:
    """Longitude and latitude of the points of a WKT ``POINT`` or ``MULTIPOINT``."""
    shape = _wkt(text)
    if shape.geom_type not in ("Point", "MultiPoint") or shape.is_empty:
        raise Refused(400, "coords must be a POINT or MULTIPOINT in WKT, such as POINT(5.2 52.1)")
    return [(float(x), float(y)) for x, y in shapely.get_coordinates(shape)]


def locate(
    grid: Horizontal, names: tuple[str, ...], lonlat: list[tuple[float, float]], method: str, search: object = None
) -> Points:
    """Points of the earth on a grid. Raises ``Refused`` (404) when one lies outside."""
    lon, lat = np.array(lonlat, dtype="float64").reshape(-1, 2).T
    if method == "bilinear" and not grid.regular:
        raise Refused(400, "method 'bilinear' needs a grid with latitude and longitude axes; use 'nearest' here")
    if grid.regular or not callable(search):
        near, inside = nearest(grid, lat, lon)
    else:
        rows, columns, inside = search(lat, lon)
        near = Places(rows[:, None], columns[:, None], np.ones((len(rows), 1)))
    places = near
    if method == "bilinear":
        places, inside = bilinear(grid, lat, lon)
    if not inside.all():
        at = int(np.flatnonzero(~inside)[0])
        raise Refused(404, f"{lat[at]:g}, {lon[at]:g} lies outside the grid ({grid.describe()})")
    row, column = near.rows[:, 0], near.columns[:, 0]
    cell_lat = grid.latitude[row] if grid.regular else grid.latitude[row, column]
    cell_lon = grid.longitude[column] if grid.regular else grid.longitude[row, column]
    distance = np.round(great_circle_km(lat, lon, cell_lat, cell_lon), 3)
    if method == "bilinear":
        cell_lat, cell_lon = lat, lon
    return Points(
        names, lat, lon, places, np.round(cell_lat, 6), np.round(np.mod(cell_lon + 180, 360) - 180, 6), distance
    )


def polygon(text: str) -> BaseGeometry:
    """A WKT ``POLYGON`` or ``MULTIPOLYGON`` with an inside, in degrees."""
    shape = _wkt(text)
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise Refused(400, "coords must be a POLYGON or MULTIPOLYGON in WKT, such as POLYGON((4 51,6 51,6 53,4 51))")
    if not shape.is_valid or not shape.area:
        raise Refused(400, "the polygon crosses itself or has no inside")
    west, _, east, _ = shape.bounds
    if east - west > 360:
        raise Refused(400, "the polygon is wider than the earth")
    return shape


def bounds(text: str) -> tuple[float, float, float, float, tuple[float, float] | None]:
    """West, south, east, north of a ``bbox`` of four or six numbers; east is beyond west, if need be beyond 180.

    The fifth is the range of levels of six numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 6) or not all(map(math.isfinite, numbers)):
        raise Refused(400, "bbox must be four or six numbers: west,south[,lowest],east,north[,highest]")
    half = len(numbers) // 2
    (west, south, *low), (east, north, *high) = numbers[:half], numbers[half:]
    _on_earth(np.array([west, east]), np.array([south, north]))
    if south > north:
        raise Refused(400, "bbox has its south above its north")
    # Across the antimeridian a box's west is larger than its east (RFC 7946, section 5.2).
    if east < west:
        east += 360
    levels = (min(low[0], high[0]), max(low[0], high[0])) if low else None
    return west, south, min(east, west + 360), north, levels


def region(
    grid: Horizontal, west: float, south: float, east: float, north: float, inside: BaseGeometry | None = None
) -> Region:
    """The cells whose centres lie in a box, and (``inside``) in a polygon. Raises ``Refused`` (404) when none does."""
    turned = np.mod(grid.longitude - west + _NEAR, 360) - _NEAR
    on_x = turned <= east - west + _NEAR
    on_y = (grid.latitude >= south - _NEAR) & (grid.latitude <= north + _NEAR)
    if grid.regular:
        rows, columns = np.flatnonzero(on_y), np.flatnonzero(on_x)
        columns = columns[np.argsort(turned[columns], kind="stable")]
        found = Region(Box(rows, columns), np.round(west + turned[columns], 9), grid.latitude[rows])
    else:
        at, along = np.nonzero(on_x & on_y)
        found = Region(Cells(at, along), np.round(west + turned[at, along], 9), grid.latitude[at, along])
    if not found.x.size or not found.y.size:
        raise Refused(404, f"no cell's centre lies in what was asked for; the grid has {grid.describe()}")
    return found if inside is None else _within(found, inside)


def _within(found: Region, shape: BaseGeometry) -> Region:
    shapely.prepare(shape)
    if isinstance(found.place, Cells):
        inside = shapely.intersects_xy(shape, found.x, found.y)
        kept = Region(Cells(found.place.rows[inside], found.place.columns[inside]), found.x[inside], found.y[inside])
        empty = not kept.x.size
    else:
        mask = shapely.intersects_xy(shape, *np.meshgrid(found.x, found.y))
        kept, empty = Region(found.place, found.x, found.y, mask), not mask.any()
    if empty:
        raise Refused(404, "no cell's centre lies in the polygon")
    return kept


def _wkt(text: str) -> BaseGeometry:
    try:
        with warnings.catch_warnings():
            # GEOS says by a warning that a number is none; it is found below.
            warnings.simplefilter("ignore")
            shape = shapely.from_wkt(text)
    except (shapely.errors.ShapelyError, ValueError, TypeError):
        shape = None
    # The parser takes a NUL for the end of the text.
    if shape is None or "\0" in text:
        raise Refused(400, "coords must be a geometry in WKT, such as POINT(5.2 52.1)")
    x, y = shapely.get_coordinates(shape).T
    _on_earth(x, y)
    return shape


def _on_earth(x: np.ndarray, y: np.ndarray) -> None:
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise Refused(400, "coordinates must be finite numbers")
    if (np.abs(y) > 90).any():
        raise Refused(400, "latitudes are between -90 and 90 degrees; in WKT the longitude comes first")
    if (np.abs(x) > 540).any():
        raise Refused(400, "longitudes are between -180 and 360 degrees")
