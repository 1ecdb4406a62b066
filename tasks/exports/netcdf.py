"""Exporter ``netcdf``: a run, or a part of it, as one CF NetCDF-4 file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ..lake.errors import UsageError
from ..lake.hdf5 import HDF5
from .box import Box, compact, window
from .exporter import Exporter, exporters
from .fields import Horizontal, fields, horizontal, init_time, lead_hours, steps_at, utc_text, valid_times

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"
_CHUNK_BYTES = 4 * 2**20

_HIDDEN = ("coordinates", "grid_mapping", "_FillValue", "missing_value", "keep_bits", "dtype", "_ARRAY_DIMENSIONS")
"""Attributes of a cube's variable that the writer sets itself, or that say nothing of the file's content."""

_AXES: dict[str, dict[str, str]] = {
    "latitude": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"},
    "longitude": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"},
}
"""CF attributes where the cube has none."""


@exporters.register("netcdf")
class NetCDF(Exporter):
    """A run as one NetCDF-4 file, CF-1.11, zlib-compressed.

    Dimensions of a variable: ``[member] time [level] latitude longitude`` (or ``y x``); ``time`` is the
    valid time, ``lead_time(time)`` the forecast period in hours, ``init_time`` a scalar. The file holds
    no history and no time of writing: the same input gives the same bytes with the same libraries
    (NetCDF-4 notes the versions of netCDF and HDF5 in ``_NCProperties``).
    """

    type: Literal["netcdf"] = "netcdf"
    variables: tuple[str, ...] | None = Field(default=None, description="Variables to export; all when absent.")
    bbox: Box | None = Field(
        default=None, description="West, south, east, north in degrees; west > east crosses the date line."
    )
    steps: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="Lead times in hours; all when absent."
    )
    complevel: int = Field(default=4, ge=1, le=9, description="zlib level.")

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        import netCDF4

        arrays = fields(run, self.variables)
        if not arrays:
            raise UsageError("the run has no gridded variable to export")
        if self.steps is not None:
            places = sorted(set(steps_at(run, self.steps)))
            run = run.isel(lead_time=places)
            arrays = [a.isel(lead_time=compact(np.array(places))) for a in arrays]
        grid = horizontal(run)
        box = None if self.bbox is None else window(grid, self.bbox)
        path = folder / f"{self.name}.nc"
        with HDF5, netCDF4.Dataset(path, "w", format="NETCDF4") as out:
            out.setncatts(_global_attributes(run))
            cut = self._write_grid(out, run, grid, box)
            _write_times(out, run)
            for array in arrays:
                self._write_array(out, array.isel(cut), grid, run)
        return [path]

    def _write_grid(
        self, out: Any, run: xr.Dataset, grid: Horizontal, box: tuple[np.ndarray, ...] | None
    ) -> dict[str, Any]:
        """Write the horizontal coordinates; return the selection that cuts an array to the box."""
        latitude, longitude, cut = grid.latitude, grid.longitude, {}
        if box is not None:
            rows, columns, longitude = box
            latitude = grid.latitude[rows] if grid.regular else grid.latitude[np.ix_(rows, columns)]
            cut = {grid.y: compact(rows), grid.x: compact(columns)}
        shape = (len(latitude), len(longitude)) if grid.regular else latitude.shape
        for dim, size in zip((grid.y, grid.x), shape, strict=True):
            out.createDimension(dim, size)
        for name, values in (("latitude", latitude), ("longitude", longitude)):
            dims = run[name].dims
            _put(
                out,
                name,
                values.astype(run[name].dtype if run[name].dtype.kind == "f" else "f8"),
                dims,
                _AXES[name] | run[name].attrs,
            )
        for dim in (grid.y, grid.x):
            if dim in run.coords and dim not in ("latitude", "longitude"):
                coordinate = run[dim].isel({dim: cut[dim]}) if cut else run[dim]
                _put(out, dim, coordinate.values, (dim,), coordinate.attrs)
        return cut

    def _write_array(self, out: Any, array: xr.DataArray, grid: Horizontal, run: xr.Dataset) -> None:
        front = [d for d in array.dims if d not in ("lead_time", "level", grid.y, grid.x)]
        array = array.transpose(*front, "lead_time", *(d for d in ("level",) if d in array.dims), grid.y, grid.x)
        for dim in (d for d in array.dims if d not in ("lead_time", grid.y, grid.x)):
            _put_outer(out, str(dim), array)
        dims = tuple("time" if d == "lead_time" else str(d) for d in array.dims)
        floating = array.dtype.kind == "f"
        variable = out.createVariable(
            str(array.name),
            array.dtype.newbyteorder("="),
            dims,
            compression="zlib",
            complevel=self.complevel,
            shuffle=True,
            chunksizes=_chunks(array),
            fill_value=array.dtype.type(np.nan) if floating else None,
        )
        variable.setncatts(_attributes(array))
        extra = ["init_time", "lead_time", *(() if grid.regular else ("latitude", "longitude"))]
        variable.setncattr("coordinates", " ".join(extra))
        mapping = array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping")
        if mapping and mapping in run.variables:
            if mapping not in out.variables:
                out.createVariable(mapping, "i4", ()).setncatts(_clean(run[mapping].attrs))
            variable.setncattr("grid_mapping", mapping)
        for index in _slabs(array, grid):
            variable[index] = array[index].values


def _slabs(array: xr.DataArray, grid: Horizontal) -> Iterator[tuple[Any, ...]]:
    """Indices of what is read at once: all lead times of one member and level, as a cube's shards lie."""
    whole = ("lead_time", grid.y, grid.x)
    return product(*([slice(None)] if d in whole else range(array.sizes[d]) for d in array.dims))  # type: ignore[return-value]


