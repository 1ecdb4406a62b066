"""Exporter ``slice``: a part of one or several runs, as NetCDF-4 or as a plain Zarr store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from . import netcdf, plain_zarr
from .exporter import Source, exporters
from .selecting import Spanning


@exporters.register("slice")
class Slice(Spanning):
    """A part of the last runs - a box, variables, lead times, members, levels - along the axes of the forecast.

    Dimensions of a variable: ``init_time lead_time [member] [level] latitude longitude`` (or ``y x``), with
    ``valid_time(init_time, lead_time)``; CF-1.11. ``runs: 7d`` takes the published runs of the seven days that end with
    the run exported; those that are not there are left out, and taken along when the export is made again.

    ``netcdf`` is one file, zlib-compressed. ``zarr`` is a Zarr v3 store with consolidated metadata that needs neither
    Icechunk nor weatherlake, its chunks as the cube's. Where whole fields of whole runs are taken (no ``bbox``,
    ``steps`` or ``levels``), the cube's shards are copied as they are, and decoded by nobody. Otherwise a slice is
    written block by block: memory stays at a few hundred MB, however large it is.
    """

    type: Literal["slice"] = "slice"
    format: Literal["netcdf", "zarr"] = "netcdf"
    complevel: int = Field(default=1, ge=1, le=9, description="zlib level of a NetCDF file; zstd level of a store.")

    def write(self, source: Source, folder: Path) -> list[Path]:
        chosen = self.selected(source.runs())
        if self.format == "zarr":
            whole = self.bbox is None and self.steps is None and self.levels is None
            behind = source.stored() if whole else None
            return plain_zarr.write(folder / f"{self.name}.zarr", chosen, self.complevel, behind)
        path = folder / f"{self.name}.nc"
        netcdf.write(path, chosen, self.complevel)
        return [path]
