"""What a provider has of a run: every file of every step, on which mirror, in which version."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from ..lake.errors import LakeError
from ..lake.objects import Meta, Objects
from .archive import Archive
from .sources.source import SourceFile

HEADS = 64
"""HEAD requests under way at once, where a store cannot list what it has."""

AUDIT = 256
"""Files of finished steps that are looked at again in one plan, where each costs a request; others another day."""

_FEW = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What a mirror (its number) says of a file: of the GRIB itself and of its index, None for what is not there."""

    mirror: int
    data: Meta | None
    index: Meta | None

    def lacks(self, file: SourceFile) -> str | None:
        """What is missing of the file, in a few words; None when it is all there."""
        if self.data is None:
            return f"no {file.url}"
        if self.data.size == 0:
            return f"{file.url} is empty"
        if file.index_url is not None and self.index is None:
            return f"no {file.index_url}"
        if self.index is not None and self.index.size == 0:
            return f"{file.index_url} is empty"
        return None


def take_stock(archive: Archive, files: Sequence[SourceFile], order: Sequence[int]) -> dict[SourceFile, Found]:
    """Look for files on the mirrors, in this order, until each is found whole.

    One request a folder where the store can list, otherwise two a file, many at once. A file that no mirror has whole
    is reported as the first mirror that answered has it. Raises the first error when no mirror answers.
    """
    found: dict[SourceFile, Found] = {}
    left = list(files)
    failure: LakeError | None = None
    for number in order:
        if not left:
            break
        keys = [key for f in left for key in (f.url, f.index_url) if key is not None]
        try:
            there = look(archive.mirrors[number], keys)
        except LakeError as error:
            failure = failure or error
            continue
        for file in left:
            here = Found(number, there.get(file.url), there.get(file.index_url) if file.index_url else None)
            if file not in found or here.lacks(file) is None:
                found[file] = here
        left = [f for f in left if found[f].lacks(f)]
    if failure is not None and len(found) < len(files):
        raise failure
    return found


def look(store: Objects, keys: Sequence[str]) -> Mapping[str, Meta]:
    """Metadata of those objects that are there. Raises ``Unreachable`` and its like."""
    folders = sorted({str(PurePosixPath(key).parent) for key in keys})
    if store.can_list and len(keys) > _FEW and 2 * len(folders) <= len(keys):
        wanted = set(keys)
        with ThreadPoolExecutor(min(HEADS, len(folders))) as pool:
            listed = pool.map(lambda folder: store.folder("" if folder == "." else folder), folders)
            return {meta.key: meta for metas in listed for meta in metas if meta.key in wanted}
    with ThreadPoolExecutor(min(HEADS, max(1, len(keys)))) as pool:
        return {key: meta for key, meta in zip(keys, pool.map(store.head, keys), strict=True) if meta is not None}


def versions_now(archive: Archive, uris: Iterable[str], today: datetime | None = None) -> dict[str, str | None]:
    """Versions of objects that were read earlier, as far as the provider tells today.

    What is gone, or on a mirror that does not answer, is left out: a provider that cleans up makes nothing stale. Where
    every look costs a request, only a sample of the files is looked at, another one each day (UTC).
    """
    by_store: dict[str, tuple[Objects, dict[str, str]]] = {}
    for uri in uris:
        try:
            store, key = archive.resolve(uri)
        except LakeError:
            # A mirror that the recipe no longer names.
            continue
        by_store.setdefault(store.url, (store, {}))[1][key] = uri
    found: dict[str, str | None] = {}
    for store, uri_of in by_store.values():
        keys = sorted(uri_of)
        if not store.can_list and len(keys) > AUDIT:
            day = f"{today or datetime.now(UTC):%Y-%m-%d}"
            keys = sorted(keys, key=lambda key: hashlib.sha256(f"{day} {key}".encode()).digest())[:AUDIT]
        try:
            there = look(store, keys)
        except LakeError:
            continue
        found |= {uri_of[key]: store.version(meta) for key, meta in there.items()}
    return found
