"""Exporter ``points``: time series at places, as JSON, GeoJSON, CoverageJSON, CSV or Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import orjson
from pydantic import Field, field_validator

from ..checks.conversion import conversion
from ..lake.errors import UsageError
from ..lake.registry import Strict
from . import coverage_json, point_tables
from .exporter import Exporter, exporters
from .fields import Horizontal, fields, horizontal, init_time, lead_hours, utc_text, valid_times
from .locate import Places, bilinear, great_circle_km, nearest

if TYPE_CHECKING:
    import xarray as xr

_METHODS = {"nearest": nearest, "bilinear": bilinear}
_ATTRIBUTES = ("units", "long_name", "standard_name", "cell_methods", "step_type")
_HEAD = ("title", "source", "attribution")
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class Point(Strict):
    """A place by name and coordinates in degrees; longitude may be written -180..180 or 0..360."""

    name: str = Field(min_length=1)
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=360)


type Series = dict[str, tuple[xr.DataArray, np.ndarray]]
"""Variable -> what it is, and its values along its dimensions without y and x, then the point."""


@dataclass(frozen=True, eq=False)
class Located:
    """Points found on a grid: cells with weights, and per point the grid's own coordinates in degrees
    (-180..180; of the cell for nearest, of the point itself for bilinear) and the distance to the nearest
    cell centre in km."""

    places: Places
    latitude: np.ndarray
    longitude: np.ndarray
    distance_km: np.ndarray


@exporters.register("points")
class Points(Exporter):
    """Time series of a run at named places, one file.

    ``json``::

        {"title", "source", "attribution",       as the cube has them
         "init_time": "2026-11-20T00:00:00Z",
         "time_zone": "UTC", "method": "nearest",
         "lead_time": [0.0, 3.0, ...],           hours
         "valid_time": ["2026-11-20T00:00:00Z", ...],
         "variables": {"t": {"units", "long_name", "standard_name", "cell_methods", "step_type",
                             "dimensions": ["level", "member", "lead_time"],
                             "level": [850.0, 500.0], "level_units": "hPa", "member": [0, 1]}},
         "points": [{"name", "requested": {"latitude", "longitude"},
                     "grid": {"latitude", "longitude"}, "distance_km",
                     "values": {"t": nested lists along the variable's dimensions, null where missing}}]}

    ``geojson``: a FeatureCollection (RFC 7946) with the same members beside ``features``; a feature's
    properties are an entry of ``points``, its geometry the requested place.

    ``covjson``: a CoverageJSON 1.0 collection (OGC 21-069r2), a PointSeries per point (and member), a parameter per
    variable (and level). Times are UTC there, whatever the zone.

    ``csv``: a row per point, member and lead time; a column per variable (and level), its unit in brackets;
    empty where missing. ``parquet``: the same as a table, columns without units, ``valid_time`` as a timestamp in the
    zone; the units are JSON in the file's metadata under ``units``.
    """

    type: Literal["points"] = "points"
    points: tuple[Point, ...] = Field(min_length=1)
    variables: tuple[str, ...] | None = Field(default=None, description="Variables to export; all when absent.")
    format: Literal["json", "geojson", "covjson", "csv", "parquet"] = "json"
    method: Literal["nearest", "bilinear"] = Field(default="nearest", description="nearest: by great-circle distance.")
    time_zone: str = Field(default="UTC", description="IANA name of the zone in which valid_time is written.")
    units: dict[str, str] = Field(
        default={}, description="Units by variable (t2m: degC); as the cube has them when absent."
    )

    @field_validator("points")
    @classmethod
    def _unique(cls, value: tuple[Point, ...]) -> tuple[Point, ...]:
        names = [p.name for p in value]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"names a point twice: {', '.join(twice)}")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no IANA time zone, such as UTC or Europe/Amsterdam") from None
        return value

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        grid = horizontal(run)
        located = self._locate(grid)
        chosen = fields(run, self.variables)
        if unknown := sorted(set(self.units) - {str(f.name) for f in chosen}):
            raise UsageError(f"'units' names {unknown[0]!r}, which is not among the variables exported")
        series = {str(f.name): converted(f, read(f, grid, located.places), self.units.get(str(f.name))) for f in chosen}
        path = folder / f"{self.name}.{self.format}"
        if self.format in ("csv", "parquet", "covjson"):
            table = self._table(run, located, series)
            if self.format == "csv":
                point_tables.write_csv(path, table, self.time_zone)
            elif self.format == "parquet":
                point_tables.write_parquet(path, table, self.time_zone)
            else:
                path.write_bytes(orjson.dumps(coverage_json.collection(table), option=_JSON))
        else:
            document = self._document(run, located, series)
            path.write_bytes(orjson.dumps(_geojson(document) if self.format == "geojson" else document, option=_JSON))
        return [path]

    def _table(self, run: xr.Dataset, located: Located, series: Series) -> point_tables.Table:
        """The series as columns, a column a variable and level."""
        members = run["member"].values if any("member" in a.dims for a, _ in series.values()) else None
        columns = [c for array, values in series.values() for c in point_tables.columns(array, values)]
        return point_tables.Table(
            names=[p.name for p in self.points],
            latitude=np.array([p.latitude for p in self.points]),
            longitude=np.array([p.longitude for p in self.points]),
            grid_latitude=located.latitude, grid_longitude=located.longitude, distance_km=located.distance_km,
            lead_time=lead_hours(run), valid_time=valid_times(run), init_time=init_time(run), members=members,
            columns=columns, about={k: str(run.attrs[k]) for k in _HEAD if k in run.attrs},
        )  # fmt: skip

    def _locate(self, grid: Horizontal) -> Located:
        lat = np.array([p.latitude for p in self.points])
        lon = np.array([p.longitude for p in self.points])
        places, inside = _METHODS[self.method](grid, lat, lon)
        if not inside.all():
            outside = ", ".join(
                f"{p.name} ({p.latitude:g}, {p.longitude:g})"
                for p, ok in zip(self.points, inside, strict=True)
                if not ok
            )
            raise UsageError("points lie outside the grid", expected=grid.describe(), found=outside)
        cell = places if self.method == "nearest" else nearest(grid, lat, lon)[0]
        row, column = cell.rows[:, 0], cell.columns[:, 0]
        cell_lat = grid.latitude[row] if grid.regular else grid.latitude[row, column]
        cell_lon = grid.longitude[column] if grid.regular else grid.longitude[row, column]
        distance = np.round(great_circle_km(lat, lon, cell_lat, cell_lon), 3)
        if self.method == "bilinear":
            cell_lat, cell_lon = lat, lon
        return Located(places, np.round(cell_lat, 6), np.round(_signed(cell_lon), 6), distance)

    def _document(self, run: xr.Dataset, located: Located, series: Series) -> dict[str, Any]:
        head = {k: run.attrs[k] for k in _HEAD if k in run.attrs}
        return head | {
            "init_time": utc_text(init_time(run)),
            "time_zone": self.time_zone,
            "method": self.method,
            "lead_time": lead_hours(run).tolist(),
            "valid_time": point_tables.times(valid_times(run), self.time_zone),
            "variables": {name: _describe(array) for name, (array, _) in series.items()},
            "points": [
                {
                    "name": point.name,
                    "requested": {"latitude": point.latitude, "longitude": point.longitude},
                    "grid": {"latitude": located.latitude[i], "longitude": located.longitude[i]},
                    "distance_km": located.distance_km[i],
                    "values": {name: np.ascontiguousarray(values[..., i]) for name, (_, values) in series.items()},
                }
                for i, point in enumerate(self.points)
            ],
        }


def read(array: xr.DataArray, grid: Horizontal, places: Places) -> np.ndarray:
    """Values at places, in one read: the array's dimensions without y and x, then the point.

    A missing corner makes a bilinear value missing, unless it has no weight.
    """
    import xarray as xr

    at = ("point", "corner")
    picked = array.isel({grid.y: xr.DataArray(places.rows, dims=at), grid.x: xr.DataArray(places.columns, dims=at)})
    values = picked.transpose(..., *at).load().values
    if places.weights.shape[1] == 1:
        return values[..., 0]
    return np.where(places.weights == 0, 0, values * places.weights).sum(axis=-1).astype(values.dtype)


def converted(array: xr.DataArray, values: np.ndarray, units: str | None) -> tuple[xr.DataArray, np.ndarray]:
    """A variable and its values in other units (as they are without any).

    Spreads are differences: of kelvins there are as many as of degrees Celsius. Raises ``UsageError`` for units that do
    not measure the same, and for variances.
    """
    if units is None:
        return array, values
    factor, offset = conversion(str(array.attrs.get("units", "1")), units)
    methods = str(array.attrs.get("cell_methods", ""))
    if "variance" in methods:
        raise UsageError(f"the units of {array.name!r} are squares; leave it out of 'units'")
    if "standard_deviation" in methods:
        offset = 0.0
    # In float64: 273.15 is no float32.
    return array.assign_attrs(units=units), (values * np.float64(factor) + offset).astype(values.dtype)


def _describe(array: xr.DataArray) -> dict[str, Any]:
    text = {k: array.attrs[k] for k in _ATTRIBUTES if array.attrs.get(k) not in (None, "")}
    outer = [str(d) for d in array.dims[:-2]]
    text["dimensions"] = outer
    for dim in outer:
        if dim != "lead_time":
            text[dim] = array[dim].values.tolist()
            if array[dim].attrs.get("units", "1") != "1":
                text[f"{dim}_units"] = array[dim].attrs["units"]
    return text


def _geojson(document: dict[str, Any]) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Point",
                "coordinates": [float(_signed(np.array(p["requested"]["longitude"]))), p["requested"]["latitude"]],
            },
            "properties": p,
        }
        for p in document["points"]
    ]
    rest = {k: v for k, v in document.items() if k != "points"}
    return {"type": "FeatureCollection"} | rest | {"features": features}


def _signed(longitude: np.ndarray) -> np.ndarray:
    """Longitude in -180..180."""
    return np.mod(longitude + 180, 360) - 180
