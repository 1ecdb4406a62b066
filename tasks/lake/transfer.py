"""Copying many objects between stores: in parallel, in bounded memory, each one verified, to be gone on with.

An object is read once. Its SHA-256 is taken of the bytes on their way, and held against the digest that is on record of
it where there is one. What is at the target already is not copied again: a receipt (`receipts.Receipts`) says what was
copied before, and where none does - the copier was killed between an object and its receipt - both ends are read.
Between buckets of one S3 service the bytes do not travel at all (`server_copy`).
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import stamina

from .errors import Changed, ConflictError, CorruptInput, NotFound, QuotaError, Unreachable
from .meter import Meter
from .objects import Meta, Objects, meta_of
from .receipts import Receipt, Receipts
from .server_copy import ServerCopy, server_side

AT_ONCE = 16
"""Objects under way at a time."""

PIECE = 16 * 2**20
"""Objects up to this size are held in memory as a whole, larger ones go piece by piece of this size."""

_PIECES = 4
"""Pieces of a large object that may be in memory: read ahead, hashed, under way to the target."""

_BUDGET = 256 * 2**20
_LISTED = 200
_TRIES = 7
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Item:
    """An object to be copied under its own key.

    ``digest`` (``sha256:...``) is what is on record of its content, ``version`` the one that is meant (see
    `Objects.version`): None takes the object as it is found. ``storage_class`` is a class of S3 to write it to.
    """

    key: str
    bytes: int
    digest: str | None = None
    version: str | None = None
    storage_class: str | None = None


def transfer(
    source: Objects,
    target: Objects,
    items: Sequence[Item],
    receipts: Receipts,
    meter: Meter | None = None,
    at_once: int = AT_ONCE,
) -> list[Receipt]:
    """Copy objects; a receipt for each, in the order of ``items``. Goes on where an earlier call was killed.

    Every object appears at the target in one step. The first error ends it, when what is under way is over: what was
    copied is on record at the target. Raises ``Changed`` for a source that is not what it was, ``CorruptInput`` for
    bytes that are not those on record, ``NotFound``, ``ResourceError`` for a full disk, ``Unreachable``.
    """
    # stamina would tell of every retry on standard output, where `--json` has its one object.
    stamina.instrumentation.set_on_retry_hooks([])
    meter = meter or Meter()
    copier = _Copier(source, target, receipts, meter)
    copier.sweep(items)
    there = present(target, [i.key for i in items])
    meter.expect(len(items), sum(i.bytes for i in items))
    found: dict[str, Receipt] = {}
    work: list[Item] = []
    for item in items:
        before, meta = receipts.of(item.key), there.get(item.key)
        if before is not None and meta is not None and _stands(before, item, meta, target):
            found[item.key] = before
            meter.skipped(item.bytes)
        else:
            work.append(item)
    # Large ones first: the last to be under way then are small.
    work.sort(key=lambda i: -i.bytes)
    with receipts, ThreadPoolExecutor(at_once, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(copier.one, item, there.get(item.key)) for item in work]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in done:
            if not future.cancelled() and (error := future.exception()) is not None:
                copier.stop.set()
                raise error
        found |= {r.key: r for r in (f.result() for f in futures)}
    return [found[i.key] for i in items]


def present(objects: Objects, keys: Sequence[str]) -> dict[str, Meta]:
    """Metadata of those of the keys that are there: by listings where many lie in one folder."""
    by_folder: dict[str, list[str]] = {}
    for key in keys:
        by_folder.setdefault(key.rpartition("/")[0], []).append(key)
    found: dict[str, Meta] = {}
    single: list[str] = []
    for folder, mine in by_folder.items():
        if len(mine) < _LISTED:
            single += mine
        else:
            there = {m.key: m for m in objects.folder(folder)}
            found |= {key: there[key] for key in mine if key in there}
    with ThreadPoolExecutor(32) as pool:
        found |= {m.key: m for m in pool.map(objects.head, single) if m is not None}
    return found


def _stands(receipt: Receipt, item: Item, meta: Meta, target: Objects) -> bool:
    """Whether an object that was copied before is still what was copied, and what is asked for now."""
    return (
        meta.size == receipt.bytes == item.bytes
        and target.version(meta) == receipt.target
        and item.digest in (None, f"sha256:{receipt.sha256}")
        and item.version in (None, receipt.source)
    )


class _Budget:
    """Bytes that may be in memory at a time; a thread that wants more waits for the others."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._free = threading.Condition()

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        count = min(count, self._most)
        with self._free:
            self._free.wait_for(lambda: self._left >= count)
            self._left -= count
        try:
            yield
        finally:
            with self._free:
                self._left += count
                self._free.notify_all()


