"""Exporter ``points``: time series at places, as JSON, CSV or GeoJSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import orjson
from pydantic import Field, field_validator

from ..lake.errors import UsageError
from ..lake.registry import Strict
from .exporter import Exporter, exporters
from .fields import Horizontal, fields, horizontal, init_time, lead_hours, utc_text, valid_times
from .locate import Places, bilinear, great_circle_km, nearest

if TYPE_CHECKING:
    import xarray as xr

_METHODS = {"nearest": nearest, "bilinear": bilinear}
_ATTRIBUTES = ("units", "long_name", "standard_name", "cell_methods", "step_type")
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class Point(Strict):
    """A place by name and coordinates in degrees; longitude may be written -180..180 or 0..360."""

    name: str = Field(min_length=1)
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=360)


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

    ``csv``: a row per point, member and lead time; a column per variable (and level), its unit in brackets;
    empty where missing.
    """

    type: Literal["points"] = "points"
    points: tuple[Point, ...] = Field(min_length=1)
    variables: tuple[str, ...] | None = Field(default=None, description="Variables to export; all when absent.")
    format: Literal["json", "csv", "geojson"] = "json"
    method: Literal["nearest", "bilinear"] = Field(default="nearest", description="nearest: by great-circle distance.")
    time_zone: str = Field(default="UTC", description="IANA name of the zone in which valid_time is written.")

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
        located = self._locate(horizontal(run))
        series = {str(f.name): (f, read(f, horizontal(run), located.places)) for f in fields(run, self.variables)}
        path = folder / f"{self.name}.{self.format}"
        if self.format == "csv":
            self._write_csv(path, run, located, series)
        else:
            document = self._document(run, located, series)
            path.write_bytes(orjson.dumps(_geojson(document) if self.format == "geojson" else document, option=_JSON))
        return [path]

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

    def _times(self, run: xr.Dataset) -> list[str]:
        if self.time_zone == "UTC":
            return [utc_text(t) for t in valid_times(run)]
        zone = ZoneInfo(self.time_zone)
        return [t.replace(tzinfo=UTC).astimezone(zone).isoformat() for t in valid_times(run).tolist()]

    def _document(
        self, run: xr.Dataset, located: Located, series: dict[str, tuple[xr.DataArray, np.ndarray]]
    ) -> dict[str, Any]:
        head = {k: run.attrs[k] for k in ("title", "source", "attribution") if k in run.attrs}
        return head | {
            "init_time": utc_text(init_time(run)),
            "time_zone": self.time_zone,
            "method": self.method,
            "lead_time": lead_hours(run).tolist(),
            "valid_time": self._times(run),
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

    def _write_csv(
        self, path: Path, run: xr.Dataset, located: Located, series: dict[str, tuple[xr.DataArray, np.ndarray]]
    ) -> None:
        import polars as pl

        members = run["member"].values if any("member" in a.dims for a, _ in series.values()) else None
        shape = (len(self.points), 1 if members is None else len(members), run.sizes["lead_time"])

        def spread(values: np.ndarray, axis: int) -> np.ndarray:
            return np.broadcast_to(values.reshape([-1 if a == axis else 1 for a in range(3)]), shape).ravel()

        columns: dict[str, Any] = {
            "point": spread(np.array([p.name for p in self.points], dtype=object), 0).tolist(),
            "latitude": spread(np.array([p.latitude for p in self.points]), 0),
            "longitude": spread(np.array([p.longitude for p in self.points]), 0),
            "grid_latitude": spread(located.latitude, 0),
            "grid_longitude": spread(located.longitude, 0),
            "distance_km": spread(located.distance_km, 0),
            "lead_time [h]": spread(lead_hours(run), 2),
            "valid_time": spread(np.array(self._times(run), dtype=object), 2).tolist(),
        }
        if members is not None:
            columns["member"] = spread(members, 1)
        for array, values in series.values():
            for label, part in _columns(array, values):
                # To (point, member, lead_time); a variable without members holds for each of them.
                part = np.moveaxis(part, -1, 0)
                columns[label] = np.broadcast_to(part if "member" in array.dims else part[:, None, :], shape).ravel()
        pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None)).write_csv(path)


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


def _columns(array: xr.DataArray, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Column labels and values ``([member] lead_time point)`` of a variable, one a level (and any other axis)."""
    outer = [str(d) for d in array.dims[:-2] if d not in ("member", "lead_time")]
    units = f" [{array.attrs['units']}]" if array.attrs.get("units") else ""
    for index in np.ndindex(*(array.sizes[d] for d in outer)):
        labels = [array[d].values[i] for d, i in zip(outer, index, strict=True)]
        name = "_".join(
            [str(array.name), *(f"{v:g}" if isinstance(v, (int, float, np.number)) else str(v) for v in labels)]
        )
        yield f"{name}{units}", values[index]


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
