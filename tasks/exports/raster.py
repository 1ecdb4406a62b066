"""A selection as rasters, as GIS wants them: rows from the north, columns from the west, a transform and a CRS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..grids.georef import Georef
from ..grids.overviews import Method
from ..lake.errors import UsageError
from . import blocks
from .cf import grid_mapping
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr

GEOGRAPHIC = "EPSG:4326"
"""What latitudes and longitudes are taken for. Models know a sphere; nobody shifts by the difference."""

_EVEN = 1e-3


@dataclass(frozen=True, eq=False)
class Raster:
    """Where a selection's cells lie as pixels. ``rows`` and ``columns`` say in which order to take them (intp)."""

    georef: Georef
    rows: np.ndarray
    columns: np.ndarray
    dims: tuple[str, str]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.columns)

    def turned(self, values: np.ndarray) -> np.ndarray:
        """Values (..., y, x) with rows from the north and columns from the west."""
        return values[..., _slice(self.rows), :][..., _slice(self.columns)]

    def coordinates(self, shape: tuple[int, int], georef: Georef) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
        """Name, centres and CF attributes of the two axes of a grid of this raster's CRS."""
        geographic = self.dims == ("latitude", "longitude")
        for dim, values in zip(self.dims, georef.centres(*shape), strict=True):
            if geographic:
                about = {"standard_name": dim, "units": "degrees_north" if dim == "latitude" else "degrees_east"}
            else:
                about = {"standard_name": f"projection_{dim}_coordinate", "units": "m"}
            yield dim, values, about | {"axis": "Y" if dim == self.dims[0] else "X"}


def raster(selection: Selection) -> Raster:
    """The raster of a selection. Raises ``UsageError`` for grids that are none: curvilinear ones without a projection,
    and latitudes that are not evenly spaced."""
    grid, run = selection.grid, selection.run
    if grid.regular:
        names, crs = ("latitude", "longitude"), GEOGRAPHIC
        y, x = grid.latitude, grid.longitude
        if selection.cut == {} and grid.global_longitude:
            # As maps show it, from -180 on; 0..360 would leave half of it off the map.
            x = np.mod(x + 180 + 1e-9, 360) - 180 - 1e-9
    else:
        names, crs = ("y", "x"), _crs(selection)
        y, x = ((run[d].isel({d: selection.cut[d]}) if selection.cut else run[d]).values for d in (grid.y, grid.x))
    rows, columns = np.argsort(-y, kind="stable"), np.argsort(x, kind="stable")
    (dy, top), (dx, left) = _step(y[rows], names[0]), _step(x[columns], names[1])
    return Raster(Georef(crs, (dx, 0.0, left - dx / 2, 0.0, dy, top - dy / 2)), rows, columns, names)


def method_of(array: xr.DataArray) -> Method:
    """How an overview of a variable is made: the mean, but of classes the most frequent one, and of directions, whose
    mean is none (359 and 1 give 180), the first."""
    if "flag_values" in array.attrs or "flag_meanings" in array.attrs:
        return "mode"
    words = f"{array.attrs.get('standard_name', '')} {array.attrs.get('units', '')}"
    return "first" if "direction" in words or words.endswith(" degree") else "mean"


def map_block(array: xr.DataArray) -> tuple[int, ...]:
    """Lengths of the blocks of whole maps that an array is read in.

    Where the cube's chunks are series, all lead times are read at once, so that none is decoded twice.
    """
    stored = blocks.stored_chunks(array)
    shape = [1] * (array.ndim - 2) + list(array.shape[-2:])
    if "lead_time" in array.dims:
        at = array.dims.index("lead_time")
        fits = max(1, blocks.BLOCK // max(1, prod(shape) * array.dtype.itemsize))
        step = stored.get("lead_time", 1)
        shape[at] = min(array.shape[at], max(step, fits // step * step))
    return tuple(shape)


def maps(array: xr.DataArray, place: Raster) -> Iterator[tuple[blocks.Index, np.ndarray]]:
    """Whole maps of a variable block by block, turned as the raster wants them: index in front of y and x, values."""
    for index, values in blocks.read(array, map_block(array)):
        yield index[:-2], place.turned(values)


def _crs(selection: Selection) -> str:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    run = selection.run
    name = grid_mapping(selection.arrays[0], run) or "spatial_ref"
    if name not in run.variables or selection.grid.y not in run.coords:
        raise UsageError("the run's grid is curvilinear and names no projection; export a regridded zone")
    attrs = run[name].attrs
    try:
        crs = CRS.from_wkt(attrs["crs_wkt"]) if "crs_wkt" in attrs else CRS.from_cf(dict(attrs))
    except (CRSError, KeyError) as error:
        raise UsageError(f"the run's grid mapping is no CRS ({str(error).splitlines()[0]})") from None
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.to_wkt("WKT2_2019")


def _step(values: np.ndarray, name: str) -> tuple[float, float]:
    """Distance of neighbours and the first value. Raises ``UsageError`` when they are not evenly spaced."""
    if len(values) < 2:
        raise UsageError(f"the grid has a single {name}; a raster needs two")
    step = float(values[-1] - values[0]) / (len(values) - 1)
    if not np.allclose(np.diff(values), step, rtol=_EVEN):
        raise UsageError(
            f"the grid's {name} is not evenly spaced, so it is no raster; export a regridded zone",
            expected=f"steps of {abs(step):g}",
            found=f"{np.abs(np.diff(values)).min():g} to {np.abs(np.diff(values)).max():g}",
        )
    # float32 coordinates carry rounding into the step: as many digits as they have.
    return float(f"{step:.7g}"), float(f"{values[0]:.9g}")


def _slice(order: np.ndarray) -> slice | np.ndarray:
    n = len(order)
    if np.array_equal(order, np.arange(n)):
        return slice(None)
    return slice(None, None, -1) if np.array_equal(order, np.arange(n)[::-1]) else order
