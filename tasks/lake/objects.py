"""Objects in a store: a local folder, S3 (or anything that speaks it), or a web server to read from.

One class over obstore with what the lake needs and obstore alone does not give: conditional replacement
on local folders, typed errors, digests. Thread-safe; calls release the GIL.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore import exceptions as oe
from obstore.store import HTTPStore, LocalStore, S3Store

from . import credentials
from .errors import (
    AccessError,
    ConflictError,
    CorruptInput,
    LakeError,
    NotFound,
    Overloaded,
    QuotaError,
    Unreachable,
    UsageError,
    as_lake_error,
    from_os_error,
)

_RETRY: dict[str, Any] = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2},
}
_CLIENT: dict[str, Any] = {"connect_timeout": "10s", "timeout": "120s", "allow_http": True, "user_agent": "weatherlake"}
_S3_OPTIONS = frozenset({"endpoint", "region", "anonymous", "credentials", "storage_class"})

_AWS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)  # fmt: skip
"""What of the environment decides how S3 is spoken to."""

LARGE = 128 * 2**10
"""Bytes from which on a storage class counts: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html"""

LOCK = ".lock"
"""File in a local store that conditional writes lock; no object of the store."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store says of an object: key, size in bytes, etag, time of last change (UTC)."""

    key: str
    size: int
    etag: str | None
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Location:
    """A store's URL taken apart.

    ``s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-central-1&anonymous=true``,
    ``file:///path``, a bare path, or ``https://host/prefix`` (to read from). ``credentials=block:TYPE/NAME`` says where
    the keys of an S3 store are (see `credentials`), ``storage_class=STANDARD_IA`` where large objects go.
    """

    scheme: str
    bucket: str
    prefix: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.scheme == "file"

    def option(self, name: str) -> str | None:
        """One query parameter of the URL, or None."""
        return dict(self.options).get(name)


def locate(url: str) -> Location:
    """A store's URL as a `Location`. Raises ``UsageError`` for a scheme or option that is not known."""
    if "://" not in url:
        return Location("file", "", str(Path(url).expanduser().resolve()))
    parts = urlsplit(url)
    options = tuple(sorted(parse_qsl(parts.query)))
    if parts.scheme == "file":
        return Location("file", "", str(Path(unquote(parts.path)).resolve()))
    if parts.scheme == "s3":
        unknown = sorted(set(dict(options)) - _S3_OPTIONS)
        if unknown:
            raise UsageError(f"{url}: unknown option {', '.join(unknown)}; known are: {', '.join(sorted(_S3_OPTIONS))}")
        if not parts.netloc:
            raise UsageError(f"{url} names no bucket")
        return Location("s3", parts.netloc, parts.path.strip("/"), options)
    if parts.scheme in ("http", "https"):
        return Location(parts.scheme, parts.netloc, parts.path.strip("/"), options)
    raise UsageError(f"{url}: a store is a folder, file://, s3:// or http(s)://, not {parts.scheme}://")


@lru_cache(maxsize=64)
def _open(at: Location, environment: tuple[str | None, ...]) -> Any:
    del environment
    if at.is_local:
        return LocalStore(prefix=at.prefix)
    if at.scheme == "s3":
        options: dict[str, Any] = {"skip_signature": True} if at.option("anonymous") == "true" else {}
        for name in ("endpoint", "region"):
            if value := at.option(name):
                options[name] = value
        if (reference := at.option("credentials")) and credentials.keys(reference) is not None:
            options["credential_provider"] = credentials.Obstore(reference)
        return S3Store(at.bucket, prefix=at.prefix or None, client_options=_CLIENT, retry_config=_RETRY, **options)
    return HTTPStore.from_url(f"{at.scheme}://{at.bucket}/{at.prefix}", client_options=_CLIENT, retry_config=_RETRY)


