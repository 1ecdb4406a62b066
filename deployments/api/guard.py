"""What stands before every route: API keys, rates, sizes, slow clients, numbers, and a line of log."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import orjson
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusals import Refused, answer
from .service import Service

_log = logging.getLogger("weatherlake.access")
_FREE = ("/health", "/health/live", "/health/ready")
"""Paths that need no key and count for no rate: those who watch over the server ask for them."""


class Guard:
    """ASGI middleware around the whole API."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service
        self.settings = service.settings
        self._rate: RateLimitItem | None = parse(self.settings.rate) if self.settings.rate else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        seen = _Seen(scope, send, self.settings.slow)
        try:
            client = self._admit(scope)
            seen.client = client
            await self.app(
                scope, _Body(scope, receive, seen, self.settings.max_body_kb * 1024, self.settings.slow), seen.send
            )
        except Refused as refused:
            await seen.refuse(scope, receive, refused)
        except TimeoutError:
            # A client that takes nothing: there is nobody to tell. The server closes the connection of a request
            # that was left in the middle.
            seen.status = 499
        finally:
            release = scope["state"].pop("release", None)
            if release is not None:
                release()
            self._note(scope, seen)

    def _admit(self, scope: Scope) -> str:
        """Who is asking. Raises ``Refused`` (401, 429)."""
        address = (scope.get("client") or ("unknown", 0))[0]
        if scope["path"] in _FREE:
            return address
        client = address
        if not self.service.open:
            number = self.service.knows(_key(scope))
            if number is None:
                self._within(f"wrong {address}")
                raise Refused(401, "an API key is needed, in the header X-API-Key", WWW_Authenticate="ApiKey")
            client = f"key {number}"
        self._within(client)
        return client

    def _within(self, client: str) -> None:
        if self._rate is None or self._limiter.hit(self._rate, client):
            return
        reset = self._limiter.get_window_stats(self._rate, client).reset_time
        wait = max(1, round(reset - time.time() + 0.5))
        raise Refused(429, f"a client may make {self._rate} requests; wait {wait} s", Retry_After=str(wait))

    def _note(self, scope: Scope, seen: _Seen) -> None:
        route = scope.get("route")
        name = getattr(route, "path", "none")
        status = str(seen.status or 500)
        seconds = time.perf_counter() - seen.begun
        metrics = self.service.metrics
        metrics.requests.labels(name, status).inc()
        metrics.seconds.labels(name).observe(seconds)
        metrics.sent.inc(seen.sent)
        if _log.isEnabledFor(logging.INFO):
            # No headers and no query: keys and what people ask about are in them.
            line: dict[str, Any] = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "client": seen.client,
                "method": scope["method"], "path": scope["path"][:200], "status": int(status), "bytes": seen.sent,
                "ms": round(seconds * 1e3, 2),
            }  # fmt: skip
            _log.info(orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS, default=str).decode())


class _Seen:
    """An answer on its way: its status and size; a client that takes nothing for too long ends it."""

    def __init__(self, scope: Scope, send: Send, slow: float) -> None:
        self.client = (scope.get("client") or ("unknown", 0))[0]
        self.begun = time.perf_counter()
        self.status = 0
        self.sent = 0
        self.refused = False
        self._send = send
        self._slow = slow

    async def refuse(self, scope: Scope, receive: Receive, refused: Refused) -> None:
        """Answer at once, whatever the application would still say: it takes what stops a body for a broken one."""
        if not self.status:
            await answer(refused.status, refused.sentence, refused.headers)(scope, receive, self.send)
        self.refused = True

    async def send(self, message: Message) -> None:
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.sent += len(message.get("body", b""))
        async with asyncio.timeout(self._slow):
            await self._send(message)


class _Body:
    """A request's body on its way: no larger than it may be, and not slower."""

    def __init__(self, scope: Scope, receive: Receive, seen: _Seen, most: int, slow: float) -> None:
        self._scope = scope
        self._seen = seen
        self._receive = receive
        self._most = most
        self._slow = slow
        self._complete = False
        length = dict(scope["headers"]).get(b"content-length", b"0")
        self._left = most
        if length.isdigit() and int(length[:12]) > most:
            raise Refused(413, f"a body has {most // 1024:,} KB at most", Connection="close")

    async def __call__(self) -> Message:
        if self._complete:
            # From now on it only says that the client has gone.
            return await self._receive()
        try:
            async with asyncio.timeout(self._slow):
                message = await self._receive()
        except TimeoutError:
            raise await self._refused(Refused(400, "the body did not come in time", Connection="close")) from None
        self._left -= len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._left < 0:
            too_long = Refused(413, f"a body has {self._most // 1024:,} KB at most", Connection="close")
            raise await self._refused(too_long)
        return message

    async def _refused(self, refused: Refused) -> Refused:
        await self._seen.refuse(self._scope, self._receive, refused)
        return refused


def _key(scope: Scope) -> str:
    headers = dict(scope["headers"])
    if b"x-api-key" in headers:
        return headers[b"x-api-key"].decode("latin-1")
    scheme, _, value = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""