def _chunks(array: xr.DataArray) -> list[int]:
    """One map a chunk, halved until it fits."""
    chunks = [1] * (array.ndim - 2) + [max(1, n) for n in array.shape[-2:]]
    while np.prod(chunks) * array.dtype.itemsize > _CHUNK_BYTES:
        at = -2 if chunks[-2] >= chunks[-1] else -1
        chunks[at] = -(-chunks[at] // 2)
    return chunks


def _write_times(out: Any, run: xr.Dataset) -> None:
    start = init_time(run)
    out.createDimension("time", run.sizes["lead_time"])
    clock = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard"}
    seconds = valid_times(run).astype("int64")
    _put(
        out,
        "time",
        seconds,
        ("time",),
        {"standard_name": "time", "long_name": "time for which the forecast holds", "axis": "T"} | clock,
    )
    _put(
        out,
        "lead_time",
        lead_hours(run),
        ("time",),
        {"standard_name": "forecast_period", "long_name": "time since initialisation", "units": "hours"},
    )
    _put(
        out,
        "init_time",
        start.astype("int64"),
        (),
        {"standard_name": "forecast_reference_time", "long_name": "initialisation time of the run"} | clock,
    )


def _put_outer(out: Any, dim: str, array: xr.DataArray) -> None:
    if dim in out.dimensions:
        return
    out.createDimension(dim, array.sizes[dim])
    if dim in array.coords:
        values = array[dim].values
        _put(out, dim, values.astype(object) if values.dtype.kind in "UO" else values, (dim,), array[dim].attrs)


def _put(out: Any, name: str, values: np.ndarray, dims: tuple[Any, ...], attrs: Any) -> None:
    kind = str if values.dtype.kind == "O" else values.dtype.newbyteorder("=")
    variable = out.createVariable(name, kind, dims)
    variable.setncatts(_clean(attrs))
    variable[...] = values


def _global_attributes(run: xr.Dataset) -> dict[str, Any]:
    kept = {k: v for k, v in _clean(run.attrs).items() if k.lower() not in ("history", "conventions")}
    return {"Conventions": CONVENTIONS, **kept, "init_time": utc_text(init_time(run))}


def _attributes(array: xr.DataArray) -> dict[str, Any]:
    attrs = _clean(array.attrs)
    if "cell_methods" in attrs:
        attrs["cell_methods"] = attrs["cell_methods"].replace("lead_time:", "time:")
    return attrs


def _clean(attrs: Any) -> dict[str, Any]:
    """Attributes that NetCDF can hold: text, numbers and lists of numbers; empty text is left out."""
    return {
        str(k): v
        for k, v in attrs.items()
        if isinstance(v, (str, int, float, np.generic, np.ndarray, list))
        and not isinstance(v, bool)
        and not (isinstance(v, str) and not v)
        and k not in _HIDDEN
    }
