"""Exporter ``netcdf``: a run, or a part of it, as one CF NetCDF-4 file; and the writer of such files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ..lake.hdf5 import HDF5
from . import blocks, cf
from .exporter import exporters
from .selecting import Cutting
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 4 * 2**20


@exporters.register("netcdf")
class NetCDF(Cutting):
    """A run as one NetCDF-4 file, CF-1.11, zlib-compressed, along one axis of time as desktop programs want it.

    Dimensions of a variable: ``time [member] [level] latitude longitude`` (or ``y x``); ``time`` is the
    valid time, ``lead_time(time)`` the forecast period in hours, ``init_time`` a scalar. The file holds
    no history and no time of writing: the same input gives the same bytes with the same libraries
    (NetCDF-4 notes the versions of netCDF and HDF5 in ``_NCProperties``). Several runs in one file: ``slice``.
    """

    type: Literal["netcdf"] = "netcdf"
    complevel: int = Field(default=4, ge=1, le=9, description="zlib level.")

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        selection = self.selected(run)
        path = folder / f"{self.name}.nc"
        write(path, selection, self.complevel)
        return [path]


def write(path: Path, selection: Selection, complevel: int) -> None:
    """Write a selection as one NetCDF-4 file, block by block; other blocks are read meanwhile."""
    import netCDF4

    with HDF5, netCDF4.Dataset(path, "w", format="NETCDF4") as out:
        out.setncatts(cf.global_attributes(selection))
        for coordinate in cf.coordinates(selection):
            for dim, size in zip(coordinate.dims, coordinate.values.shape, strict=True):
                if dim not in out.dimensions:
                    out.createDimension(dim, size)
            _put(out, coordinate)
        for array in selection.arrays:
            _write_array(out, array, selection, complevel)


def _write_array(out: Any, array: xr.DataArray, selection: Selection, complevel: int) -> None:
    dims = cf.dims_of(array)
    for dim, size in zip(dims, array.shape, strict=True):
        if dim not in out.dimensions:
            out.createDimension(dim, size)
    attributes = cf.attributes(array, selection)
    mapping = attributes.get("grid_mapping")
    if mapping and mapping not in out.variables:
        out.createVariable(mapping, "i4", ()).setncatts(cf.clean(selection.run[mapping].attrs))
    shape = blocks.block_shape(array)
    variable = out.createVariable(
        str(array.name),
        array.dtype.newbyteorder("="),
        dims,
        compression="zlib",
        complevel=complevel,
        shuffle=True,
        chunksizes=map_chunks(array, shape),
        fill_value=array.dtype.type(np.nan) if array.dtype.kind == "f" else None,
    )
    variable.setncatts(attributes)
    for index, values in blocks.read(array, shape):
        variable[index] = values


def map_chunks(array: xr.DataArray, block: Sequence[int]) -> list[int]:
    """Chunk lengths: one map a chunk, halved until it fits, and never across two of the blocks it is written in."""
    chunks = [1] * (array.ndim - 2) + [max(1, min(n, b)) for n, b in zip(array.shape[-2:], block[-2:], strict=True)]
    cut = [b < n for n, b in zip(array.shape, block, strict=True)]
    while np.prod(chunks) * array.dtype.itemsize > CHUNK_BYTES:
        able = [i for i in (-2, -1) if not cut[i] or chunks[i] % 2 == 0]
        if not able or max(chunks[i] for i in able) == 1:
            break
        at = max(able, key=lambda i: chunks[i])
        chunks[at] = -(-chunks[at] // 2)
    return chunks


def _put(out: Any, coordinate: cf.Coordinate) -> None:
    values = coordinate.values.astype(object) if coordinate.values.dtype.kind in "UO" else coordinate.values
    kind = str if values.dtype.kind == "O" else values.dtype.newbyteorder("=")
    variable = out.createVariable(coordinate.name, kind, coordinate.dims)
    variable.setncatts(coordinate.attributes)
    variable[...] = values
