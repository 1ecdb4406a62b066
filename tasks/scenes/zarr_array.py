"""Zarr arrays apart from their store: an array's metadata and its objects in memory, in and out.

Source chunks and shards of the lake are fetched as whole objects, checked against what is on record, and only then
decoded; results are encoded in memory and written by whoever records them. zarr itself takes a chunk that is not there
for fill values. Here it is an error, unless the manifest says that the source has none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from ..lake.errors import CorruptInput, LakeError
from ..lake.fork import fast_codecs

_NAMES = {2: ".zarray", 3: "zarr.json"}

Document = dict[str, Any]
"""Metadata of a Zarr array as JSON values: ``zarr.json`` of version 3, or ``.zarray`` of version 2."""


def chunk_shape(document: Document) -> tuple[int, ...]:
    """Shape of what one object of the array holds: a chunk, or a shard. Raises ``CorruptInput``."""
    if document["zarr_format"] == 2:
        return tuple(document["chunks"])
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise CorruptInput(f"a chunk grid of the form {grid['name']!r} cannot be read", expected="regular")
    return tuple(grid["configuration"]["chunk_shape"])


def dtype(document: Document) -> np.dtype:
    """Element type of an array. Raises ``CorruptInput`` for one that is no number."""
    name = document["dtype"] if document["zarr_format"] == 2 else document["data_type"]
    try:
        found = np.dtype(name)
    except TypeError:
        raise CorruptInput(f"elements of type {name!r} cannot be read", expected="numbers") from None
    return found


def chunk_key(document: Document, index: Sequence[int]) -> str:
    """Key of an object below the array's own path (``0.0``, ``c/0/0``)."""
    parts = [str(i) for i in index]
    if document["zarr_format"] == 2:
        return document.get("dimension_separator", ".").join(parts) or "0"
    encoding = document["chunk_key_encoding"]
    separator = encoding.get("configuration", {}).get("separator", "/" if encoding["name"] == "default" else ".")
    if encoding["name"] == "default":
        return separator.join(["c", *parts])
    return separator.join(parts) or "0"


def read(document: Document, objects: Mapping[str, bytes], where: tuple[slice, ...], what: str) -> np.ndarray:
    """A region of an array from its objects; those that are absent are fill values.

    Raises ``CorruptInput`` with ``what`` in its sentence when an object cannot be decoded.
    """
    array = _opened(document, objects, "r")
    try:
        return np.asarray(array[where])
    except Exception as error:
        # Codecs raise whatever they like for bytes that are not theirs: ValueError, RuntimeError, zarr's own.
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise CorruptInput(f"{what} cannot be decoded ({said})") from None


def write(document: Document, where: tuple[slice, ...], values: np.ndarray) -> dict[str, bytes]:
    """The objects of a region that consists of whole shards: key below the array's path -> bytes.

    Objects are made for fill values too, so that one which is missing later is a loss and never an empty place.
    """
    held: dict[str, Any] = {}
    array = _opened(document, {}, "r+", held).with_config({"write_empty_chunks": True})
    array[where] = values
    return {key: held.pop(key).to_bytes() for key in sorted(held) if key not in _NAMES.values()}


def _opened(document: Document, objects: Mapping[str, bytes], mode: Any, held: dict[str, Any] | None = None) -> Any:
    held = {} if held is None else held
    held[_NAMES[document["zarr_format"]]] = cpu.Buffer.from_bytes(json.dumps(document).encode())
    held.update((key, cpu.Buffer.from_bytes(data)) for key, data in objects.items())
    try:
        with fast_codecs():
            return zarr.open_array(MemoryStore(held), mode=mode, zarr_format=document["zarr_format"])
    except (ValueError, KeyError, TypeError) as error:
        raise LakeError(f"array metadata cannot be read ({str(error).splitlines()[0]})") from None


def document(
    shape: Sequence[int],
    kind: str,
    chunks: Sequence[int],
    shards: Sequence[int],
    *,
    fill: Any,
    dims: Sequence[str],
    attributes: Mapping[str, Any],
    level: int,
) -> Document:
    """``zarr.json`` of an array of the result: shards of chunks, Blosc (zstd) with the bytes shuffled."""
    held: dict[str, Any] = {}
    outer = tuple(shards) if tuple(shards) != tuple(chunks) else None
    zarr.create_array(
        MemoryStore(held), shape=tuple(shape), dtype=kind, chunks=tuple(chunks), shards=outer,
        fill_value=fill, dimension_names=tuple(dims), attributes=dict(attributes),
        compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=level, shuffle="shuffle"),
    )  # fmt: skip
    return json.loads(held["zarr.json"].to_bytes())
