"""A horizontal grid: where its values lie, which cells they stand for, and an identity for the whole."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import orjson

from ..lake.errors import UsageError
from . import axis, corners, mapping, sphere
from .order import Order
from .spec import GridSpec

type Kind = Literal["rectilinear", "curvilinear", "unstructured"]
type Coordinate = tuple[tuple[str, ...], np.ndarray, Mapping[str, Any]]
"""Dimensions, values and CF attributes."""

_DIMS = {"rectilinear": ("latitude", "longitude"), "curvilinear": ("y", "x"), "unstructured": ("cell",)}
_LATITUDE = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}
_LONGITUDE = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}


@dataclass(frozen=True, eq=False)
class Grid:
    """Centres of the cells in degrees, float64, in the order the fields have.

    ``rectilinear``: ``latitude`` ``(ny,)``, ``longitude`` ``(nx,)``. ``curvilinear``: both ``(ny, nx)``, with ``x``
    ``(nx,)`` and ``y`` ``(ny,)`` in metres (degrees on a rotated pole) where the grid is regular in a projection.
    ``unstructured``: both ``(n,)``; a reduced grid also has ``row_sizes``, the number of points per ring.
    ``mapping`` holds CF grid mapping attributes. Bounds are derived unless they are given, as degrees:
    ``latitude_bounds`` and ``longitude_bounds`` with the shape of the centres and 2 (rectilinear) or 4 more.
    """

    kind: Kind
    latitude: np.ndarray
    longitude: np.ndarray
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    mapping: Mapping[str, Any] = field(default_factory=lambda: mapping.SPHERE)
    given_latitude_bounds: np.ndarray | None = None
    given_longitude_bounds: np.ndarray | None = None
    row_sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        ndim = {"rectilinear": 1, "curvilinear": 2, "unstructured": 1}[self.kind]
        if self.latitude.ndim != ndim or self.longitude.ndim != ndim:
            raise UsageError(
                f"a {self.kind} grid has {ndim}-D coordinates",
                expected=ndim,
                found=(self.latitude.ndim, self.longitude.ndim),
            )
        if self.kind != "rectilinear" and self.latitude.shape != self.longitude.shape:
            raise UsageError(
                "latitude and longitude differ in shape", expected=self.latitude.shape, found=self.longitude.shape
            )
        if self.kind == "rectilinear":
            axis.checked("latitude", self.latitude)
            axis.checked("longitude", self.longitude)
        if self.latitude.size == 0 or not np.abs(self.latitude).max() <= 90 + 1e-9:
            raise UsageError(
                "latitudes must lie between the poles",
                expected="-90 to 90",
                found=f"up to {np.abs(self.latitude).max(initial=0)}",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """``(ny, nx)``, or ``(n,)`` of an unstructured grid."""
        if self.kind == "rectilinear":
            return (self.latitude.size, self.longitude.size)
        return self.latitude.shape

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape))

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions of a field."""
        return _DIMS[self.kind]

    @cached_property
    def latitude_bounds(self) -> np.ndarray:
        """Bounds of the rows of a rectilinear grid, ``(ny, 2)`` degrees in its order, never beyond a pole."""
        if self.given_latitude_bounds is not None:
            return self.given_latitude_bounds
        return axis.latitude_bounds(self.latitude)

    @cached_property
    def longitude_bounds(self) -> np.ndarray:
        """Bounds of the columns of a rectilinear grid, ``(nx, 2)`` degrees in its order, no more than one turn."""
        if self.given_longitude_bounds is not None:
            return self.given_longitude_bounds
        return axis.longitude_bounds(self.longitude)

    @cached_property
    def corners(self) -> np.ndarray:
        """Corners of all cells as unit vectors, counter-clockwise: float64 ``(size, 4, 3)``.

        Raises `UsageError` for a grid of points, which has no cells.
        """
        if self.kind == "unstructured":
            raise UsageError("a grid of points has no cells to share out; use method 'nearest'")
        if self.kind == "rectilinear":
            lat, lon = corners.of_boxes(self.latitude_bounds, self.longitude_bounds)
        elif self.given_latitude_bounds is not None and self.given_longitude_bounds is not None:
            lat, lon = self.given_latitude_bounds.reshape(-1, 4), self.given_longitude_bounds.reshape(-1, 4)
        elif self.x is not None and self.y is not None:
            return sphere.oriented(corners.around_cells(corners.nodes_of_projection(self.mapping, self.x, self.y)))
        else:
            return sphere.oriented(corners.around_cells(corners.nodes_between(self.latitude, self.longitude)))
        return sphere.oriented(sphere.unit_vectors(lat, lon))

    @cached_property
    def vectors(self) -> np.ndarray:
        """Centres as unit vectors, float64 ``(size, 3)`` in the order of the values."""
        lat, lon = self.points
        return sphere.unit_vectors(lat, lon)

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of every centre, both ``(size,)`` in the order of the values."""
        if self.kind == "rectilinear":
            lat, lon = np.meshgrid(self.latitude, self.longitude, indexing="ij")
            return lat.ravel(), lon.ravel()
        return self.latitude.ravel(), self.longitude.ravel()

    @cached_property
    def areas(self) -> np.ndarray:
        """Areas of the cells in steradians, float64 of the grid's shape.

        Exact between latitude circles for rectilinear and reduced grids, spherical polygons for curvilinear ones.
        Raises `UsageError` for a grid of points.
        """
        if self.row_sizes is not None:
            heights = np.diff(np.sin(np.radians(self.latitude_bounds)))[:, 0]
            return np.repeat(np.abs(heights) * 2 * np.pi / self.row_sizes, self.row_sizes)
        if self.kind != "rectilinear":
            return np.abs(sphere.polygon_areas(self.corners)).reshape(self.shape)
        heights = np.abs(np.diff(np.sin(np.radians(self.latitude_bounds)))[:, 0])
        return heights[:, None] * np.abs(np.diff(np.radians(self.longitude_bounds))[:, 0])

    @property
    def circles(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Rows and columns in degrees along circles of latitude, ``(ny,)`` and ``(nx,)``, of the earth or of a rotated
        pole; None of a grid that has no such axes."""
        if self.kind == "rectilinear":
            return self.latitude, self.longitude
        if self.is_rotated and self.x is not None and self.y is not None:
            return self.y, self.x
        return None

    @property
    def is_rotated(self) -> bool:
        """Whether x and y are degrees about another pole."""
        return self.mapping["grid_mapping_name"] == "rotated_latitude_longitude"

    @cached_property
    def is_periodic(self) -> bool:
        """Whether the columns go round the earth."""
        if self.circles is not None:
            return axis.is_periodic(self.circles[1])
        return self.row_sizes is not None

    @cached_property
    def repeats_its_first(self) -> bool:
        """Whether the last column is the first one again, a turn later."""
        return self.circles is not None and axis.repeats_its_first(self.circles[1])

    @cached_property
    def is_global(self) -> bool:
        """Whether the cells cover the whole earth."""
        if self.circles is None or not self.is_periodic:
            return self.row_sizes is not None
        rows = self.latitude_bounds if self.kind == "rectilinear" else axis.latitude_bounds(self.circles[0])
        return float(rows.min()) < -90 + 1e-6 and float(rows.max()) > 90 - 1e-6

    @cached_property
    def digest(self) -> str:
        """Content hash (``sha256:<hex>``) of coordinates, bounds and mapping.

        A projected grid counts by its x and y in whole micrometres: the last digits of its latitudes depend on the
        machine that computed them.
        """
        head = [self.kind, dict(self.mapping), self.row_sizes]
        content = hashlib.sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
        if self.x is not None and self.y is not None:
            arrays: tuple[np.ndarray | None, ...] = (np.round(self.x, 6), np.round(self.y, 6))
        else:
            arrays = (self.latitude, self.longitude)
        for array in (*arrays, self.given_latitude_bounds, self.given_longitude_bounds):
            if array is None:
                content.update(b"-")
            else:
                content.update(orjson.dumps(array.shape))
                # Adding zero makes -0.0 the same as 0.0.
                content.update(np.ascontiguousarray(array + 0.0, dtype="<f8"))
        return "sha256:" + content.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def coordinates(self) -> dict[str, Coordinate]:
        """Coordinate variables by name, with CF attributes, and the scalar ``spatial_ref`` with the grid mapping."""
        found: dict[str, Coordinate] = {}
        if self.kind == "rectilinear":
            found["latitude"] = (("latitude",), self.latitude, {**_LATITUDE, "axis": "Y"})
            found["longitude"] = (("longitude",), self.longitude, {**_LONGITUDE, "axis": "X"})
        else:
            if self.x is not None and self.y is not None:
                found["y"] = (("y",), self.y, self._projected("y"))
                found["x"] = (("x",), self.x, self._projected("x"))
            found["latitude"] = (self.dims, self.latitude, _LATITUDE)
            found["longitude"] = (self.dims, self.longitude, _LONGITUDE)
        found["spatial_ref"] = ((), np.array(0, dtype="int64"), mapping.attributes(self.mapping))
        return found

    def reorder(
        self,
        longitude: Literal["source", "-180", "0"] = "source",
        latitude: Literal["source", "north-south", "south-north"] = "source",
    ) -> tuple["Grid", Order]:
        """The same cells in another order, and the `Order` that brings fields ``(..., ny, nx)`` there.

        ``longitude``: west to east, beginning within -180..180 or 0..360. A grid that goes round is rolled, and a
        column that comes twice (0 and 360) is dropped; the longitudes of a regional grid stay connected, so they may
        run beyond 180 or 360. Other kinds keep their order and have their longitudes wrapped.
        ``latitude``: from north or from south. Raises `UsageError` for another kind than rectilinear.
        """
        if self.kind != "rectilinear":
            if latitude != "source":
                raise UsageError(
                    "only grids with a latitude axis can be turned", expected="rectilinear", found=self.kind
                )
            if longitude == "source":
                return self, Order()
            start = -180.0 if longitude == "-180" else 0.0
            return replace(self, longitude=_wrapped(self.longitude, start)), Order()
        columns, lon, lon_bounds = np.arange(self.longitude.size), self.longitude, self.given_longitude_bounds
        if longitude != "source":
            columns, lon = _columns_from(self.longitude, -180.0 if longitude == "-180" else 0.0, self.is_periodic)
            if lon_bounds is not None:
                lon_bounds = lon_bounds[columns] + (lon - self.longitude[columns])[:, None]
        down = bool(self.latitude[0] > self.latitude[-1])
        flip = (latitude == "north-south" and not down) or (latitude == "south-north" and down)
        rows = slice(None, None, -1) if flip else slice(None)
        bounds = None if self.given_latitude_bounds is None else self.given_latitude_bounds[rows]
        grid = replace(
            self,
            latitude=self.latitude[rows],
            longitude=lon,
            given_latitude_bounds=bounds,
            given_longitude_bounds=lon_bounds,
        )
        return grid, Order(flip, None if np.array_equal(columns, np.arange(self.longitude.size)) else columns)

    def _projected(self, name: str) -> dict[str, str]:
        if self.mapping["grid_mapping_name"] == "rotated_latitude_longitude":
            what = {"x": "longitude", "y": "latitude"}[name]
            return {"standard_name": f"grid_{what}", "units": "degrees", "axis": name.upper()}
        return {"standard_name": f"projection_{name}_coordinate", "units": "m", "axis": name.upper()}


