"""Opening references with xarray: what docs/references.md spells out, as one call each."""

from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ...lake.errors import CorruptInput, UsageError
from ...lake.lake import open_lake
from ...lake.objects import Objects
from .run import virtual_path

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = ("key", "value")


def read_table(data: bytes, where: str) -> pa.Table:
    """A reference file as columns ``key`` (string) and ``value`` (binary). Raises ``CorruptInput`` when it is none."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except pa.ArrowInvalid as error:
        raise CorruptInput(f"{where} is not Parquet: {str(error).splitlines()[0]}") from None
    if not set(COLUMNS) <= set(table.schema.names):
        raise CorruptInput(f"{where} is no reference file", expected=list(COLUMNS), found=table.schema.names)
    try:
        columns = [table["key"].cast(pa.string()), table["value"].cast(pa.binary())]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorruptInput(f"{where} is no reference file: {str(error).splitlines()[0]}") from None
    return pa.table(columns, names=list(COLUMNS))


def zarr_references(table: pa.Table) -> dict[str, Any]:
    """The Zarr tree of a reference file as fsspec's reference file system takes it; keys by step left out."""
    found: dict[str, Any] = {}
    for key, value in zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True):
        if not key.startswith("step_"):
            found[key] = orjson.loads(value) if value.startswith(b"[") else value.decode()
    return found


def open_member(place: str, **storage: Any) -> "xr.DataTree":
    """A reference file as a lazy ``xarray.DataTree``, with a node per ``<var>/<stepType>/<typeOfLevel>``.

    ``place`` is a path or the URL of the file; ``storage`` are options of kerchunk's ``refs_as_store`` for the objects
    referred to (``remote_options={"anon": True}``). Needs the extra ``references``.
    Raises ``NotFound``, ``CorruptInput``.
    """
    import xarray as xr
    from kerchunk.utils import refs_as_store

    store = refs_as_store(zarr_references(read_table(read_bytes(place), place)), **storage)
    return xr.open_datatree(store, engine="zarr", zarr_format=2, consolidated=False, chunks=None)


def open_virtual(lake: str, recipe: str) -> "xr.Dataset":
    """The virtual references of a recipe as a lazy dataset, with the runs that are there.

    Values come from where the provider (or the lake) has them; an object that has changed since is an error.
    Raises ``UsageError`` when there is no such lake, or no references in it.
    """
    import numpy as np
    import xarray as xr

    from ...lake.errors import NotFound
    from .icechunk_virtual import VirtualCube

    try:
        store = VirtualCube(open_lake(lake).objects, virtual_path(recipe)).store()
    except NotFound:
        raise UsageError(f"there are no virtual references of {recipe} in {lake}") from None
    dataset = xr.open_zarr(store, consolidated=False, chunks=None)
    there = ~np.isnat(dataset["ingested_forecast_length"].values)
    return dataset.isel(init_time=np.flatnonzero(there))


def read_bytes(place: str) -> bytes:
    """Content of a file by its path or URL (``file://``, ``https://``, ``s3://...?anonymous=true``)."""
    head, _, query = place.partition("?")
    folder, _, name = head.rpartition("/")
    return Objects((folder or ("/" if head.startswith("/") else ".")) + (f"?{query}" if query else "")).get(name)
