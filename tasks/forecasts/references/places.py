"""Where the objects behind references are for somebody outside: absolute addresses, containers and checksums."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from ...lake.errors import NotFound, UsageError
from ...lake.objects import Objects
from ..archive import Archive
from .layout import SourceObject

_HEADS = 32


@dataclass(frozen=True, slots=True)
class Container:
    """The part of a store that virtual chunks may be read from.

    ``prefix`` is a URL that ends with a slash; ``store`` the URL of the store as recipes and lakes write it, with its
    options (endpoint, region, anonymous).
    """

    prefix: str
    store: str


@dataclass(frozen=True, slots=True)
class Place:
    """One object: ``url`` as fsspec takes it, ``location`` as Icechunk takes it (percent-encoded).

    ``checksum`` is an etag, or the time after which the object must not have changed.
    """

    url: str
    location: str
    container: Container
    checksum: str | datetime | None


def places(archive: Archive, objects: Sequence[SourceObject]) -> list[Place]:
    """The place of every object, in the same order.

    What the manifest says of an object's version is that of the provider's object, or of one message of a copy; the
    lake's own objects are asked for theirs. Raises ``NotFound`` when one of these is gone.
    """

    def one(found: SourceObject) -> Place:
        store, key = archive.resolve(found.url)
        etag, changed = found.etag, found.last_modified
        if "://" not in found.url:
            meta = store.head(key)
            if meta is None:
                raise NotFound(f"{store.url.split('?')[0].rstrip('/')}/{key} is not there, though a manifest names it")
            etag, changed = meta.etag, meta.last_modified.replace(microsecond=0)
        return _place(store, key, etag, changed)

    with ThreadPoolExecutor(_HEADS) as pool:
        return list(pool.map(one, objects))


def _place(store: Objects, key: str, etag: str | None, changed: datetime | None) -> Place:
    at = store.location
    # Arrow's times have a zone of another class, which Icechunk does not take for UTC.
    changed = None if changed is None else changed.astimezone(UTC)
    if at.is_local:
        path = Path(at.prefix) / key
        # Icechunk compares whole seconds, and what a manifest holds is cut to them.
        until = None if changed is None else changed + timedelta(seconds=1)
        return Place(f"file://{path}", path.as_uri(), _container(Path(at.prefix).as_uri(), store.url), until)
    base = f"{at.scheme}://{at.bucket}" + (f"/{at.prefix}" if at.prefix else "")
    checksum: str | datetime | None = etag
    if etag is None or etag.startswith("W/"):
        # A weak etag matches nothing in If-Match (RFC 9110, 13.1.1).
        checksum = changed
    elif at.scheme != "s3":
        # Icechunk 2.3 takes the quotes off, which S3 forgives and web servers do not: one pair more to lose.
        checksum = f'"{etag}"'
    return Place(f"{base}/{key}", f"{_quoted(base)}/{_quoted(key)}", _container(_quoted(base), store.url), checksum)


def _quoted(text: str) -> str:
    return quote(text, safe="/:+=&,;@!$'()*~-._")


def _container(base: str, store: str) -> Container:
    """The container of a store: its URL, or the folder above the first name that needs percent-encoding.

    Icechunk 2.3 does not find a container whose prefix has such a name in it.
    """
    prefix = f"{base}/"
    if "%" in prefix:
        prefix = prefix[: prefix.index("%")].rpartition("/")[0] + "/"
    if not re.fullmatch(r"[a-z0-9]+://.*[^/]/|(?:s3|https?)://[^/]+/", prefix):
        raise UsageError(f"{store}: virtual references need a folder or a bucket with a plain name, not {base}")
    return Container(prefix, store)
