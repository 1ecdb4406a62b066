"""Icechunk manifests: which object of the store holds a chunk of an array, and where in it.

Icechunk's own reader answers with bytes only and takes 0.5 ms of CPU for each range of a chunk; below it, on the object
store, it is a tenth of that (docs/adr/0014). So the reference is looked up once per shard and kept.

The format is that of the Icechunk specification, version 2 (https://icechunk.io/en/latest/reference/spec/): a header of
39 bytes - 12 of magic, 24 of the writer's name, one each for specification, file type and compression - and then a
FlatBuffers table of ``manifest.fbs``, zstd-compressed.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers
from flatbuffers.number_types import Uint32Flags, Uint64Flags
from flatbuffers.table import Table

from ..lake.errors import CorruptInput

_MAGIC = b"ICE\xf0\x9f\xa7\x8aCHUNK"
_HEADER = 39
_SPECIFICATIONS = (1, 2)
_MANIFEST = 2
_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the bytes of a chunk lie: an object below the repository's ``chunks/``, offset and length."""

    chunk: str
    offset: int
    length: int


def identifier(raw: bytes) -> str:
    """An Icechunk id as it stands in file names: Crockford's base 32 without padding."""
    return base64.b32encode(raw).rstrip(b"=").translate(_CROCKFORD).decode()


def references(data: bytes, node: str, run: int) -> Iterator[tuple[tuple[int, ...], Reference | None]]:
    """Chunk coordinates and reference of all chunks of one array whose first coordinate is ``run``.

    ``data`` is a manifest file, ``node`` the array's node id. None stands for a chunk that is in no object of the
    repository: kept in the manifest itself, or in somebody else's store. Raises ``CorruptInput`` for what is no
    manifest of a known version.
    """
    table = _table(data)
    # Fields are numbered from 4 in steps of 2, in the order of the schema.
    arrays = table.Offset(6)
    for i in range(table.VectorLen(arrays)):
        array = Table(table.Bytes, table.Indirect(table.Vector(arrays) + 4 * i))
        at = array.Pos + array.Offset(4)
        if identifier(bytes(array.Bytes[at : at + 8])) == node:
            yield from _refs_of(array, run)


def _table(data: bytes) -> Table:
    from numcodecs import get_codec

    if data[:12] != _MAGIC or len(data) <= _HEADER or data[37] != _MANIFEST:
        raise CorruptInput("this is no manifest of Icechunk")
    if data[36] not in _SPECIFICATIONS:
        raise CorruptInput("the manifest is of an unknown version", expected=_SPECIFICATIONS, found=data[36])
    zstd: Any = get_codec({"id": "zstd"})
    body = data[_HEADER:]
    buffer = bytearray(zstd.decode(body) if data[38] else body)
    return Table(buffer, flatbuffers.encode.Get(flatbuffers.packer.uoffset, buffer, 0))


def _refs_of(array: Table, run: int) -> Iterator[tuple[tuple[int, ...], Reference | None]]:
    vector = array.Offset(6)
    base, count = array.Vector(vector), array.VectorLen(vector)

    def ref(i: int) -> Table:
        return Table(array.Bytes, array.Indirect(base + 4 * i))

    # References are in the order of their coordinates: the first of the run is found by halving.
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if _index(ref(middle))[0] < run:
            low = middle + 1
        else:
            high = middle
    for i in range(low, count):
        one = ref(i)
        index = _index(one)
        if index[0] != run:
            return
        yield index, _reference(one)


def _index(ref: Table) -> tuple[int, ...]:
    vector = ref.Offset(4)
    base = ref.Vector(vector)
    return tuple(ref.Get(Uint32Flags, base + 4 * i) for i in range(ref.VectorLen(vector)))


def _reference(ref: Table) -> Reference | None:
    offset, length, chunk = ref.Offset(8), ref.Offset(10), ref.Offset(12)
    if not chunk:
        return None
    at = ref.Pos + chunk
    return Reference(
        identifier(bytes(ref.Bytes[at : at + 12])),
        ref.Get(Uint64Flags, ref.Pos + offset) if offset else 0,
        ref.Get(Uint64Flags, ref.Pos + length) if length else 0,
    )
