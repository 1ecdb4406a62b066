"""What a granule holds - format, variables, dimensions, groups, CRS - read inside a child process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import axes, opening
from .formats import Family, agrees, content
from .question import Question, Structure, Variable
from .reasons import Finding, Reason

_DECODING = ("decode", "can only convert an array of size 1", "unable to decode time")
_MANY = 500


def structure(question: Question) -> Structure:
    """What a granule holds, and the variable a tile can be made of. Raises `Finding`, `Passing`."""
    if question.family == "zarr":
        return _gridded(question, "Zarr")
    name, found = _look(question)
    return _picture(question, name) if found == "tiff" else _gridded(question, name)


def _look(question: Question) -> tuple[str, Family]:
    """What the first bytes say. Raises `Finding` where that is nothing to be opened, or not what the name says."""
    head = opening.head(question)
    name, found = content(head)
    if name == "HTML" and b"earthdata login" in head.lower():
        raise Finding(Reason.FORBIDDEN, "the link leads to the page of Earthdata Login")
    if name == "HDF4" and question.family == "hdf":
        raise Finding(Reason.UNSUPPORTED_FORMAT, "HDF4, which neither rasterio nor xarray read over the network")
    if found is None or not agrees(question.family, found):
        names = {"tiff": "TIFF", "netcdf": "NetCDF", "hdf": "HDF5"}
        raise Finding(
            Reason.CANT_OPEN_FILE,
            f"the file is not what its name says: expected {names[question.family]}, found {name}",
        )
    return name, found


def _picture(question: Question, name: str) -> Structure:
    """Bands of a TIFF."""
    with raster(question) as source:
        if source.count == 0:
            raise Finding(Reason.CANT_EXTRACT_VARIABLES, "the file has no bands")
        bands = tuple(
            Variable(text or f"band{i}", ("y", "x"), (source.height, source.width), dtype)
            for i, text, dtype in zip(source.indexes, source.descriptions, source.dtypes, strict=True)
        )
        tiled = source.profile.get("tiled") and bool(source.overviews(1))
        return Structure(
            format=f"{'COG-like ' if tiled else ''}{name}",
            backend="rasterio",
            variables=bands[:_MANY],
            dimensions={"band": source.count, "y": source.height, "x": source.width},
            crs=source.crs.to_string() if source.crs else None,
            variable=bands[0].name,
        )


@contextmanager
def raster(question: Question) -> Iterator[Any]:
    """A TIFF, open with rasterio. Raises `Finding`."""
    import rasterio
    from rasterio.errors import RasterioIOError

    path, options = opening.gdal(question)
    # Rasterio leaves everything about S3 to boto3, GDAL itself takes it from the environment.
    with _environment({k: v for k, v in options.items() if k.startswith("AWS_")}), rasterio.Env(
        **{k: v for k, v in options.items() if not k.startswith("AWS_")}
    ):  # fmt: skip
        try:
            source = rasterio.open(path)
        except RasterioIOError as error:
            raise Finding(Reason.CANT_OPEN_FILE, f"rasterio cannot open it: {error}") from None
        with source:
            yield source


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def _gridded(question: Question, name: str) -> Structure:
    """Variables of a NetCDF, HDF5 or Zarr granule."""
    with dataset(question) as (found, groups):
        variables = tuple(
            Variable(str(n), tuple(map(str, v.dims)), tuple(v.shape), str(v.dtype)) for n, v in found.data_vars.items()
        )
        chosen = axes.choose(found.data_vars.values())
        if chosen is None:
            _no_grid(question, bool(variables), groups)
            listed = ", ".join(str(v.name) for v in variables[:5])
            raise Finding(Reason.NO_XY_DIMENSIONS, f"no variable has horizontal dimensions with coordinates ({listed})")
        variable, horizontal = chosen
        return Structure(
            format=name,
            backend="xarray",
            variables=variables[:_MANY],
            dimensions={str(k): int(v) for k, v in found.sizes.items()},
            groups=groups[:_MANY],
            crs=_crs(variable, horizontal),
            variable=str(variable.name),
        )


def _no_grid(question: Question, variables: bool, groups: tuple[str, ...]) -> None:
    """Raise what a granule without a gridded variable in its root is, where it is something of its own."""
    if groups:
        import xarray as xr

        try:
            with opened(question) as (source, options):
                xr.open_datatree(source, **options, decode_cf=False).close()
        except ValueError as error:
            if "not aligned with its parents" in str(error):
                raise Finding(Reason.GROUP_NOT_ALIGNED_WITH_PARENTS, str(error)) from None
        listed = ", ".join(groups[:5])
        raise Finding(Reason.GROUP_STRUCTURE, f"the gridded variables, if any, are in groups: {listed}")
    if not variables:
        raise Finding(Reason.CANT_EXTRACT_VARIABLES, "the file holds no data variables")


@contextmanager
def opened(question: Question) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A granule as something that xarray opens, and the options it takes for that."""
    if question.family == "zarr":
        yield opening.zarr_store(question), {"engine": "zarr", "consolidated": None}
        return
    source = opening.file(question)
    try:
        classic = source.read(3) == b"CDF"
        source.seek(0)
        if classic:
            yield source, {"engine": "scipy"}
        else:
            yield source, {"engine": "h5netcdf", "phony_dims": "access"}
    finally:
        source.close()


@contextmanager
def dataset(question: Question) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The root group of a granule as a lazy dataset, and the names of all groups below it. Raises `Finding`."""
    import xarray as xr

    with opened(question) as (source, options):
        try:
            found = xr.open_dataset(source, **options, decode_coords="all", chunks=None, cache=False)
        except ValueError as error:
            if any(word in str(error) for word in _DECODING):
                raise Finding(Reason.DECODE_ERROR, str(error)) from None
            raise
        groups = _groups(source, options["engine"])
        with found:
            yield found, groups


def _groups(source: Any, engine: str) -> tuple[str, ...]:
    if engine == "scipy":
        return ()
    if engine == "zarr":
        import zarr

        group = zarr.open_group(source, mode="r")
        if group.metadata.consolidated_metadata is None and not source.supports_listing:
            return ()
        return tuple(sorted(name for name, member in group.members(max_depth=None) if isinstance(member, zarr.Group)))
    import h5py

    names: list[str] = []
    with h5py.File(source, "r") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Group) else None)
    return tuple(names)


def _crs(variable: Any, horizontal: axes.Axes) -> str | None:
    import rioxarray  # noqa: F401  (registers the accessor)

    found = variable.rio.crs
    if found:
        return found.to_string()
    return "EPSG:4326" if horizontal.geographic else None
