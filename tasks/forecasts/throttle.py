"""A provider's patience, shared by all workers of a lake: full speed until it says 503, then what it can bear."""

import contextlib
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import urlsplit

from ..lake.errors import Overloaded, QuotaError
from ..lake.lake import Lake
from ..lake.quota import Adaptive, Quota

_PACE = Adaptive(start=400, highest=400, lowest=1, growth=0.01)
"""Requests a second. The first refusal halves them for everybody; served, they grow by 4 a second."""

_LOOK = 5.0
_BLOCK = 32


class Throttle:
    """One process's part in it, for one host.

    As long as nobody was refused it costs one small read of the lake every few seconds. obstore has tried a refused
    request twice more by then, so what counts here is a host that keeps refusing.
    """

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._slow = False
        self._look_at = 0.0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around one request to the host: waits where it has to be waited, and tells the others of a refusal."""
        slow = self._slowed()
        if slow:
            self._quota.take()
        try:
            yield
        except (Overloaded, QuotaError) as error:
            self._quota.answered(503 if isinstance(error, Overloaded) else 429, error.retry_after)
            self._slow = True
            raise
        if slow:
            self._quota.answered(200)

    def _slowed(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._look_at:
                return self._slow
            self._look_at = now + _LOOK
        state = self._quota.state()
        self._slow = state.paused > time.time() or (state.rate is not None and state.rate < _PACE.highest)
        return self._slow


@lru_cache(maxsize=64)
def throttle(lake: str, base: str) -> Throttle:
    """The throttle of a process for a mirror (its address), kept in a lake (its URL)."""
    host = urlsplit(base).netloc.replace(":", "-") or "local"
    return Throttle(Quota(Lake(lake).objects, f"source-{host}", adaptive=_PACE, block=_BLOCK))
