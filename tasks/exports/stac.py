"""STAC of published data: a run of a cube as an item (datacube extension), files as assets (file extension)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.catalogue import FILE_EXTENSION, checksum, from_item
from ..lake.partition import Output
from .fields import Horizontal, field_names, horizontal, init_time, lead_hours, utc_text, valid_times

if TYPE_CHECKING:
    import xarray as xr

DATACUBE = "https://stac-extensions.github.io/datacube/v2.2.0/schema.json"
FORECAST = "https://stac-extensions.github.io/forecast/v0.2.0/schema.json"

ZARR = "application/vnd.zarr; version=3"
ICECHUNK = "application/vnd.zarr; version=3; profile=icechunk"

MEDIA_TYPES = {
    ".nc": "application/x-netcdf", ".json": "application/json", ".geojson": "application/geo+json",
    ".covjson": "application/vnd.cov+json", ".csv": "text/csv", ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png", ".apng": "image/apng", ".gif": "image/gif", ".webp": "image/webp", ".html": "text/html",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized", ".grib2": "application/wmo-GRIB2",
    ".zarr": ZARR, ".icechunk": ICECHUNK, "": "text/plain",
}  # fmt: skip
"""Ending of a file -> media type."""


def item(run: xr.Dataset, title: str) -> dict[str, Any]:
    """A run (see `exporter.Source.run`) as a STAC item without links and assets: its place, its time, its axes."""
    grid = horizontal(run)
    times, start = valid_times(run), utc_text(init_time(run))
    box = _box(grid)
    return {
        "stac_extensions": [DATACUBE, FILE_EXTENSION, FORECAST],
        "geometry": _polygon(box),
        "bbox": box,
        "properties": {
            "title": f"{title}, run of {start[:16]}Z",
            "datetime": start,
            "start_datetime": utc_text(times.min()),
            "end_datetime": utc_text(times.max()),
            "forecast:reference_datetime": start,
            "cube:dimensions": _dimensions(run, grid),
            "cube:variables": {name: _variable(run[name]) for name in field_names(run)},
        },
        "assets": {},
    }


def asset(outputs: Output | Sequence[Output], roles: Sequence[str], key: str | None = None) -> dict[str, Any]:
    """An output as an asset, with its checksum; several (the objects of one store, which is at ``key``) with their
    size, as their checksums are in a file beside the store."""
    if isinstance(outputs, Output):
        key, about = outputs.uri, checksum(outputs)
    else:
        key, about = key or outputs[0].uri, {"file:size": sum(o.bytes for o in outputs)}
    kind = MEDIA_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")
    return {"href": from_item(key), "type": kind, "roles": list(roles), **about}


def _dimensions(run: xr.Dataset, grid: Horizontal) -> dict[str, Any]:
    times = valid_times(run)
    found: dict[str, Any] = {
        "init_time": {"type": "temporal", "values": [utc_text(init_time(run))]},
        "lead_time": {
            "type": "lead_time", "values": lead_hours(run).tolist(), "unit": "h",
            "description": f"hours since init_time; valid from {utc_text(times.min())} to {utc_text(times.max())}",
        },
    }  # fmt: skip
    for dim in sorted({str(d) for n in field_names(run) for d in run[n].dims} - {"lead_time", grid.y, grid.x}):
        values = run[dim].values.tolist() if dim in run.coords else list(range(run.sizes[dim]))
        found[dim] = {"type": "spatial", "axis": "z"} if dim == "level" else {"type": dim}
        found[dim] |= {"values": values}
        if units := run[dim].attrs.get("units") if dim in run.coords else None:
            found[dim]["unit"] = units
    for dim, axis in ((grid.y, "y"), (grid.x, "x")):
        values = run[dim].values if dim in run.coords else np.arange(run.sizes[dim])
        found[dim] = {
            "type": "spatial", "axis": axis, "extent": [float(values.min()), float(values.max())],
            "reference_system": 4326 if grid.regular else _wkt(run),
        }  # fmt: skip
        if found[dim]["reference_system"] is None:
            del found[dim]["reference_system"]
        steps = np.diff(values.astype("float64"))
        if len(steps) and np.allclose(steps, steps[0], rtol=1e-3):
            found[dim]["step"] = round(float(abs(steps.mean())), 9)
    return found


def _wkt(run: xr.Dataset) -> str | None:
    return next((str(v.attrs["crs_wkt"]) for v in run.variables.values() if "crs_wkt" in v.attrs), None)


def _variable(array: xr.DataArray) -> dict[str, Any]:
    words = {"unit": array.attrs.get("units"), "description": array.attrs.get("long_name")}
    dims = ["init_time", *(str(d) for d in array.dims)]
    return {"dimensions": dims, "type": "data", **{k: str(v) for k, v in words.items() if v}}


def _box(grid: Horizontal) -> list[float]:
    """West, south, east, north of the cells' centres in degrees, west from -180 on; the whole turn of a global grid."""
    latitude = grid.latitude[np.isfinite(grid.latitude)]
    south, north = float(latitude.min()), float(latitude.max())
    if grid.global_longitude:
        return [-180.0, south, 180.0, north]
    longitude = np.sort(np.unique(np.mod(grid.longitude[np.isfinite(grid.longitude)] + 180, 360) - 180))
    # The widest gap between neighbours is what the grid leaves out; where that lies inside, it crosses the date line.
    gaps = np.diff(np.append(longitude, longitude[0] + 360))
    at = int(np.argmax(gaps))
    west, east = longitude[(at + 1) % len(longitude)], longitude[at]
    return [round(float(west), 6), round(south, 6), round(float(east), 6), round(north, 6)]


def _polygon(box: Sequence[float]) -> dict[str, Any]:
    west, south, east, north = box

    def ring(left: float, right: float) -> list[list[list[float]]]:
        return [[[left, south], [right, south], [right, north], [left, north], [left, south]]]

    if west <= east:
        return {"type": "Polygon", "coordinates": ring(west, east)}
    # RFC 7946, section 3.1.9: cut at the antimeridian.
    return {"type": "MultiPolygon", "coordinates": [ring(west, 180.0), ring(-180.0, east)]}
