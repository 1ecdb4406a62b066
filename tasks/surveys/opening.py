"""Opening a granule where it lies, inside a child process: its first bytes, as a file, as a Zarr store, with GDAL."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as oe
from obstore.store import HTTPStore, S3Store

from .question import Question
from .reasons import Finding, Passing, Reason

HEAD = 4096
_BLOCK = 1 << 20
_BLOCKS = 32
_STATUS = re.compile(r"status code: (\d{3})")
_VOLATILE = re.compile(r" in [\d.]+(?:ns|µs|us|ms|s)\b|, after \d+ retries?, max_retries: \d+, retry_timeout: \S+")
_FOREVER = "3600s"
"""Clients in a child wait as long as the child lives: its limit of time is the only one, so a hang is a time-out."""

_CLIENT: dict[str, Any] = {
    "timeout": _FOREVER,
    "connect_timeout": "20s",
    "allow_http": True,
    "user_agent": "weatherlake",
}
_RETRY: dict[str, Any] = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=4), "base": 2},
}


def store(question: Question) -> tuple[Any, str]:
    """The store a granule lies in, and its key there."""
    folder, _, name = question.url.rstrip("/").rpartition("/")
    if question.url.startswith("s3://"):
        bucket, _, key = question.url.removeprefix("s3://").partition("/")
        return _s3(question, bucket), unquote(key)
    return _http(question, folder), unquote(urlsplit(f"//host/{name}").path.strip("/"))


def _http(question: Question, base: str) -> HTTPStore:
    client = dict(_CLIENT)
    if question.token:
        # Sent to this host only: a redirect to another one goes without it.
        client["default_headers"] = {"Authorization": f"Bearer {question.token}"}
    return HTTPStore.from_url(base, client_options=client, retry_config=_RETRY)


def _s3(question: Question, bucket: str, prefix: str | None = None) -> S3Store:
    options: dict[str, Any] = {"region": question.region}
    if question.endpoint:
        options["endpoint"] = question.endpoint
    if question.keys:
        options["access_key_id"] = question.keys.access
        options["secret_access_key"] = question.keys.secret
        options["session_token"] = question.keys.session
    else:
        options["skip_signature"] = True
    return S3Store(bucket, prefix=prefix, client_options=_CLIENT, retry_config=_RETRY, **options)


def head(question: Question) -> bytes:
    """The first bytes of a granule, 4096 at most. Raises `Finding`, `Passing`."""
    place, key = store(question)
    with reading():
        return bytes(obstore.get(place, key, options={"range": (0, HEAD)}).bytes())


class _Remote(io.RawIOBase):
    """A granule as Python's own kind of file (the readers of HDF5 and NetCDF take no other), in blocks of 1 MiB.

    These readers seek for every header and chunk; the blocks they come back to are kept.
    """

    def __init__(self, place: Any, key: str) -> None:
        with reading():
            first = obstore.get(place, key, options={"range": (0, _BLOCK)})
            self._size = first.meta["size"]
            self._first = bytes(first.bytes())
        self._place, self._key, self._at = place, key, 0
        self._block = lru_cache(_BLOCKS)(self._fetch)

    def _fetch(self, number: int) -> bytes:
        start = number * _BLOCK
        if number == 0:
            return self._first
        with reading():
            end = min(start + _BLOCK, self._size)
            return bytes(obstore.get_range(self._place, self._key, start=start, end=end))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        number, offset = divmod(self._at, _BLOCK)
        if self._at >= self._size:
            return 0
        data = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def file(question: Question) -> io.BufferedIOBase:
    """A granule as a file to read from and seek in; bytes are fetched as they are asked for."""
    return io.BufferedReader(_Remote(*store(question)))


def zarr_store(question: Question) -> Any:
    """A granule that is a Zarr hierarchy, as a store for zarr."""
    from zarr.storage import ObjectStore

    url = question.url.rstrip("/")
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return ObjectStore(_s3(question, bucket, unquote(key)), read_only=True)
    return ObjectStore(_http(question, url), read_only=True)


def gdal(question: Question) -> tuple[str, Mapping[str, Any]]:
    """A granule's name for GDAL, and the configuration it is opened under."""
    options: dict[str, Any] = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "CPL_VSIL_CURL_USE_HEAD": "NO",
        "GDAL_HTTP_MAX_RETRY": "2",
        "GDAL_HTTP_RETRY_DELAY": "0.2",
        # The default is a share of the machine's memory, of which a check has a small part only.
        "GDAL_CACHEMAX": 64 * 2**20,
        "GDAL_NUM_THREADS": "1",
    }
    parts = urlsplit(question.url)
    if parts.scheme != "s3":
        if question.token:
            options |= {"GDAL_HTTP_AUTH": "BEARER", "GDAL_HTTP_BEARER": question.token}
        return f"/vsicurl/{question.url}", options
    options["AWS_REGION"] = question.region
    if question.endpoint:
        where = urlsplit(question.endpoint)
        options |= {"AWS_S3_ENDPOINT": where.netloc, "AWS_VIRTUAL_HOSTING": "FALSE"}
        options["AWS_HTTPS"] = "YES" if where.scheme == "https" else "NO"
    if question.keys:
        options |= {
            "AWS_ACCESS_KEY_ID": question.keys.access,
            "AWS_SECRET_ACCESS_KEY": question.keys.secret,
            "AWS_SESSION_TOKEN": question.keys.session,
        }
    else:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    return f"/vsis3/{parts.netloc}{unquote(parts.path)}", options


@contextmanager
def reading() -> Iterator[None]:
    """Turn what a store says into a finding, or into a failure that may pass."""
    try:
        yield
    except (PermissionError, oe.PermissionDeniedError, oe.UnauthenticatedError) as error:
        raise Finding(Reason.FORBIDDEN, _first(error)) from None
    except (FileNotFoundError, oe.NotFoundError) as error:
        raise Finding(Reason.CANT_OPEN_FILE, f"the link leads nowhere: {_first(error)}") from None
    except (oe.GenericError, OSError) as error:
        text = _first(error)
        status = _STATUS.search(text)
        if status and status[1] in ("401", "403"):
            raise Finding(Reason.FORBIDDEN, text) from None
        if status and status[1].startswith("4") and status[1] not in ("408", "429"):
            raise Finding(Reason.CANT_OPEN_FILE, text) from None
        if any(word in text.lower() for word in ("range", "invalid", "malformed", "not supported")):
            raise Finding(Reason.CANT_OPEN_FILE, text) from None
        raise Passing(text) from None


def _first(error: Exception) -> str:
    """What an error says, without what differs from one try to the next."""
    text = " ".join(str(error).split("\n\nDebug source:")[0].split())
    return re.sub(
        r" in [\d.]+(?:ns|µs|us|ms|s)\b|, after \d+ retries?, max_retries: \d+, retry_timeout: \S+", "", text
    )[:500]
