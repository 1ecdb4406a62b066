"""An S3 server of the tests behind a proxy that refuses now and then, as S3 does when it is asked for too much."""

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..listening import Answering, listening

_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_HOP = {"host", "connection", "transfer-encoding", "content-length"}


@dataclass
class Proxy:
    """``refuse`` is the share of the requests of the named methods that get a 503; ``passed`` are the others."""

    url: str
    refuse: float = 0.0
    methods: tuple[str, ...] = ("PUT", "POST", "GET", "HEAD")
    refused: int = 0
    passed: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def proxy(endpoint: str) -> Iterator[Proxy]:
    """Serve in front of ``endpoint`` until the block is left."""
    made = Proxy("")
    place = endpoint.removeprefix("http://")
    dice, lock = random.Random(1), threading.Lock()

    class Handler(Answering):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                busy = self.command in made.methods and dice.random() < made.refuse
                made.refused += busy
                if not busy:
                    made.passed.append((self.command, self.path))
            if busy:
                self._send(503, {}, _BUSY)
                return
            # The signature is of the client's own request, Host and all; moto does not look at it.
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            connection = http.client.HTTPConnection(place, timeout=30)
            try:
                connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                answer = connection.getresponse()
                self._send(answer.status, dict(answer.headers), answer.read())
            finally:
                connection.close()

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            length = headers.get("Content-Length") or headers.get("content-length")
            for name, value in headers.items():
                if name.lower() not in _HOP | {"date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    with listening(Handler) as url:
        made.url = url
        yield made
