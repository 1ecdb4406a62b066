"""What ingest leaves behind for each group of a scene: arrays, grid, and every object with its size and version."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from ..grids.georef import Georef
from ..lake.errors import CorruptInput, NotFound, Unreachable, UsageError
from ..lake.lake import Lake
from ..lake.objects import Objects
from ..lake.partition import digest_bytes
from .items import store_of
from .zarr_array import Document, chunk_shape, read


class Stored(Struct, frozen=True):
    """An object of the source: size in bytes, the store's version of it, and its SHA-256 when it was copied."""

    size: int
    version: str | None = None
    digest: str | None = None


class SourceArray(Struct, frozen=True):
    """An array of the source. ``objects`` are those that are there, by their key below the array's path."""

    document: Document
    attributes: dict[str, Any]
    dims: tuple[str, ...]
    objects: dict[str, Stored]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""
        return tuple(self.document["shape"])

    @property
    def chunks(self) -> tuple[int, ...]:
        """What one object holds."""
        return chunk_shape(self.document)


class Manifest(Struct, frozen=True):
    """A group of a scene. ``store`` is the source's URL, or a prefix of the lake (``raw/...``) where it was copied."""

    scene: str
    group: str
    store: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    attributes: dict[str, Any]
    arrays: dict[str, SourceArray]
    root: dict[str, Any] = {}
    href: str | None = None
    item: dict[str, Any] | None = None
    options: str = ""

    @property
    def georef(self) -> Georef:
        """CRS and transform."""
        return Georef(self.crs, self.transform)

    @property
    def bands(self) -> dict[str, SourceArray]:
        """The arrays whose last dimensions are y and x."""
        return {n: a for n, a in self.arrays.items() if a.dims[-2:] == ("y", "x")}

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the grid."""
        rows, columns = next(iter(self.bands.values())).shape[-2:]
        return rows, columns


def key_of(recipe: str, scene: str, group: str) -> str:
    """Where the manifest of a group lies in the lake."""
    return f"manifests/{recipe}/{scene}/{group}.json"


def to_bytes(manifest: Manifest) -> bytes:
    """A manifest as JSON, the same for the same content."""
    return msgspec.json.encode(manifest, order="sorted")


def content(lake: Lake, recipe: str, scene: str, group: str) -> bytes:
    """The manifest of a group as stored. Raises ``UsageError`` when the group was not ingested."""
    try:
        return lake.objects.get(key_of(recipe, scene, group))
    except NotFound:
        raise UsageError(f"/{group} of {scene} is not ingested yet") from None


def parse(data: bytes, what: str) -> Manifest:
    """A manifest from `to_bytes`. Raises ``CorruptInput``."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise CorruptInput(f"the manifest of {what} cannot be read ({error})") from None


class Reader:
    """Reads regions of a group's arrays, from the source or from the lake's copy of it."""

    def __init__(self, lake: Lake, manifest: Manifest, tries: int) -> None:
        self._manifest = manifest
        self._copied = manifest.store.startswith("raw/")
        self._store = lake.objects if self._copied else store_of(manifest.store, manifest.options)
        self._tries = tries

    def region(self, name: str, where: tuple[slice, ...], chunks: list[str]) -> np.ndarray:
        """A region of an array as stored (not decoded), given the keys of the objects it lies in."""
        array = self._manifest.arrays[name]
        path = f"{self._manifest.group}/{name}"
        prefix = f"{self._manifest.store}/{path}" if self._copied else path
        held = {k: self._object(f"{prefix}/{k}", array.objects[k]) for k in chunks if k in array.objects}
        return read(array.document, held, where, f"/{path} of {self._manifest.scene}")

    def _object(self, key: str, stored: Stored) -> bytes:
        """An object as it was when the manifest was made.

        Raises ``CorruptInput`` for one that is gone or another, so that it never turns into fill values.
        """
        data = fetch(self._store, key, self._tries)
        if len(data) != stored.size:
            raise CorruptInput(
                f"{key} is not what it was at ingest", expected=f"{stored.size} bytes", found=f"{len(data)} bytes"
            )
        if stored.digest and digest_bytes(data) != stored.digest:
            raise CorruptInput(f"{key} is not what it was at ingest: its SHA-256 differs")
        return data


def fetch(store: Objects, key: str, tries: int) -> bytes:
    """The whole of an object, tried again when the store does not answer. Raises ``CorruptInput`` when it is gone."""
    for number in range(1, tries + 1):
        try:
            return store.get(key)
        except NotFound:
            raise CorruptInput(f"{key} was there at ingest and is not there any more") from None
        except Unreachable:
            if number == tries:
                raise
    raise AssertionError("unreachable")


def inputs_of(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Group -> digest of its manifest."""
    return {group: digest_bytes(to_bytes(m)) for group, m in manifests.items()}
