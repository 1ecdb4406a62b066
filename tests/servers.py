"""Real servers on loopback for tests: S3 (moto in a process of its own) and a plain HTTP archive with faults.

Both listen on a free port of 127.0.0.1. Fixtures that start and stop them are in `tests.conftest`.
"""

import itertools
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .listening import Answering, listening

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment in which clients reach `S3Server`; it takes any key."""

# Connections have a thread each, but requests are answered one by one: moto looks whether If-Match holds and
# writes afterwards, and with two requests in between it would let both through, which S3 never does.
# The server ends when its standard input does: whatever becomes of the tests, it does not outlive them.
_SERVE_S3 = """
import logging, sys, threading
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.moto_server.threaded_moto_server import MotoRequestHandler
from werkzeug.serving import make_server

moto, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

def answer(environ, start_response):
    with one:
        return list(moto(environ, start_response))

server = make_server("127.0.0.1", 0, answer, True, request_handler=MotoRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
"""


class S3Server:
    """S3 as moto serves it: conditional writes are enforced; a few hundred requests a second.

    ``lake()`` makes a bucket of its own for each call, so tests do not see each other's objects.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVE_S3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("the S3 server of the tests did not start")
        self.endpoint = f"http://127.0.0.1:{line}"
        self._numbers = itertools.count()

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            return name

    def lake(self, prefix: str = "lake") -> str:
        """A lake's URL in a new bucket: ``s3://bucket/prefix?endpoint=...&region=us-east-1``."""
        return f"s3://{self.bucket()}/{prefix}?endpoint={self.endpoint}&region=us-east-1"

    def close(self) -> None:
        """End the server and wait for it."""
        with self._process as process:
            process.kill()


@dataclass
class Faults:
    """What an `Archive` does wrong from now on; may be changed while it serves.

    ``latency`` is seconds before every answer. ``error_rate`` of the requests (drawn from ``seed``) are
    answered with ``error_status`` (and ``retry_after`` seconds in Retry-After, when given). ``fail_first``
    requests of every path get that answer before it works: the predictable form of a passing fault.
    ``truncate`` ends every body of a GET after that many bytes, while Content-Length promises all of them;
    ``truncate_first`` does it only to that many GETs of a path. ``ignore_range`` answers 200 with the whole
    file to a Range. ``only`` restricts all of it to paths in which this regular expression is found.
    """

    latency: float = 0.0
    error_rate: float = 0.0
    error_status: int = 503
    retry_after: int | None = None
    fail_first: int = 0
    truncate: int | None = None
    truncate_first: int | None = None
    ignore_range: bool = False
    only: str = ""
    seed: int = 1


@dataclass(frozen=True)
class Request:
    """A request as it came in: ``range`` is the header's value (``bytes=0-99``), ``status`` the answer's."""

    method: str
    path: str
    range: str | None
    status: int


@dataclass
class Archive:
    """A folder served over plain HTTP/1.1, the way data archives serve theirs.

    GET and HEAD; keep-alive; Content-Length, Last-Modified and a strong ETag that changes with the content;
    ``Range: bytes=a-b``, ``a-`` and ``-n`` (206 with Content-Range, 416 past the end; of several ranges the
    whole file is the answer, as RFC 9110 14.2 allows); If-Match (412) and If-None-Match (304). No listing.

    ``url`` has no trailing slash: a file ``folder/a/b.grib2`` is at ``f"{url}/a/b.grib2"``. ``faults`` may be
    changed at any time; ``requests`` are all that came in so far, in the order their answers were decided.

    >>> def test_ranges(http_archive, shared):
    ...     archive = http_archive(shared / "data", latency=0.04, fail_first=1)
    ...     fetch(f"{archive.url}/ecmwf/x.index")
    ...     assert [r.status for r in archive.requests] == [503, 200]
    ...     archive.faults.fail_first = 0
    """

    folder: Path
    url: str
    faults: Faults
    requests: list[Request] = field(default_factory=list)

    def clear(self) -> None:
        """Forget the requests so far."""
        self.requests.clear()


@contextmanager
def archive(folder: Path, **faults: Any) -> Iterator[Archive]:
    """Serve ``folder`` until the block is left; ``faults`` are the fields of `Faults`."""
    served = Archive(Path(folder), "", Faults(**faults))
    dice = random.Random(served.faults.seed)
    seen: dict[str, int] = {}
    lock = threading.Lock()

    class Handler(_Handler):
        archive = served

        def fault(self, path: str) -> tuple[bool, int | None]:
            """Whether to answer with an error, and after how many bytes to hang up."""
            now = served.faults
            if not re.search(now.only, path):
                return False, None
            if now.latency:
                time.sleep(now.latency)
            with lock:
                before = seen.get(path, 0)
                seen[path] = before + 1
                refused = before < now.fail_first or (now.error_rate > 0 and dice.random() < now.error_rate)
            cut = now.truncate_first is None or before - now.fail_first < now.truncate_first
            return refused, now.truncate if cut else None

    with listening(Handler) as url:
        served.url = url
        yield served


class _Handler(Answering):
    archive: Archive
    server_version = "archive"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def fault(self, path: str) -> tuple[bool, int | None]:
        raise NotImplementedError

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        faults = self.archive.faults
        refused, cut = self.fault(path)
        if refused:
            extra = {} if faults.retry_after is None else {"Retry-After": str(faults.retry_after)}
            self._send(faults.error_status, b"out of order\n", extra, body=body)
            return
        file = (self.archive.folder / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.archive.folder.resolve()) or not file.is_file():
            self._send(404, b"not found\n", {}, body=body)
            return
        data, stat = file.read_bytes(), file.stat()
        etag = f'"{blake2b(data, digest_size=8).hexdigest()}"'
        headers = {
            "ETag": etag,
            "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if (wanted := self.headers["If-Match"]) and wanted not in ("*", etag):
            self._send(412, b"", headers, body=body)
        elif self.headers["If-None-Match"] in ("*", etag):
            self._send(304, b"", headers, body=False)
        elif faults.ignore_range or not body or (span := _span(self.headers["Range"], len(data))) is None:
            self._send(200, data, headers, body=body, cut=cut)
        elif span.start >= len(data):
            self._send(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"}, body=body)
        else:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{len(data)}"
            self._send(206, data[span.start : span.stop], headers, body=body, cut=cut)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool, cut: int | None = None) -> None:
        path = quote(unquote(urlsplit(self.path).path))
        self.archive.requests.append(Request(self.command, path, self.headers["Range"], status))
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        self.wfile.write(data if cut is None else data[:cut])
        if cut is not None and cut < len(data):
            self.close_connection = True


def _span(header: str | None, size: int) -> range | None:
    """The bytes that a Range header means, cut to the file; None for the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(size, int(last) + 1 if last else size))
