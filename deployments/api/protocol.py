"""HTTP connections that do not wait for ever: uvicorn's protocol with limits on slow and endless clients.

uvicorn gives a connection time between two requests, and none for its first headers or for taking what it asked for.
"""

import asyncio
import socket
import sys
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADERS = 64 * 2**10
"""Bytes of a request's line and headers."""


class Patient(HttpToolsProtocol):
    """A connection whose client has ``seconds`` for its headers, and to take any piece of an answer."""

    seconds: ClassVar[float] = 10.0

    _timer: asyncio.TimerHandle | None = None
    _taken = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        opened = transport.get_extra_info("socket")
        if opened is not None and sys.platform == "linux" and opened.family != socket.AF_UNIX:
            # The kernel drops a connection whose peer takes nothing for so long, whatever is still in buffers.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.seconds * 1000))
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        between = self.cycle is not None and self.cycle.response_complete
        if between and self._timer is None and not self.transport.is_closing() and self.headers:
            # The beginning of a next request: it has as long as the first.
            self._wait_for_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._taken = 0
        if self._timer is None:
            self._wait_for_headers()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._headers_are_here()
        super().on_headers_complete()

    def _count(self, *parts: bytes) -> None:
        self._taken += sum(map(len, parts))
        if self._taken > MAX_HEADERS:
            # The parser makes 400 of it, and the connection is closed.
            raise ValueError("headers are too long")

    def _wait_for_headers(self) -> None:
        self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _headers_are_here(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()
