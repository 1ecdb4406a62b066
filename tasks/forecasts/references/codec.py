"""Zarr codec ``weatherlake.grib``: a chunk is one GRIB message, decoded as the rest of the lake does it.

Registered by entry point (group ``zarr.codecs``), so that xarray finds it wherever weatherlake is installed.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.common import parse_named_configuration
from zarr.registry import register_codec

from ...lake.errors import CorruptInput
from ..decode import decode

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

NAME = "weatherlake.grib"


@dataclass(frozen=True)
class GribCodec(ArrayBytesCodec):
    """GRIB message of edition 1 or 2 -> its values, float32, missing as NaN; ``sub`` is the field's number (from 0).

    Every packing ecCodes knows, bitmaps, fields of a message with several, rows that run to and fro. Messages are
    decoded side by side: ecCodes works outside the GIL. Read-only.
    """

    sub: int = 0
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        _, configuration = parse_named_configuration(data, NAME, require_configuration=False)
        found: Any = configuration or {}
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in an array's metadata."""
        return {"name": NAME, "configuration": {"sub": self.sub}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: "ArraySpec") -> int:
        """Messages have no size of their own."""
        raise NotImplementedError(f"{NAME} has no fixed size")

    def _decode_sync(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        values = decode(chunk_data.to_bytes(), self.sub)
        if values.size != np.prod(chunk_spec.shape, dtype=np.int64):
            raise CorruptInput(
                "the message has another grid than its array", expected=tuple(chunk_spec.shape), found=values.shape
            )
        native: Any = values.reshape(chunk_spec.shape).astype(chunk_spec.dtype.to_native_dtype(), copy=False)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(native)

    async def _decode_single(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    def _encode_sync(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer | None":
        raise NotImplementedError(f"{NAME} reads GRIB messages and writes none")

    async def _encode_single(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer | None":
        return self._encode_sync(chunk_data, chunk_spec)


register_codec(NAME, GribCodec)
