"""What is stored of a scene: bands read back from the lake, each object checked against its record."""

from collections.abc import Mapping

import numpy as np

from ..lake.errors import CorruptInput, NotFound
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import Output, Status, digest_bytes
from .layout import keys_within
from .structure import Band
from .zarr_array import chunk_key, chunk_shape, read


class Stored:
    """A band in the lake with the outputs that its records name. Keeps the objects of the rows last read."""

    def __init__(self, lake: Lake, prefix: str, band: Band, outputs: Mapping[str, Output]) -> None:
        self.band = band
        self._lake = lake
        self._path = f"{prefix}/{band.path}"
        self._outputs = outputs
        self._held: dict[str, bytes] = {}

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Rows of the band, all columns: (..., bottom - top, columns). Raises ``CorruptInput``."""
        shape = self.band.shape
        start, stop = (*(0 for _ in shape[:-2]), top, 0), (*shape[:-2], bottom, shape[-1])
        keys = [chunk_key(self.band.document, i) for i in keys_within(start, stop, chunk_shape(self.band.document))]
        self._held = {k: self._held[k] if k in self._held else self.object(k) for k in keys}
        where = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        return read(self.band.document, self._held, where, self._path)

    def object(self, key: str) -> bytes:
        """One object. Raises ``CorruptInput`` when it is gone or is not what was recorded."""
        path = f"{self._path}/{key}"
        output = self._outputs.get(path)
        if output is None:
            raise CorruptInput(f"{path} is on no record")
        try:
            data = self._lake.objects.get(path)
        except NotFound:
            raise CorruptInput(f"{path} was recorded and is gone") from None
        if digest_bytes(data) != output.digest:
            raise CorruptInput(f"{path} is not what was recorded", expected=output.digest, found=digest_bytes(data))
        return data

    def keys(self) -> list[str]:
        """The keys of all objects that the band consists of."""
        shape = self.band.shape
        return [
            chunk_key(self.band.document, i)
            for i in keys_within((0,) * len(shape), shape, chunk_shape(self.band.document))
        ]


def outputs_of(records: Mapping[str, Record], prefix: str, band: Band) -> dict[str, Output] | None:
    """Path -> output of all objects of a band, None as long as one of them is on no record."""
    path = f"{prefix}/{band.path}/"
    done = (Status.DONE, Status.REJECTED)
    found = {o.uri: o for r in records.values() if r.status in done for o in r.outputs if o.uri.startswith(path)}
    shape = band.shape
    needed = [chunk_key(band.document, i) for i in keys_within((0,) * len(shape), shape, chunk_shape(band.document))]
    return found if all(path + key in found for key in needed) else None