class Objects:
    """The objects below one URL."""

    def __init__(self, url: str) -> None:
        self.location = locate(url)
        self.url = url if "://" in url else Path(self.location.prefix).as_uri()

    def __reduce__(self):
        return Objects, (self.url,)

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    @cached_property
    def _store(self) -> Any:
        # A store keeps connections open, and making one takes milliseconds: one for all that read the same place, as
        # long as the credentials in the environment are the same.
        return _open(self.location, tuple(os.environ.get(name) for name in _AWS))

    @contextmanager
    def _typed(self, key: str) -> Iterator[None]:
        """Turn obstore's exceptions into typed ones that name the object."""
        try:
            yield
        except LakeError:
            raise
        except Exception as error:
            raise self._translate(error, key) from None

    def _translate(self, error: Exception, key: str) -> LakeError:
        where = f"{self.url.split('?')[0].rstrip('/')}/{key}"
        text = str(error).split("\n\nDebug source:")[0].splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, (FileNotFoundError, oe.NotFoundError)):
            return NotFound(f"{where} is not there")
        if isinstance(error, (oe.AlreadyExistsError, oe.PreconditionError)):
            return ConflictError(f"{where} was changed by somebody else at the same time")
        if isinstance(error, (PermissionError, oe.PermissionDeniedError, oe.UnauthenticatedError)):
            return AccessError(f"{where}: access refused ({text})")
        if "Unable to canonicalize filesystem root" in text:
            # A folder that does not exist holds nothing; writing makes it.
            return NotFound(f"{where} is not there")
        if match := re.search(r"os error (\d+)", str(error)):
            number = int(match[1])
            return from_os_error(OSError(number, os.strerror(number)), where)
        # By the status and nothing else: the text also holds the key and a duration, full of numbers.
        found = re.search(r"status code: (\d{3})", text)
        status = int(found[1]) if found else None
        if status == 416 or "Requested range was invalid" in text:
            return CorruptInput(f"{where} ends before the bytes that were asked for")
        if status == 404:
            return NotFound(f"{where} is not there ({text})")
        if status == 429:
            return QuotaError(f"{where}: the server asks to slow down ({text})")
        if status == 503:
            return Overloaded(f"{where}: the server is overloaded ({text.rpartition(' - ')[2]})")
        if status in (401, 403):
            return AccessError(f"{where}: access refused ({text})")
        if isinstance(error, (oe.GenericError, OSError)):
            # "Generic S3 error: Error performing GET https://... after 2 retries ... - what went wrong"
            return Unreachable(f"{where} cannot be reached ({text.rpartition(' - ')[2]})")
        return as_lake_error(error, where)

    @contextmanager
    def _writing(self, key: str) -> Iterator[Any]:
        if "_store" not in self.__dict__:
            self.make()
        with self._typed(key):
            yield self._store

    @contextmanager
    def opened(self, key: str) -> Iterator[Any]:
        """The obstore store, for what there is no method for here; its errors come out typed and name ``key``."""
        with self._writing(key) as store:
            yield store

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """Content of an object. Raises ``NotFound``."""
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str | None]:
        """Content and etag of an object, of one and the same version. Raises ``NotFound``."""
        with self._typed(key):
            result = obstore.get(self._store, key)
            return bytes(result.bytes()), result.meta["e_tag"]

    def get_with_meta(self, key: str) -> tuple[bytes, Meta]:
        """Content and metadata of an object, of one and the same version. Raises ``NotFound``."""
        with self._typed(key):
            result = obstore.get(self._store, key)
            return bytes(result.bytes()), meta_of(result.meta)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on. Raises ``CorruptInput`` when the object ends before them."""
        if length == 0:
            return b""
        with self._typed(key):
            data = bytes(obstore.get_range(self._store, key, start=offset, length=length))
        if len(data) != length:
            raise CorruptInput(f"{key} ends early", expected=f"{length} bytes at {offset}", found=f"{len(data)} bytes")
        return data

    def head(self, key: str) -> Meta | None:
        """Metadata of an object, or None when it is not there."""
        try:
            with self._typed(key):
                return meta_of(obstore.head(self._store, key))
        except NotFound:
            return None

    def version(self, meta: Meta) -> str | None:
        """What tells one content of an object from another, as far as the store says: the etag; on a local folder
        time of change and size, which a copy or a move of the folder keeps."""
        if self.location.is_local:
            return f"{meta.last_modified.timestamp():.6f}-{meta.size}"
        return meta.etag

    def listing(self, prefix: str = "") -> list[Meta]:
        """Every object below ``prefix`` (a whole number of path segments), sorted by key."""
        try:
            with self._typed(prefix):
                found = [meta_of(m) for batch in obstore.list(self._store, prefix or None) for m in batch]
        except NotFound:
            return []
        return sorted((m for m in found if m.key != LOCK), key=lambda m: m.key)

    @property
    def can_list(self) -> bool:
        """Whether the store can say what it holds; web servers cannot."""
        return self.location.scheme in ("file", "s3")

    def folder(self, prefix: str) -> list[Meta]:
        """The objects directly below ``prefix`` (a whole number of path segments), sorted by key."""
        try:
            with self._typed(prefix):
                found = [meta_of(m) for m in obstore.list_with_delimiter(self._store, prefix or None)["objects"]]
        except NotFound:
            return []
        return sorted((m for m in found if m.key != LOCK), key=lambda m: m.key)

    def get_many(self, keys: Sequence[str], concurrency: int = 32) -> list[tuple[bytes, str | None]]:
        """Content and etag of many objects, fetched side by side, in the order of ``keys``."""
        if len(keys) <= 2:
            return [self.get_with_etag(k) for k in keys]
        with ThreadPoolExecutor(min(concurrency, len(keys))) as pool:
            return list(pool.map(self.get_with_etag, keys))

    # -- writing ---------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes | Path) -> str | None:
        """Write an object in one step (readers see the old one or the new one); its etag."""
        with self._writing(key) as store:
            return obstore.put(store, key, data, attributes=self._attributes(data))["e_tag"]

    def _attributes(self, data: bytes | Path) -> Any:
        """The storage class of large objects, where the store's URL names one. Small ones, such as records, are read
        and changed often, and cost more in the colder classes, which bill at least so many bytes of each."""
        name = self.location.option("storage_class")
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        return {"Storage-Class": name} if name and size >= LARGE else None

    def put_new(self, key: str, data: bytes) -> str | None:
        """Write an object that must not exist yet; its etag. Raises ``ConflictError`` when it does."""
        with self._writing(key) as store:
            return obstore.put(store, key, data, mode="create", use_multipart=False)["e_tag"]

    def replace(self, key: str, data: bytes, etag: str | None) -> str | None:
        """Write an object only while its etag is ``etag``; the new etag. Raises ``ConflictError``."""
        with self._typed(key):
            if self.location.is_local:
                with self._local_lock():
                    before = meta_of(obstore.head(self._store, key))
                    if before.etag != etag:
                        raise ConflictError(f"{key} was changed by somebody else at the same time")
                    return self._put_later(key, data, before.last_modified)
            mode: Any = {"e_tag": etag}
            return obstore.put(self._store, key, data, mode=mode, use_multipart=False)["e_tag"]

    def _put_later(self, key: str, data: bytes, than: datetime) -> str | None:
        """Write a local object whose time of change is after ``than``; its etag.

        The etag of a file is its inode, time and size. Inodes are used again at once and many kernels' clocks
        tick only every few milliseconds, so without this a third version could carry the etag of the first.
        """
        etag = obstore.put(self._store, key, data, use_multipart=False)["e_tag"]
        if obstore.head(self._store, key)["last_modified"] > than:
            return etag
        path = Path(self.location.prefix, key)
        os.utime(path, ns=(path.stat().st_atime_ns, (round(than.timestamp() * 1e6) + 1) * 1000))
        return obstore.head(self._store, key)["e_tag"]

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when it is not there."""
        try:
            with self._typed(key):
                obstore.delete(self._store, key)
        except NotFound:
            pass

    def delete_all(self, prefix: str) -> int:
        """Remove every object below ``prefix``; how many there were."""
        keys = [m.key for m in self.listing(prefix)]
        for key in keys:
            self.delete(key)
        return len(keys)

    def sweep(self, prefix: str) -> int:
        """Remove what writers that were killed left half-written below ``prefix``; how many there were.

        Only local folders have such files (``name#1``, renamed when they are whole); they are no objects, but a person
        who copies the folder gets them. Nobody else may be writing there.
        """
        if not self.location.is_local:
            return 0
        left = [p for p in Path(self.location.prefix, prefix).rglob("*#*") if re.search(r"#\d+$", p.name)]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def make(self) -> None:
        """Create the folder of a local store; nothing for others. Raises ``AccessError``, ``ResourceError``."""
        if self.location.is_local:
            try:
                Path(self.location.prefix).mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise AccessError(f"{self.url} cannot be made: {error.filename} is or lies below a file") from None
            except FileNotFoundError as error:
                # Parents are made too, so only a place where nothing can be made (/proc) answers this.
                raise AccessError(f"{self.url} cannot be made: {error.strerror}") from None
            except OSError as error:
                raise from_os_error(error, f"{self.url} cannot be made") from None

    @contextmanager
    def _local_lock(self) -> Iterator[None]:
        """Hold the folder's lock: local file systems have no conditional rename of their own.

        The kernel frees it when its holder dies, so a killed process leaves nothing behind.
        """
        path = Path(self.location.prefix) / LOCK
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def meta_of(raw: Any) -> Meta:
    """What obstore says of an object."""
    return Meta(raw["path"], raw["size"], raw["e_tag"], raw["last_modified"])
