"""Shards of a stored array copied as they are: at the rate of the store, without decoding anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    import xarray as xr
    import zarr

_AT_ONCE = 4
"""Shards held in memory; one is some hundred MB at most."""


def copy(group: zarr.Group, runs: Sequence[int], array: xr.DataArray, store: Path, attributes: dict[str, Any]) -> bool:
    """Copy the shards behind an array into a store in a folder, when it is made of whole ones; whether it is.

    ``runs`` are the places of the array's runs along the first dimension of the stored one.
    """
    from zarr.core.sync import sync

    name = str(array.name)
    stored: Any = group[name]
    places = _places(group, stored, runs, array)
    if places is None:
        return False
    document = stored.metadata.to_dict() | {"shape": list(array.shape), "attributes": attributes}
    folder = store / name
    folder.mkdir()
    (folder / "zarr.json").write_bytes(orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2))
    sync(_copied(stored.store_path, folder, _pairs(stored, places)))
    return True


def _places(group: zarr.Group, stored: Any, runs: Sequence[int], array: xr.DataArray) -> list[Sequence[int]] | None:
    """For each dimension the numbers of the shards taken, in order; None when not all of them are whole."""
    names = stored.metadata.dimension_names
    lengths = stored.shards or stored.chunks
    if names is None or tuple(names) != array.dims or array.dims[0] != "init_time" or lengths[0] != 1:
        return None
    found: list[Sequence[int]] = [list(runs)]
    for dim, size, length, whole in zip(names[1:], array.shape[1:], lengths[1:], stored.shape[1:], strict=True):
        if size == whole and dim != "member":
            found.append(range(ceil(whole / length)))
        elif length == 1 and dim == "member":
            # By their numbers: others may have been chosen, in another order.
            every = np.asarray(group["member"][...])  # type: ignore[index]
            found.append([int(np.flatnonzero(every == v)[0]) for v in array["member"].values])
        else:
            return None
    return found


def _pairs(stored: Any, places: list[Sequence[int]]) -> Iterator[tuple[str, str]]:
    """Key of each shard below the stored array, and below the copy."""
    encode = stored.metadata.encode_chunk_key
    for new in product(*(range(len(p)) for p in places)):
        yield encode(tuple(p[n] for p, n in zip(places, new, strict=True))), encode(new)


async def _copied(source: Any, folder: Path, pairs: Iterator[tuple[str, str]]) -> None:
    """Copy some at a time. A shard that is not there holds nothing but missing values, in the copy, too."""
    from zarr.core.buffer import default_buffer_prototype

    prototype = default_buffer_prototype()

    def put(path: Path, data: memoryview) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def one(old: str, new: str) -> None:
        data = await (source / old).get(prototype)
        if data is not None:
            await asyncio.to_thread(put, folder / new, data.as_numpy_array().data)

    under_way: set[asyncio.Task[None]] = set()
    for old, new in pairs:
        under_way.add(asyncio.ensure_future(one(old, new)))
        if len(under_way) >= _AT_ONCE:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    for task in under_way:
        await task


def _plain(value: Any) -> Any:
    """What orjson does not know, as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
