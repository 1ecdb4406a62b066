"""How an array of a cube lies in its store: chunks bound to shards, and the index that says where each chunk is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.errors import CorruptInput

if TYPE_CHECKING:
    import zarr

ABSENT = np.iinfo("uint64").max
"""Offset and length of a chunk that was never written, as Zarr's sharding codec has it."""


@dataclass(frozen=True)
class Layout:
    """An array without its first dimension ``init_time``; ``chunk`` and ``shard`` count cells along ``dims``.

    An array that is not sharded is one whose shards hold one chunk each, and have no index.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dtype: np.dtype
    fill: float
    _codecs: Any
    _sharding: Any

    @cached_property
    def per_shard(self) -> tuple[int, ...]:
        """Chunks of a shard along each dimension."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk when it is decoded."""
        return prod(self.chunk) * self.dtype.itemsize

    @cached_property
    def index_range(self) -> tuple[bool, int]:
        """Whether the index stands at the end of a shard, and its length in bytes (0: there is none)."""
        if self._sharding is None:
            return True, 0
        encoded = 16 * prod(self.per_shard)
        spec = self._index_spec
        for codec in self._sharding.index_codecs:
            encoded = codec.compute_encoded_size(encoded, spec)
        return self._sharding.index_location == "end", encoded

    @cached_property
    def _index_spec(self) -> Any:
        from zarr.core.array_spec import ArrayConfig, ArraySpec
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.dtype import UInt64

        return ArraySpec(
            (1, *self.per_shard, 2), UInt64(endianness="little"), np.uint64(ABSENT),
            ArrayConfig(order="C", write_empty_chunks=False), default_buffer_prototype(),
        )  # fmt: skip

    @cached_property
    def _index_transform(self) -> Any:
        return _transform(self._sharding.index_codecs, self._index_spec)

    @cached_property
    def _chunk_spec(self) -> Any:
        from zarr.core.array_spec import ArrayConfig, ArraySpec
        from zarr.core.buffer import default_buffer_prototype
        from zarr.dtype import parse_dtype

        return ArraySpec(
            (1, *self.chunk), parse_dtype(self.dtype, zarr_format=3), self.dtype.type(self.fill),
            ArrayConfig(order="C", write_empty_chunks=False), default_buffer_prototype(),
        )  # fmt: skip

    @cached_property
    def _chunk_transform(self) -> Any:
        return _transform(self._codecs, self._chunk_spec)

    def ready(self) -> None:
        """Load what decoding takes, so that the first reader does not wait for it."""
        _ = self._chunk_transform, self.index_range

    def entries(self, index: bytes) -> np.ndarray:
        """Offset and length of each chunk of a shard, by its number in C order: uint64 ``(chunk, 2)``.

        Raises ``CorruptInput`` when the index does not match its checksum.
        """
        from zarr.core.buffer.cpu import Buffer

        try:
            found = self._index_transform.decode_chunk(Buffer.from_bytes(index), self._index_spec)
        except ValueError as error:
            raise CorruptInput(f"the index of a shard of {self.name} is broken ({error})") from None
        # A copy of its own: what it is decoded from need not live as long.
        return np.array(found.as_numpy_array(), dtype="uint64").reshape(-1, 2)

    def decode(self, data: memoryview) -> np.ndarray:
        """Values of one chunk, of shape ``chunk``. Raises ``CorruptInput``."""
        from zarr.core.buffer.cpu import Buffer

        try:
            # zarr's buffers know bytes by their own array type; the view is not copied.
            raw: Any = np.frombuffer(data, "B")
            buffer = Buffer.from_array_like(raw)
            return self._chunk_transform.decode_chunk(buffer, self._chunk_spec).as_numpy_array()[0]
        except (ValueError, RuntimeError) as error:
            raise CorruptInput(f"a chunk of {self.name} cannot be decoded ({error})") from None


def layout(array: zarr.Array[Any], name: str) -> Layout:
    """The layout of an array of a cube, whose first dimension has chunks of one run."""
    from zarr.codecs import ShardingCodec

    metadata: Any = array.metadata
    codecs, sharding = metadata.codecs, None
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        sharding, codecs = codecs[0], codecs[0].codecs
    dims = tuple(str(d) for d in metadata.dimension_names)
    shards = array.shards or array.chunks
    return Layout(
        name, dims[1:], tuple(array.shape[1:]), tuple(array.chunks[1:]), tuple(shards[1:]), np.dtype(array.dtype),
        float(array.fill_value), tuple(codecs), sharding,
    )  # fmt: skip


def _transform(codecs: Any, spec: Any) -> Any:
    from zarr.core.chunk_utils import ChunkTransform
    from zarr.core.codec_pipeline import evolve_codecs

    return ChunkTransform(codecs=evolve_codecs(codecs, spec))
