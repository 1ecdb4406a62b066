"""HTTP for catalogues and APIs: time-outs, retries, a rate limit, typed errors. (Bulk bytes go through `objects`.)"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import httpx
import stamina

from .errors import AccessError, LakeError, NotFound, QuotaError, TransientError, Unreachable, UsageError

_TIMEOUT = httpx.Timeout(connect=10, read=60, write=60, pool=60)
_TRIES = 5
_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})


class Limit(Protocol):
    """What decides when a request may go, and is told how it ended (`TokenBucket`, `quota.Quota`)."""

    def take(self) -> None:
        """Wait until a request may go. Called before every try."""
        ...

    def answered(self, status: int | None, retry_after: float | None = None) -> None:
        """How a try ended: the HTTP status, None when there was no answer; seconds that Retry-After named."""
        ...


class TokenBucket:
    """At most ``rate`` events a second on average, ``burst`` at once; shared by threads.

    A token bucket as in RFC 2697 with one colour: tokens flow in at ``rate`` up to ``burst``.
    """

    def __init__(self, rate: float, burst: float | None = None) -> None:
        if rate <= 0:
            raise UsageError("a rate limit must be positive", expected="requests per second above 0", found=rate)
        self.rate = rate
        self.burst = max(1.0, burst if burst is not None else rate)
        self._tokens = self.burst
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for a token. Waiters are served in the order they came."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate) - 1
            self._at = now
            wait = -self._tokens / self.rate if self._tokens < 0 else 0.0
        if wait:
            time.sleep(wait)

    def answered(self, status: int | None, retry_after: float | None = None) -> None:
        """A fixed rate learns nothing from answers."""


class Http:
    """A client for one service.

    ``headers`` may hold a key; no header is ever part of an error or a log line. Retries are for failures
    that may pass (no connection, time-outs, 408, 425, 5xx), up to five tries with jitter; 429 is raised at once as
    ``QuotaError`` with the seconds that Retry-After names, because only the caller knows what else to do.
    """

    def __init__(
        self,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        limit: Limit | None = None,
        tries: int = _TRIES,
    ) -> None:
        self.base = base.rstrip("/")
        self._limit = limit
        self._tries = tries
        # stamina would tell of every retry on standard output, where `--json` has its one object.
        stamina.instrumentation.set_on_retry_hooks([])
        self._client = httpx.Client(
            headers={"user-agent": "weatherlake", **(headers or {})}, timeout=_TIMEOUT, follow_redirects=True
        )

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        """GET ``base/path``. Raises ``NotFound``, ``AccessError``, ``QuotaError``, ``UsageError`` (400, 413, ...),
        ``Unreachable`` or ``TransientError`` once the tries are used up."""
        return self.request("GET", path, params=parameters)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; options are httpx's (``params``, ``json``, ``headers``)."""
        for attempt in stamina.retry_context(
            on=TransientError, attempts=self._tries, timeout=120, wait_initial=0.2, wait_max=5, wait_jitter=0.5
        ):
            with attempt:
                return self._once(method, path, options)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, options: Mapping[str, Any]) -> httpx.Response:
        url = f"{self.base}/{path.lstrip('/')}" if path else self.base
        if self._limit is not None:
            self._limit.take()
        response: httpx.Response | None = None
        try:
            response = self._client.request(method, url, **options)
        except httpx.TransportError as error:
            raise Unreachable(f"{url} cannot be reached ({type(error).__name__})") from None
        finally:
            if self._limit is not None:
                status = None if response is None else response.status_code
                self._limit.answered(status, None if response is None else retry_after(response))
        if response.is_success:
            return response
        raise error_of(response, url)


def error_of(response: httpx.Response, url: str) -> LakeError:
    """The typed error of a response that is no success; its sentence holds the service's own words, shortened."""
    status = response.status_code
    said = " ".join(response.text.split())[:200]
    text = f"{url} answered {status}" + (f": {said}" if said else "")
    if status == 429:
        return QuotaError(text, retry_after=retry_after(response))
    if status in (401, 403):
        return AccessError(text)
    if status in (404, 410):
        return NotFound(text)
    if status in _TRANSIENT:
        return TransientError(text, retry_after=retry_after(response))
    return UsageError(text)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the Retry-After header names, None without one (RFC 9110, 10.2.3: seconds or a date)."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    if value.isdigit():
        return float(value)
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
