"""The grid of a netCDF file that follows the CF conventions: coordinates, bounds, grid mapping."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.errors import CorruptInput, UsageError
from ..lake.hdf5 import HDF5
from . import mapping
from .grid import Grid

if TYPE_CHECKING:
    from xarray import Dataset

_UNITS = {
    "latitude": {"degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"},
    "longitude": {"degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"},
}
"""CF conventions 1.11, sections 4.1 and 4.2."""

_NAMES = {"latitude": {"latitude", "lat"}, "longitude": {"longitude", "lon"}}
_AXES = {
    "x": {"projection_x_coordinate", "grid_longitude"},
    "y": {"projection_y_coordinate", "grid_latitude"},
}
_METRES = {"m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0, "km": 1000.0, "kilometre": 1000.0}
_DEGREES = {"degrees", "degree"}
_NOT_CF = {"crs_wkt", "long_name", "GeoTransform", "spatial_ref"}
"""Attributes of a grid mapping variable that repeat the others or say nothing of the grid."""


def from_file(path: str | Path, variable: str | None = None) -> Grid:
    """The grid of a netCDF file; see `from_dataset`. Raises `CorruptInput` for a file that is no netCDF."""
    from xarray import open_dataset

    if not Path(path).is_file():
        raise UsageError(f"the grid file {path} is not there")
    with HDF5:
        try:
            with open_dataset(path, engine="netcdf4", decode_times=False, decode_coords=False) as file:
                return from_dataset(file, variable)
        except (OSError, RuntimeError) as error:
            raise CorruptInput(f"{path} cannot be read as netCDF ({error})") from None


def from_dataset(dataset: "Dataset", variable: str | None = None) -> Grid:
    """The grid of one variable of a dataset, or the only one there is.

    Latitudes and longitudes are known by their units, standard names or names: 1-D along two dimensions a rectilinear
    grid, 2-D a curvilinear one, 1-D along one dimension points. With a grid mapping and projection coordinates x and y
    the grid is regular in that projection, whether or not it has latitudes as well. Fields are expected with y before
    x. Bounds are taken from the ``bounds`` attribute. Raises `UsageError` for a grid that cannot be recognised.
    """
    if variable is not None and variable not in dataset.variables:
        raise UsageError(f"there is no variable {variable!r}", expected=", ".join(map(str, dataset.data_vars)))
    dims = set(dataset[variable].dims) if variable is not None else set(dataset.dims)
    every = {str(n): v for n, v in dataset.variables.items() if set(v.dims) <= dims and v.dims}
    bounds = {str(v.attrs["bounds"]) for v in every.values() if "bounds" in v.attrs}
    every = {n: v for n, v in every.items() if n not in bounds}
    latitude, longitude = (_spherical(every, what) for what in ("latitude", "longitude"))
    x, y = (_planar(every, what) for what in ("x", "y"))
    crs = _mapping(dataset, variable)
    if x and y and crs and crs["grid_mapping_name"] != "latitude_longitude":
        return _projected(x, y, crs)
    if latitude is None or longitude is None:
        raise UsageError(
            "the grid cannot be recognised: there are no latitudes and longitudes",
            expected="coordinates with units degrees_north and degrees_east, or x and y with a grid mapping",
            found=", ".join(every) or "no coordinates",
        )
    shape = (latitude.dims, longitude.dims)
    earth = crs or mapping.SPHERE
    edges = (_bounds(dataset, latitude), _bounds(dataset, longitude))
    if len(latitude.dims) == len(longitude.dims) == 1 and latitude.dims != longitude.dims:
        return Grid("rectilinear", latitude.values, longitude.values, None, None, earth, edges[0], edges[1])
    if len(latitude.dims) == 2 and latitude.dims == longitude.dims:
        if edges[0] is None or edges[1] is None:
            edges = (None, None)
        return Grid("curvilinear", latitude.values, longitude.values, None, None, earth, edges[0], edges[1])
    if len(latitude.dims) == 1 and latitude.dims == longitude.dims:
        return Grid("unstructured", latitude.values, longitude.values, mapping=earth)
    raise UsageError(
        "the grid cannot be recognised by the dimensions of its latitudes and longitudes",
        expected="1-D each, or both 2-D with the same dimensions",
        found=shape,
    )


@dataclass(frozen=True, eq=False)
class _Coordinate:
    """A coordinate variable: its name, dimensions, float64 values and attributes."""

    name: str
    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any]


def _spherical(every: Mapping[str, Any], what: str) -> _Coordinate | None:
    by_units = [n for n, v in every.items() if v.attrs.get("units") in _UNITS[what]]
    by_standard = [n for n, v in every.items() if v.attrs.get("standard_name") == what]
    by_name = [n for n in every if n.lower() in _NAMES[what]]
    for found in (by_standard, by_units, by_name):
        # Several (staggered grids): the one with the plain name, or none rather than a guess.
        chosen = found if len(found) == 1 else [n for n in found if n in by_name]
        if len(chosen) == 1:
            return _coordinate(chosen[0], every[chosen[0]])
    return None


def _planar(every: Mapping[str, Any], what: str) -> _Coordinate | None:
    for name, variable in every.items():
        standard = variable.attrs.get("standard_name")
        if len(variable.dims) == 1 and standard in _AXES[what]:
            return _coordinate(name, variable)
    return None


def _coordinate(name: str, variable: Any) -> _Coordinate:
    return _Coordinate(name, tuple(map(str, variable.dims)), np.asarray(variable.values, "float64"), variable.attrs)


def _bounds(dataset: "Dataset", coordinate: _Coordinate) -> np.ndarray | None:
    name = coordinate.attrs.get("bounds")
    if name is None or name not in dataset.variables:
        return None
    values = np.asarray(dataset[name].values, "float64")
    expected = (*coordinate.values.shape, 2 * coordinate.values.ndim)
    if values.shape != expected:
        raise UsageError(f"the bounds {name} do not fit {coordinate.name}", expected=expected, found=values.shape)
    return values


def _mapping(dataset: "Dataset", variable: str | None) -> dict[str, Any] | None:
    """CF attributes of the grid mapping that the variable names, or of the only one in the file."""
    if variable is not None:
        named = str(dataset[variable].attrs.get("grid_mapping", "")).split(":")[0].strip()
        candidates = [named] if named else []
    else:
        candidates = [str(n) for n, v in dataset.variables.items() if "grid_mapping_name" in v.attrs]
    if len(candidates) != 1 or candidates[0] not in dataset.variables:
        return None
    attributes = dataset[candidates[0]].attrs
    if "grid_mapping_name" not in attributes:
        return None
    return {str(k): _plain(v) for k, v in attributes.items() if k not in _NOT_CF}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _projected(x: _Coordinate, y: _Coordinate, crs: dict[str, Any]) -> Grid:
    rotated = crs["grid_mapping_name"] == "rotated_latitude_longitude"
    values = []
    for coordinate in (x, y):
        units = str(coordinate.attrs.get("units", ""))
        factor = (1.0 if units in _DEGREES else None) if rotated else _METRES.get(units)
        if factor is None:
            raise UsageError(
                f"the units of {coordinate.name} do not fit {crs['grid_mapping_name']}",
                expected="degrees" if rotated else "m or km",
                found=units or "none",
            )
        # Micrometres, or ten decimals of a degree: kilometres in floating point are not whole metres.
        values.append(np.round(coordinate.values * factor, 10 if rotated else 6))
    lat, lon = mapping.geographic(crs, *np.meshgrid(*values))
    if not np.isfinite(lat).all():
        raise UsageError(
            "parts of the grid lie off the earth",
            expected="x and y within the projection",
            found=crs["grid_mapping_name"],
        )
    return Grid("curvilinear", lat, lon, x=values[0], y=values[1], mapping=crs)
