"""Station values on a grid: weights in the form of the regrid phase, applied to all times at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..grids.apply import apply
from ..grids.grid import Grid, from_spec
from ..grids.weights import Weights
from ..lake.errors import UsageError
from ..lake.hdf5 import HDF5
from .catalogue import Station
from .recipe import StationGrid
from .schema import UNITS

_EARTH = 6371.0
_TOUCHING = 1e-6


def weights(stations: Sequence[Station], spec: StationGrid) -> Weights:
    """Weights from stations to a grid: of the nearest ``spec.stations`` within ``spec.radius`` km, by distance.

    ``inverse-distance``: 1 / distance ** power (Shepard, 1968), summing to 1; ``nearest``: only the nearest. Cells
    without a station within the radius are empty. Raises ``UsageError`` where no cell has one.
    """
    from scipy.sparse import csr_array
    from scipy.spatial import KDTree

    source = Grid("unstructured", np.array([s.latitude for s in stations]), np.array([s.longitude for s in stations]))
    target = from_spec(spec)
    count = 1 if spec.method == "nearest" else min(spec.stations, len(stations))
    chord, index = KDTree(source.vectors).query(target.vectors, k=[*range(1, count + 1)])
    km = 2 * _EARTH * np.arcsin(np.clip(chord / 2, 0, 1))
    near = km <= spec.radius
    if not near.any():
        raise UsageError(f"grid {spec.name} has no station within {spec.radius:g} km of any cell")
    value = np.where(near, 1 / np.maximum(km, _TOUCHING) ** spec.power, 0.0)
    total = value.sum(axis=1, keepdims=True)
    value = np.divide(value, total, out=np.zeros_like(value), where=total > 0)
    row = np.repeat(np.arange(target.size), count)
    keep = value.ravel() > 0
    matrix = csr_array((value.ravel()[keep], (row[keep], index.ravel()[keep])), shape=(target.size, source.size))
    matrix.sort_indices()
    return Weights(
        matrix, source.shape, target.shape, spec.method, "centres", source=source.digest, target=target.digest
    )


def netcdf(
    spec: StationGrid,
    stations: Sequence[Station],
    times: np.ndarray,
    values: Mapping[str, np.ndarray],
    attributes: Mapping[str, str],
) -> bytes:
    """A CF NetCDF file of fields. ``times`` is datetime64[s] (time,), ``values`` column -> float64 (time, station).

    A station without a value at a time is left out, and the others count for more; so a cell is empty only where
    none of its stations has one.
    """
    import xarray as xr

    operator = weights(stations, spec)
    target = from_spec(spec)
    coordinates = {n: (d, v, dict(a)) for n, (d, v, a) in target.coordinates().items()}
    arrays = {
        name: (
            ("time", *target.dims), apply(operator, field, skipna=True, na_thres=1.0),
            {"units": UNITS[name], "long_name": name.replace("_", " "), "grid_mapping": "spatial_ref"},
        )
        for name, field in values.items()
    }  # fmt: skip
    coordinates["time"] = (("time",), times, {"standard_name": "time", "long_name": "end of the interval"})
    dataset = xr.Dataset(arrays, coordinates, {"Conventions": "CF-1.11", "interpolation": spec.method, **attributes})
    encoding: dict[str, dict[str, Any]] = {
        n: {"zlib": True, "complevel": 4, "_FillValue": np.float32(np.nan)} for n in arrays
    }
    encoding["time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    with TemporaryDirectory(prefix="weatherlake-") as folder, HDF5:
        path = Path(folder) / "fields.nc"
        dataset.to_netcdf(path, engine="netcdf4", encoding=encoding)
        return path.read_bytes()
