"""Runs as exporters take them, made up: smooth fields on a global, regional or Lambert grid."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from tasks.exports.exporter import Source

Kind = Literal["global", "global-360", "regional", "lambert"]

_TIME = {"standard_name": "time", "long_name": "time for which the forecast holds"}


def _axes(kind: Kind) -> tuple[tuple[str, str], np.ndarray, np.ndarray, dict[str, xr.Variable]]:
    if kind == "lambert":
        import pyproj

        x, y = np.arange(60) * 40e3 - 1200e3, np.arange(40) * 40e3 - 800e3
        lcc = pyproj.CRS.from_dict(
            {"proj": "lcc", "lat_1": 38.5, "lat_2": 38.5, "lat_0": 38.5, "lon_0": -97.5, "R": 6371229}
        )
        lon, lat = pyproj.Transformer.from_crs(lcc, 4326, always_xy=True).transform(*np.meshgrid(x, y))
        mapping = {k: v for k, v in lcc.to_cf().items() if not isinstance(v, bool)}
        extra = {
            "x": xr.Variable("x", x, {"standard_name": "projection_x_coordinate", "units": "m"}),
            "y": xr.Variable("y", y, {"standard_name": "projection_y_coordinate", "units": "m"}),
            "spatial_ref": xr.Variable((), 0, mapping),
        }
        return ("y", "x"), lat, lon, extra
    extra = {"spatial_ref": xr.Variable((), 0, {"grid_mapping_name": "latitude_longitude", "earth_radius": 6371229.0})}
    dims = ("latitude", "longitude")
    if kind == "regional":
        return dims, np.arange(60, 40 - 0.1, -0.5), np.arange(-10, 20.1, 0.5), extra
    west = 0.0 if kind == "global-360" else -180.0
    return dims, np.arange(90, -90.1, -2.0), west + np.arange(0, 360, 2.0), extra


def make_run(
    kind: Kind = "global", *, members: int = 3, levels: tuple[float, ...] = (850.0, 500.0), nan: bool = True
) -> xr.Dataset:
    """A run of 2026-11-20T00 with lead times 0, 6, 12 h and the variables ``t2m``, ``tp``, ``msl`` and ``t``
    (on levels); ``members=0`` and ``levels=()`` leave those dimensions out. ``nan`` puts holes into ``tp``."""
    dims, lat, lon, extra = _axes(kind)
    lead = np.array([0, 6, 12], dtype="timedelta64[h]").astype("timedelta64[ns]")
    init = np.datetime64("2026-11-20T00", "ns")
    lat2, lon2 = (lat, lon) if lat.ndim == 2 else np.meshgrid(lat, lon, indexing="ij")
    base = 300 - 60 * np.sin(np.radians(lat2)) ** 2 + 8 * np.sin(np.radians(2 * lon2)) * np.cos(np.radians(lat2))
    hours = lead / np.timedelta64(1, "h")
    outer, shape = ["lead_time"], [3]
    field = base + hours[:, None, None] / 6
    if members:
        outer, shape = [*outer, "member"], [*shape, members]
        field = field[:, None] + np.arange(members)[:, None, None] * 0.5
    field = field.astype("float32")

    rain = np.maximum(0, 4e-3 * np.sin(np.radians(5 * lon2)) * np.cos(np.radians(3 * lat2))) * hours[:, None, None]
    rain = np.broadcast_to(rain[:, None] if members else rain, field.shape).astype("float32").copy()
    if nan:
        rain[0] = np.nan
        rain[..., 3:5, 4:9] = np.nan
    pressure = (101325 + 1500 * np.cos(np.radians(3 * lon2)) * np.cos(np.radians(lat2)) + 0 * field).astype("float32")

    def along(values: np.ndarray, **attrs: str) -> xr.Variable:
        mapping = {"grid_mapping": "spatial_ref"} | ({"coordinates": "latitude longitude"} if lat.ndim == 2 else {})
        return xr.Variable((*outer, *dims), values, attrs | mapping)

    data = {
        "t2m": along(field, units="K", standard_name="air_temperature", long_name="2 metre temperature"),
        "tp": along(rain, units="m", long_name="total precipitation", step_type="accum", cell_methods="lead_time: sum"),
        "msl": along(
            pressure, units="Pa", standard_name="air_pressure_at_mean_sea_level", long_name="mean sea level pressure"
        ),
    }
    if levels:
        at = len(outer)
        stacked = np.stack([field - (1000 - level) / 8 for level in levels], axis=at).astype("float32")
        attrs = {
            "units": "K",
            "standard_name": "air_temperature",
            "long_name": "temperature",
            "grid_mapping": "spatial_ref",
        }
        data["t"] = xr.Variable((*outer, "level", *dims), stacked, attrs)
    coords = {
        "init_time": xr.Variable((), init, {"standard_name": "forecast_reference_time"}),
        "lead_time": xr.Variable("lead_time", lead, {"standard_name": "forecast_period"}),
        "valid_time": xr.Variable("lead_time", init + lead, _TIME),
        "latitude": xr.Variable(
            dims if lat.ndim == 2 else dims[:1], lat, {"units": "degrees_north", "standard_name": "latitude"}
        ),
        "longitude": xr.Variable(
            dims if lon.ndim == 2 else dims[1:], lon, {"units": "degrees_east", "standard_name": "longitude"}
        ),
    } | extra
    if members:
        coords["member"] = xr.Variable(
            "member", np.arange(members, dtype="int16"), {"standard_name": "realization", "units": "1"}
        )
    if levels:
        coords["level"] = xr.Variable(
            "level", np.array(levels), {"standard_name": "air_pressure", "units": "hPa", "positive": "down"}
        )
    attrs = {"title": "Made-up model", "source": "formula", "attribution": "public domain"}
    return xr.Dataset(data, coords, attrs)


class MadeRuns(Source):
    """Runs in memory as the source of an export; it has no messages."""

    def __init__(self, runs: Sequence[xr.Dataset]) -> None:
        self._runs = runs

    def run(self) -> xr.Dataset:
        return self._runs[-1]

    def runs(self) -> xr.Dataset:
        # What differs by run, as in a cube: everything that lies along lead_time, and valid_time.
        along = [
            run.assign_coords(valid_time=("lead_time", run["valid_time"].values, run["valid_time"].attrs))
            for run in self._runs
        ]
        return xr.concat(
            along, "init_time", data_vars=list(along[0].data_vars), coords=["valid_time"], compat="override",
            join="override", combine_attrs="override",
        )  # fmt: skip

    def manifest(self) -> Any:
        raise AssertionError("an exporter of cubes asked for the manifest")

    def messages(self, rows: Any) -> Iterator[bytes]:
        raise AssertionError("an exporter of cubes asked for messages")
