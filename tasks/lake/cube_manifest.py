"""Which chunk objects a manifest of Icechunk refers to.

Icechunk tells how many references a manifest has, and not which. Its files are specified
(https://icechunk.io/en/latest/spec/): a header of 39 bytes, then a FlatBuffers table, compressed with zstd. FlatBuffers
grow by fields at the end of a table, so what is read here keeps its place; another version of the format is refused.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .errors import CorruptInput, LakeError

_MAGIC = "ICE🧊CHUNK".encode()
_HEADER = 39
_SPECS = (1, 2)
_MANIFEST = 2
_ZSTD = 1
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, in which Icechunk writes ids as names of objects."""

# Places of fields in their tables: https://github.com/earth-mover/icechunk, icechunk-format/flatbuffers/manifest.fbs
_ARRAYS = 1
_NODE_ID, _REFS = 0, 1
_INDEX, _OFFSET, _LENGTH, _CHUNK_ID = 0, 2, 3, 4


class Reference(NamedTuple):
    """A chunk of an array that lies in an object of its own: id of the array's node, place of the chunk along the first
    dimension, name and bytes of the object."""

    node: str
    first: int
    name: str
    bytes: int


def references(data: bytes, name: str = "manifest") -> list[Reference]:
    """What a manifest refers to; chunks that lie in the manifest itself or at a provider are left out.

    Raises ``CorruptInput`` for what is no manifest, ``LakeError`` for one of a format that is not known.
    """
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEADER:
        raise CorruptInput(f"{name} is no file of Icechunk", expected=_MAGIC, found=data[: len(_MAGIC)])
    spec, kind, compression = data[36], data[37], data[38]
    if spec not in _SPECS or compression not in (0, _ZSTD):
        raise LakeError(
            f"{name} is of a version of Icechunk's format that is not known", expected=f"one of {_SPECS}", found=spec
        )
    if kind != _MANIFEST:
        raise CorruptInput(f"{name} is no manifest of Icechunk", expected=f"file type {_MANIFEST}", found=kind)
    try:
        return list(_references(_decompressed(data[_HEADER:]) if compression else data[_HEADER:]))
    except (struct.error, IndexError, OSError) as error:
        raise CorruptInput(f"{name} cannot be read ({type(error).__name__})") from None


def _decompressed(data: bytes) -> bytes:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()


def _references(buffer: bytes) -> Iterator[Reference]:
    for array in _tables(buffer, _field(buffer, _root(buffer), _ARRAYS)):
        identifier = _field(buffer, array, _NODE_ID)
        node = _name(buffer[identifier : identifier + 8]) if identifier is not None else ""
        for table in _tables(buffer, _field(buffer, array, _REFS)):
            place, index = _field(buffer, table, _CHUNK_ID), _field(buffer, table, _INDEX)
            if place is None or index is None:
                continue
            vector = index + struct.unpack_from("<I", buffer, index)[0]
            length, first = struct.unpack_from("<II", buffer, vector)
            size = _number(buffer, table, _OFFSET) + _number(buffer, table, _LENGTH)
            yield Reference(node, first if length else 0, _name(buffer[place : place + 12]), size)


def _root(buffer: bytes) -> int:
    return struct.unpack_from("<I", buffer, 0)[0]


def _field(buffer: bytes, table: int, number: int) -> int | None:
    """Where a field of a table lies; None when the table has none."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    at = 4 + 2 * number
    if at >= struct.unpack_from("<H", buffer, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", buffer, vtable + at)[0]
    return table + offset if offset else None


def _number(buffer: bytes, table: int, number: int) -> int:
    place = _field(buffer, table, number)
    return struct.unpack_from("<Q", buffer, place)[0] if place is not None else 0


def _tables(buffer: bytes, place: int | None) -> Iterator[int]:
    """Where the tables of a vector lie."""
    if place is None:
        return
    vector = place + struct.unpack_from("<I", buffer, place)[0]
    for number in range(struct.unpack_from("<I", buffer, vector)[0]):
        at = vector + 4 + 4 * number
        yield at + struct.unpack_from("<I", buffer, at)[0]


def _name(identifier: bytes) -> str:
    """An id as Icechunk writes it: five bits a digit, the last filled up with zeros."""
    bits = 8 * len(identifier)
    digits = -(-bits // 5)
    value = int.from_bytes(identifier, "big") << (5 * digits - bits)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(5 * (digits - 1), -1, -5))
