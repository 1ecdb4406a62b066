"""Plain Zarr v3 stores in a folder: CF attributes, consolidated metadata, shards written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.fork import fast_codecs
from . import blocks, cf, shards
from .netcdf import map_chunks
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr
    import zarr


type Behind = tuple[zarr.Group, Sequence[int]] | None
"""The arrays a selection is made of as they are stored, and the places of its runs along ``init_time``."""


def write(store: Path, selection: Selection, level: int, behind: Behind = None) -> list[Path]:
    """Write a selection as a store; the files made. Whole shards of what lies behind it are copied as they are."""
    import zarr

    with fast_codecs():
        group = zarr.open_group(store, mode="w", zarr_format=3, attributes=cf.global_attributes(selection))
        for coordinate in cf.coordinates(selection):
            put(group, coordinate.name, coordinate.dims, coordinate.values, coordinate.attributes)
        for array in selection.arrays:
            attributes = cf.attributes(array, selection)
            mapping = attributes.get("grid_mapping")
            if mapping and mapping not in group:
                put(group, mapping, (), np.array(0, "int32"), cf.clean(selection.run[mapping].attrs))
            if behind is None or not shards.copy(*behind, array, store, dict(json_values(attributes))):
                _write_array(group, array, attributes, level)
    return finished(store)


def finished(store: Path) -> list[Path]:
    """Consolidate the metadata of a store that is complete; its files."""
    import warnings

    import zarr

    with warnings.catch_warnings():
        # Consolidated metadata is not part of the specification yet, which zarr says each time.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store, zarr_format=3)
    return sorted(p for p in store.rglob("*") if p.is_file())


def put(group: zarr.Group, name: str, dims: Sequence[str], values: np.ndarray, attributes: Mapping[str, Any]) -> None:
    """Add a small array in one chunk, such as a coordinate."""
    values = np.asarray(values)
    text = values.dtype.kind in "UO"
    made = group.create_array(
        name, shape=values.shape, chunks=tuple(max(n, 1) for n in values.shape), dtype=str if text else values.dtype,
        dimension_names=list(dims), attributes=json_values(attributes), config={"write_empty_chunks": True},
        fill_value=float("nan") if values.dtype.kind == "f" else None,
    )  # fmt: skip
    made[...] = values.astype(object) if text else values


def json_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    return {k: v.tolist() if isinstance(v, (np.generic, np.ndarray)) else v for k, v in attributes.items()}


def _write_array(group: zarr.Group, array: xr.DataArray, attributes: Mapping[str, Any], level: int) -> None:
    from zarr.codecs import BloscCodec

    block = blocks.block_shape(array)
    stored = blocks.stored_chunks(array)
    maps = map_chunks(array, block)
    chunks = tuple(min(stored.get(str(d), m), n) for d, m, n in zip(array.dims, maps, array.shape, strict=True))
    # A block is one shard: written once, by one call.
    shard = tuple(ceil(min(b, n) / c) * c for b, n, c in zip(block, array.shape, chunks, strict=True))
    made = group.create_array(
        str(array.name), shape=array.shape, chunks=chunks, shards=shard if shard != chunks else None,
        dtype=array.dtype, dimension_names=list(cf.dims_of(array)), attributes=json_values(attributes),
        fill_value=float("nan") if array.dtype.kind == "f" else None,
        compressors=BloscCodec(cname="zstd", clevel=level, shuffle="bitshuffle"),
        config={"write_empty_chunks": True},
    )  # fmt: skip
    for index, values in blocks.read(array, shard):
        made[index] = values