class _Copier:
    """Copies one object at a time, from many threads."""

    def __init__(self, source: Objects, target: Objects, receipts: Receipts, meter: Meter) -> None:
        self.source, self.target = source, target
        self.receipts, self.meter = receipts, meter
        self.server: ServerCopy | None = server_side(source, target)
        self.budget = _Budget(_BUDGET)
        self.stop = threading.Event()

    def sweep(self, items: Iterable[Item]) -> None:
        """Remove what a killed copier left half-written of these objects (``name#1``; local folders only)."""
        if not self.target.location.is_local:
            return
        root, keys = Path(self.target.location.prefix), {i.key for i in items}
        for folder in {key.rpartition("/")[0] for key in keys}:
            if (root / folder).is_dir():
                for entry in os.scandir(root / folder):
                    name = re.sub(r"#\d+$", "", entry.name)
                    if name != entry.name and f"{folder}/{name}".lstrip("/") in keys:
                        Path(entry.path).unlink(missing_ok=True)

    def one(self, item: Item, there: Meta | None) -> Receipt:
        """Copy one object, unless it is at the target already."""
        for attempt in stamina.retry_context(
            on=(QuotaError, Unreachable), attempts=_TRIES, timeout=_PATIENCE, wait_initial=0.5, wait_max=20
        ):
            with attempt:
                if self.stop.is_set():
                    raise ConflictError("another object of the same transfer failed")
                receipt = self._adopted(item, there) if there is not None else None
                receipt = receipt or self._copied(item)
                self.receipts.add(receipt)
                return receipt
        raise AssertionError("unreachable")

    def _adopted(self, item: Item, there: Meta) -> Receipt | None:
        """A receipt for an object that is at the target without one; None when it is not the same."""
        if there.size != item.bytes:
            return None
        with self.budget.of(2 * PIECE):
            here = self._known(item)
            sha256 = digest_of(self.target, there)
            wanted = item.digest or f"sha256:{digest_of(self.source, here)}"
        if f"sha256:{sha256}" != wanted:
            return None
        self.meter.skipped(item.bytes)
        return self._receipt(item, here, sha256, self.target.version(there), "found there")

    def _known(self, item: Item) -> Meta:
        """The source's object as it is now. Raises ``NotFound``, ``Changed``."""
        meta = self.source.head(item.key)
        if meta is None:
            raise NotFound(f"{item.key} is not in {self.source.url.split('?')[0]} any more")
        version = self.source.version(meta)
        if meta.size != item.bytes or item.version not in (None, version):
            raise Changed(
                f"{item.key} changed at the source",
                expected=f"{item.bytes} bytes" + (f", version {item.version}" if item.version else ""),
                found=f"{meta.size} bytes, version {version}",
            )
        return meta

    def _copied(self, item: Item) -> Receipt:
        if self.server is not None and self.server.works:
            receipt = self._on_the_server(item, self.server)
            if receipt is not None:
                return receipt
        whole = item.bytes <= PIECE
        with self.budget.of(item.bytes if whole else _PIECES * PIECE):
            return self._whole(item) if whole else self._in_pieces(item)

    def _on_the_server(self, item: Item, server: ServerCopy) -> Receipt | None:
        here = self._known(item)
        sha256 = server.copy(item.key, here, item.storage_class)
        if not server.works:
            return None
        meta = self._at_target(item)
        how = "copied by the server, which took the digest"
        if sha256 is None:
            # This service tells no SHA-256 of what it copied: the copy is read.
            with self.budget.of(PIECE):
                sha256, how = digest_of(self.target, meta), "copied by the server, and read back"
        self._check(item, sha256)
        self.meter.copied(item.bytes)
        return self._receipt(item, here, sha256, self.target.version(meta), how)

    def _at_target(self, item: Item) -> Meta:
        meta = self.target.head(item.key)
        if meta is None or meta.size != item.bytes:
            raise CorruptInput(
                f"{item.key} is not whole at {self.target.url.split('?')[0]}",
                expected=f"{item.bytes} bytes", found=meta and f"{meta.size} bytes",
            )  # fmt: skip
        return meta

    def _whole(self, item: Item) -> Receipt:
        with self.source.opened(item.key) as store:
            got = obstore.get(store, item.key)
            data, meta = got.bytes(), meta_of(got.meta)
        self._same(item, meta)
        sha256 = hashlib.sha256(data).hexdigest()
        self._check(item, sha256)
        version = self._put(item, data, in_parts=False)
        self.meter.copied(item.bytes)
        return self._receipt(item, meta, sha256, version, "copied")

    def _same(self, item: Item, meta: Meta) -> None:
        version = self.source.version(meta)
        if meta.size != item.bytes or item.version not in (None, version):
            raise Changed(f"{item.key} changed at the source", expected=f"{item.bytes} bytes, version {item.version}",
                          found=f"{meta.size} bytes, version {version}")  # fmt: skip

    def _in_pieces(self, item: Item) -> Receipt:
        here = self._known(item)
        digest = hashlib.sha256()

        def hashed() -> Iterator[Any]:
            for piece in pieces(self.source, here):
                digest.update(piece)
                self.meter.copied(len(piece), whole=False)
                yield piece
            # The object appears at the target when this ends: not before it is known to be the right one.
            self._check(item, digest.hexdigest())

        version = self._put(item, hashed(), in_parts=True)
        self.meter.copied(0)
        return self._receipt(item, here, digest.hexdigest(), version, "copied in parts")

    def _put(self, item: Item, data: Any, *, in_parts: bool) -> str | None:
        """Write an object in one step; the version it has at the target."""
        named = {"Storage-Class": item.storage_class} if item.storage_class else None
        with self.target.opened(item.key) as store:
            answer = obstore.put(
                store, item.key, data, attributes=named, use_multipart=in_parts, chunk_size=PIECE,
                max_concurrency=_PIECES - 2,
            )  # fmt: skip
        if self.target.location.is_local or in_parts:
            return self.target.version(self._at_target(item))
        return answer["e_tag"]

    def _check(self, item: Item, sha256: str) -> None:
        if item.digest not in (None, f"sha256:{sha256}"):
            raise CorruptInput(
                f"{item.key} does not hold what is on record of it", expected=item.digest, found=f"sha256:{sha256}"
            )

    def _receipt(self, item: Item, here: Meta, sha256: str, version: str | None, how: str) -> Receipt:
        return Receipt(item.key, item.bytes, sha256, self.source.version(here), version, how)


def pieces(objects: Objects, meta: Meta) -> Iterator[Any]:
    """The content of one version of an object, piece by piece, read one piece ahead. Raises ``Changed``."""

    def read(offset: int) -> Any:
        span: Any = {"range": (offset, min(offset + PIECE, meta.size)), "if_match": meta.etag}
        try:
            with objects.opened(meta.key) as store:
                return obstore.get(store, meta.key, options=span).bytes()
        except ConflictError:
            raise Changed(
                f"{meta.key} changed while it was read", expected=meta.etag, found="another version"
            ) from None

    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(read, 0) if meta.size else None
        for offset in range(0, meta.size, PIECE):
            assert following is not None
            piece = following.result()
            following = ahead.submit(read, offset + PIECE) if offset + PIECE < meta.size else None
            yield piece


def digest_of(objects: Objects, meta: Meta) -> str:
    """SHA-256 of an object as it is, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in pieces(objects, meta):
        digest.update(piece)
    return digest.hexdigest()
