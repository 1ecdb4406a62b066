"""Shards of the result, encoded and decoded one chunk at a time.

zarr writes and reads the same bytes, but only whole regions, and holds each of them several times over while it does. A
chunk that goes straight from the source's pixels into the shard needs no array of the shard's size, and one that goes
from a shard into the rows that are asked for no second copy of them. What zarr has written (the source) is read
by zarr; this is for arrays whose ``zarr.json`` came from `zarr_array.document`, and refuses all others.

Form of a shard: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/v1.0.html
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc

from ..lake.errors import CorruptInput, LakeError
from .buffers import give, take
from .layout import keys_within
from .zarr_array import Document, chunk_key, chunk_shape, dtype

_ABSENT = 2**64 - 1
"""Offset and length in the index of a chunk that is not in the shard."""

_CRC = 4

type Index = tuple[int, ...]
type Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Form:
    """How an array is stored: shapes of array, shard and chunk, type, fill value, level; ``sharded``: has an index."""

    document: Document
    shape: Index
    shard: Index
    chunk: Index
    dtype: np.dtype
    fill: Any
    level: int
    sharded: bool

    @property
    def grid(self) -> Index:
        """How many chunks a shard has along each dimension."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def place(self, chunk: Index) -> tuple[Index, Index]:
        """(index of the shard, index within it) of a chunk of the array."""
        pairs = [divmod(i, n) for i, n in zip(chunk, self.grid, strict=True)]
        return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)

    def where(self, chunk: Index) -> Slices:
        """The pixels of the array that a chunk holds."""
        return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(chunk, self.chunk, self.shape, strict=True))

    def within(self, start: Sequence[int], stop: Sequence[int]) -> Iterator[Index]:
        """The chunks that a region touches, in reading order."""
        return keys_within(tuple(start), tuple(stop), self.chunk)


def form(document: Document) -> Form:
    """How an array of the result is stored. Raises ``LakeError`` for a document that is not one of ours."""
    outer = chunk_shape(document)
    codecs, chunk, sharded = document["codecs"], outer, False
    if codecs[0]["name"] == "sharding_indexed":
        inside = codecs[0]["configuration"]
        last = inside.get("index_location", "end") == "end"
        if len(codecs) > 1 or not last or [c["name"] for c in inside["index_codecs"]] != ["bytes", "crc32c"]:
            raise LakeError("shards of this form are not made here", found=[c["name"] for c in codecs])
        codecs, chunk, sharded = inside["codecs"], tuple(inside["chunk_shape"]), True
    names = [c["name"] for c in codecs]
    settings = codecs[-1].get("configuration", {})
    if names != ["bytes", "blosc"] or (settings["cname"], settings["shuffle"]) != ("zstd", "shuffle"):
        raise LakeError("chunks of this form are not made here", expected="bytes, blosc (zstd, shuffle)", found=names)
    kind = dtype(document).newbyteorder("<")
    # JSON has no NaN: Zarr writes it as a string, which numpy understands.
    fill = np.asarray(document["fill_value"]).astype(kind)[()]
    return Form(document, tuple(document["shape"]), outer, chunk, kind, fill, settings["clevel"], sharded)


class Encoder:
    """Takes the chunks of whole shards in any order, and gives the shards. The same order gives the same bytes."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._buffers: dict[Index, tuple[np.ndarray, int]] = {}
        self._indices: dict[Index, np.ndarray] = {}

    def put(self, chunk: Index, values: np.ndarray) -> None:
        """Add a chunk by its index in the array; ``values`` are its pixels without those beyond the array's edge."""
        made = self.form
        shard, position = made.place(chunk)
        if values.shape == made.chunk:
            whole = np.ascontiguousarray(values, made.dtype)
        else:
            whole = np.full(made.chunk, made.fill, made.dtype)
            whole[tuple(slice(n) for n in values.shape)] = values
        data = blosc.compress(whole, b"zstd", made.level, blosc.SHUFFLE)
        if shard not in self._buffers:
            # What does not compress grows by the headers of chunks; pages that stay untouched take no memory.
            count, size = int(np.prod(made.grid)), int(np.prod(made.shard)) * made.dtype.itemsize
            self._buffers[shard] = take(size + count * (blosc.MAX_OVERHEAD + 16) + _CRC), 0
            self._indices[shard] = np.full((*made.grid, 2), _ABSENT, "<u8")
        self._indices[shard][position] = (self._buffers[shard][1], len(data))
        self._append(shard, data)

    def _append(self, shard: Index, data: bytes) -> None:
        buffer, end = self._buffers[shard]
        memoryview(buffer)[end : end + len(data)] = data
        self._buffers[shard] = buffer, end + len(data)

    def shards(self) -> Iterator[tuple[str, memoryview]]:
        """(key below the array's path, bytes) of every shard that chunks were added to, each until the next one."""
        for shard in sorted(self._buffers):
            index = self._indices.pop(shard).tobytes()
            if self.form.sharded:
                self._append(shard, index)
                self._append(shard, google_crc32c.value(index).to_bytes(_CRC, "little"))
            buffer, end = self._buffers.pop(shard)
            yield chunk_key(self.form.document, shard), memoryview(buffer)[:end]
            give(buffer)


class Shard:
    """A shard in memory, of which chunks are decoded."""

    def __init__(self, form: Form, data: memoryview, what: str, buffer: np.ndarray) -> None:
        """``data`` lies in ``buffer``. Raises ``CorruptInput``, with ``what`` in it, when the index cannot be read."""
        self.form = form
        self.buffer = buffer
        self._data = data
        self._what = what
        if not form.sharded:
            self._index = np.array([0, len(data)], "<u8").reshape(*form.grid, 2)
            return
        size = int(np.prod(form.grid)) * 16
        index, check = self._data[-size - _CRC : -_CRC], self._data[-_CRC:]
        if len(index) != size or google_crc32c.value(bytes(index)) != int.from_bytes(check, "little"):
            raise CorruptInput(f"{what} cannot be decoded (its index is damaged)")
        self._index = np.frombuffer(index, "<u8").reshape(*form.grid, 2)

    def decode(self, position: Index, out: np.ndarray) -> None:
        """Decode a chunk, by its index in the shard, into ``out`` of a chunk's shape. Raises ``CorruptInput``."""
        offset, length = (int(n) for n in self._index[position])
        if offset == _ABSENT:
            raise CorruptInput(f"{self._what} cannot be decoded (chunk {position} is not in it)")
        data = self._data[offset : offset + length]
        try:
            # Blosc states in bytes 4 to 8 what comes out; less than the buffer takes would leave old pixels in it.
            if int.from_bytes(data[4:8], "little") != out.nbytes:
                raise ValueError("another number of bytes than the chunk has")
            blosc.decompress(data, out)
        except (ValueError, RuntimeError) as error:
            raise CorruptInput(f"{self._what} cannot be decoded ({error})") from None


def positions(form: Form, shard: Index) -> Iterator[tuple[Index, Index]]:
    """(index in the shard, index in the array) of the chunks of a shard that hold pixels of the array."""
    for position in product(*(range(n) for n in form.grid)):
        chunk = tuple(s * n + p for s, n, p in zip(shard, form.grid, position, strict=True))
        if all(i * c < n for i, c, n in zip(chunk, form.chunk, form.shape, strict=True)):
            yield position, chunk