def from_spec(spec: GridSpec) -> Grid:
    """The grid a recipe asks for: by name, from a file, or regular on WGS 84 from north to south and west to east.

    Raises `UsageError` for a name or file that is not known or a grid that cannot be recognised, `CorruptInput` for a
    file that is no netCDF.
    """
    if spec.grid is not None:
        from .named import from_name

        return from_name(spec.grid)
    if spec.file is not None:
        from .from_cf import from_file

        return from_file(spec.file)
    assert spec.spacing is not None
    west, south, east, north = spec.bbox
    nx, ny, half = round((east - west) / spec.spacing), round((north - south) / spec.spacing), spec.spacing / 2
    return Grid(
        "rectilinear",
        latitude=axis.regular(north - half, south + half, ny),
        longitude=axis.regular(west + half, east - half, nx),
        mapping=mapping.WGS84,
        given_latitude_bounds=axis.pairs(axis.regular(north, south, ny + 1)),
        given_longitude_bounds=axis.pairs(axis.regular(west, east, nx + 1)),
    )


def from_coordinates(
    latitude: np.ndarray,
    longitude: np.ndarray,
    latitude_bounds: np.ndarray | None = None,
    longitude_bounds: np.ndarray | None = None,
) -> Grid:
    """A grid from axes (1-D each: rectilinear) or from 2-D arrays of the same shape (curvilinear), degrees.

    Bounds, with 2 respectively 4 values a centre (CF's order), are derived from the centres when they are not given.
    Raises `UsageError` for shapes that do not fit or axes that are not monotonic.
    """
    lat, lon = np.asarray(latitude, dtype="float64"), np.asarray(longitude, dtype="float64")
    bounds = [None if b is None else np.asarray(b, dtype="float64") for b in (latitude_bounds, longitude_bounds)]
    corners_each = 2 if lat.ndim == 1 else 4
    for centres, edge in zip((lat, lon), bounds, strict=True):
        if edge is not None and edge.shape != (*centres.shape, corners_each):
            raise UsageError(
                "bounds do not fit their centres", expected=(*centres.shape, corners_each), found=edge.shape
            )
    return Grid(
        "rectilinear" if lat.ndim == 1 else "curvilinear",
        lat,
        lon,
        given_latitude_bounds=bounds[0],
        given_longitude_bounds=bounds[1],
    )


def _wrapped(longitude: np.ndarray, start: float) -> np.ndarray:
    turns = np.floor((longitude - start) / 360)
    # Whole turns taken off, not a modulo: coordinates that are in range keep their very digits.
    return np.where(turns == 0, longitude, np.round(longitude - 360 * turns, 10))


def _columns_from(longitude: np.ndarray, start: float, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    columns = np.arange(longitude.size)
    if longitude.size > 1 and longitude[0] > longitude[-1]:
        columns = columns[::-1]
    if not periodic:
        ordered = longitude[columns]
        return columns, np.round(ordered + (_wrapped(ordered[:1], start) - ordered[:1]), 10)
    if axis.repeats_its_first(longitude):
        columns = columns[:-1]
    wrapped = _wrapped(longitude[columns], start)
    first = int(np.argmin(wrapped))
    return np.roll(columns, -first), np.roll(wrapped, -first)
