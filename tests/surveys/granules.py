"""Granules of every sort, written with the libraries that data centres write theirs with."""

import zlib
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import rasterio
import xarray as xr
from rasterio.transform import from_origin


def grid(path: Path, *, west: float = -179.0, format: str = "NETCDF4") -> None:
    """A global field of 2 degrees, by netCDF4."""
    with netCDF4.Dataset(path, "w", format=format) as file:
        for name, values, units in (
            ("lat", np.arange(-89, 90, 2.0), "degrees_north"),
            ("lon", west + np.arange(180) * 2.0, "degrees_east"),
        ):
            file.createDimension(name, len(values))
            file.createVariable(name, "f8", (name,))[:] = values
            file[name].units = units
        file.createDimension("time", 2)
        file.createVariable("time", "f8", ("time",))[:] = [0, 1]
        file["time"].units = "days since 2000-01-01"
        field = file.createVariable("sst", "f4", ("time", "lat", "lon"), fill_value=-999.0)
        field[:] = np.arange(2 * 90 * 180).reshape(2, 90, 180) % 300


def swath(path: Path) -> None:
    """A satellite's swath: two-dimensional coordinates."""
    along, across = np.meshgrid(np.linspace(0, 10, 20), np.linspace(0, 5, 10), indexing="ij")
    coordinates = {"lat": (("row", "column"), along), "lon": (("row", "column"), across)}
    xr.Dataset({"radiance": (("row", "column"), along)}, coords=coordinates).to_netcdf(path, engine="h5netcdf")


def groups(path: Path) -> None:
    """Variables in groups only."""
    with netCDF4.Dataset(path, "w") as file:
        group = file.createGroup("science").createGroup("data")
        group.createDimension("lat", 4)
        group.createVariable("sst", "f4", ("lat",))[:] = 1


def misaligned(path: Path) -> None:
    """A group whose dimension has another length than that of the same name above it."""
    with h5py.File(path, "w") as file:
        for place, length in (("lat", 4), ("inner/lat", 7)):
            file.create_dataset(place, data=np.arange(float(length))).make_scale("lat")
        for place, length in (("count", 4), ("inner/count", 7)):
            data = file.create_dataset(place, data=np.zeros(length, "f4"))
            data.dims[0].attach_scale(file[place.replace("count", "lat")])


def empty(path: Path) -> None:
    """Attributes and nothing else."""
    with netCDF4.Dataset(path, "w") as file:
        file.title = "nothing"


def bad_times(path: Path) -> None:
    """Times in units that are none."""
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", 2)
        file.createVariable("time", "f8", ("time",))[:] = [1, 2]
        file["time"].units = "days since the flood"
        file.createVariable("sst", "f4", ("time",))[:] = 1


def projected(path: Path) -> None:
    """A grid in metres that names no coordinate reference system."""
    axes = {"y": ("y", np.arange(20.0) * 1000), "x": ("x", np.arange(30.0) * 1000)}
    xr.Dataset({"ice": (("y", "x"), np.ones((20, 30), "f4"))}, coords=axes).to_netcdf(path, engine="h5netcdf")


def zarr(path: Path) -> None:
    """A Zarr hierarchy with consolidated metadata."""
    axes = {"lat": ("lat", np.arange(-89, 90, 2.0)), "lon": ("lon", np.arange(-179, 180, 2.0))}
    field = xr.Dataset({"sst": (("lat", "lon"), np.random.default_rng(1).random((90, 180)))}, coords=axes)
    field.to_zarr(path, consolidated=True, zarr_format=2)


def picture(path: Path, *, crs: str | None = "EPSG:32615") -> None:
    """A GeoTIFF in UTM."""
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8", "nodata": 255}
    profile |= {"crs": crs, "transform": from_origin(499980, 5400000, 30, 30)}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.arange(64 * 64, dtype="uint8").reshape(1, 64, 64))


def _chunk(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A dataset of zeros in one chunk that takes little room in the file, and all of it in memory."""
    made = file.create_dataset(name, shape, "f4", chunks=shape, compression="gzip")
    packer, size = zlib.compressobj(1), int(np.prod(shape)) * 4
    parts = [packer.compress(bytes(min(1 << 20, size - at))) for at in range(0, size, 1 << 20)]
    made.id.write_direct_chunk((0,) * len(shape), b"".join([*parts, packer.flush()]))
    return made


def hungry(path: Path, megabytes: int) -> None:
    """A field of which every value lies in one chunk of so many MB: its header is harmless, its data is not."""
    columns = 4000
    rows = megabytes * 250_000 // columns
    with h5py.File(path, "w") as file:
        field = _chunk(file, "sst", (rows, columns))
        for name, dim, low, high, units in (
            ("lat", 0, -80, 80, "degrees_north"),
            ("lon", 1, -179, 179, "degrees_east"),
        ):
            axis = file.create_dataset(name, data=np.linspace(low, high, field.shape[dim]))
            axis.attrs["units"] = units
            axis.make_scale(name)
            field.dims[dim].attach_scale(axis)


def hungry_axis(path: Path, megabytes: int) -> None:
    """A coordinate of so many MB: it is read when the file is opened."""
    with h5py.File(path, "w") as file:
        axis = _chunk(file, "lat", (megabytes * 250_000,))
        axis.attrs["units"] = "degrees_north"
        axis.make_scale("lat")
        file.create_dataset("sst", (megabytes * 250_000,), "f4", chunks=(1 << 20,)).dims[0].attach_scale(axis)
