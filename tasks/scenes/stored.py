"""What is stored of a scene: bands read back from the lake, each object checked against its record."""

from collections.abc import Iterator, Mapping

import numpy as np

from ..lake.errors import CorruptInput, NotFound
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import Output, Status, digest_bytes
from .buffers import give, take
from .layout import keys_within, spans
from .shards import Shard, form, positions
from .structure import Band
from .zarr_array import chunk_key, chunk_shape

_PIECE = 2**22
"""Bytes of an object that are read at once: less than what the allocator gives back (see `memory`)."""


class Stored:
    """A band in the lake with the outputs that its records name. Keeps the shards of the rows last read."""

    def __init__(self, lake: Lake, prefix: str, band: Band, outputs: Mapping[str, Output]) -> None:
        self.band = band
        self._lake = lake
        self._path = f"{prefix}/{band.path}"
        self._outputs = outputs
        self._form = form(band.document)
        self._held: dict[tuple[int, ...], Shard] = {}
        self._chunk = np.empty(self._form.chunk, self._form.dtype)
        self._rows = np.empty(0, "u1")

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Rows of the band, all columns: (..., bottom - top, columns). Raises ``CorruptInput``.

        The array is used again for the next rows: first touch of fresh memory costs as much as decoding into it.
        """
        made, shape = self._form, self.band.shape
        start, stop = (*(0 for _ in shape[:-2]), top, 0), (*shape[:-2], bottom, shape[-1])
        # Those of rows past are let go of before others are fetched.
        needed = set(keys_within(start, stop, made.shard))
        for index in [k for k in self._held if k not in needed]:
            give(self._held.pop(index).buffer)
        size = int(np.prod(shape[:-2])) * (bottom - top) * shape[-1] * made.dtype.itemsize
        if self._rows.nbytes < size:
            give(self._rows)
            self._rows = take(size)
        out = self._rows[:size].view(made.dtype).reshape(*shape[:-2], bottom - top, shape[-1])
        for chunk in made.within(start, stop):
            shard, position = made.place(chunk)
            if shard not in self._held:
                self._held[shard] = self._shard(shard)
            self._held[shard].decode(position, self._chunk)
            y, x = made.where(chunk)[-2:]
            first, last = max(y.start, top), min(y.stop, bottom)
            pixels = self._chunk[..., first - y.start : last - y.start, : x.stop - x.start]
            out[..., first - top : last - top, x] = pixels
        return out

    def chunks(self) -> Iterator[np.ndarray]:
        """The pixels of every chunk, shard by shard, each in the same memory. Raises ``CorruptInput``."""
        made = self._form
        for index in keys_within((0,) * len(made.shape), made.shape, made.shard):
            shard = self._shard(index)
            for position, chunk in positions(made, index):
                shard.decode(position, self._chunk)
                yield self._chunk[tuple(slice(s.stop - s.start) for s in made.where(chunk))]
            give(shard.buffer)

    def close(self) -> None:
        """Give back what is kept. The rows last handed out are not to be used after that."""
        for shard in self._held.values():
            give(shard.buffer)
        self._held = {}
        give(self._rows)
        self._rows = np.empty(0, "u1")

    def _shard(self, index: tuple[int, ...]) -> Shard:
        """A shard by its index. Raises ``CorruptInput`` when it is gone or is not what was recorded."""
        path = f"{self._path}/{chunk_key(self.band.document, index)}"
        output = self._outputs.get(path)
        if output is None:
            raise CorruptInput(f"{path} is on no record")
        buffer = take(output.bytes)
        try:
            return Shard(self._form, _fetched(self._lake, output, buffer), path, buffer)
        except NotFound:
            raise CorruptInput(f"{path} was recorded and is gone") from None


def _fetched(lake: Lake, output: Output, into: np.ndarray) -> memoryview:
    """An object as it was recorded, read in pieces into a buffer that is large enough.

    Raises ``NotFound``, and ``CorruptInput`` when it is not what was recorded.
    """
    whole = memoryview(into)[: output.bytes]
    for start, stop in spans(output.bytes, _PIECE):
        whole[start:stop] = lake.objects.get_range(output.uri, start, stop - start)
    found = digest_bytes(whole)
    if found != output.digest:
        raise CorruptInput(f"{output.uri} is not what was recorded", expected=output.digest, found=found)
    return whole


def outputs_of(records: Mapping[str, Record], prefix: str, band: Band) -> dict[str, Output] | None:
    """Path -> output of all objects of a band, None as long as one of them is on no record."""
    path = f"{prefix}/{band.path}/"
    done = (Status.DONE, Status.REJECTED)
    found = {o.uri: o for r in records.values() if r.status in done for o in r.outputs if o.uri.startswith(path)}
    shape = band.shape
    needed = [chunk_key(band.document, i) for i in keys_within((0,) * len(shape), shape, chunk_shape(band.document))]
    return found if all(path + key in found for key in needed) else None
