"""What answers requests: the published cubes, the cache, threads that read, and a budget of memory."""

from __future__ import annotations

import asyncio
import hmac
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import SecretStr
from starlette.requests import Request

from tasks.exports.locate import curvilinear_search
from tasks.lake.errors import LakeError
from tasks.lake.lake import open_lake
from tasks.serving.cache import Cache
from tasks.serving.following import Collection, Following
from tasks.serving.snapshot import Snapshot

from .metrics import Metrics
from .refusals import Refused, of_lake
from .settings import Settings

_THREADS = 4 * (os.cpu_count() or 2)
_LEAST = 2**20
"""Bytes that any request counts for."""

_PAUSE = 0.02
"""Seconds between two looks whether memory has become free."""


class Service:
    """One process's share of the API. Raises ``UsageError`` when there is no such lake, or no such key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.cache = Cache(settings.cache_mb * 10**6)
        self.following = Following(open_lake(settings.lake), settings.recipe, Cache(settings.index_mb * 10**6))
        self._keys = settings.keys()
        self._lock = threading.Lock()
        self._free = settings.memory_mb * 10**6
        self._searches: WeakKeyDictionary[Snapshot, Any] = WeakKeyDictionary()
        self.metrics.cache("chunks", self.cache)
        self.metrics.cache("indexes", self.following.indexes)
        self.metrics.gauge("memory_free_bytes", "Bytes of the budget that no request has taken.", lambda: self._free)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_THREADS, thread_name_prefix="answers")

    def start(self) -> None:
        """Look at what is published, and go on looking."""
        self.following.look()
        self.following.stay(self.settings.refresh)

    def stop(self) -> None:
        """End what `start` began. Requests under way end by themselves."""
        self.following.stop()
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # -- what there is ---------------------------------------------------------------------------------

    def collection(self, name: str) -> tuple[Collection, Snapshot]:
        """A collection and its snapshot of now. Raises ``Refused`` (404, 503)."""
        found = self.following.collections.get(name)
        if found is None:
            raise Refused(404, "there is no such collection")
        snapshot = found.snapshot
        if snapshot is None:
            raise Refused(503, "the collection cannot be read at the moment; try again", Retry_After="10")
        return found, snapshot

    def search(self, snapshot: Snapshot) -> Any:
        """What finds the cells of a curvilinear grid; made once for a snapshot. None for others."""
        if snapshot.grid.regular:
            return None
        if snapshot not in self._searches:
            self._searches[snapshot] = curvilinear_search(snapshot.grid)
        return self._searches[snapshot]

    def knows(self, key: str) -> int | None:
        """Number of an API key, or None for one that is not known; takes as long for any."""
        found = None
        for i, known in enumerate(self._keys):
            if hmac.compare_digest(_secret(known), key.encode("utf-8", "surrogateescape")):
                found = i
        return found

    @property
    def open(self) -> bool:
        """Whether anybody may ask."""
        return not self._keys

    # -- work ------------------------------------------------------------------------------------------

    async def work[T](self, request: Request, weight: int, job: Callable[[], T]) -> T:
        """Do a job in a thread, once there is memory for it. Raises ``Refused`` (413, 503).

        ``weight`` is the bytes it takes, until the answer was handed over (`guard.Guard` gives them back).
        """
        weight += _LEAST
        deadline = asyncio.get_running_loop().time() + self.settings.timeout
        await self._take(weight, deadline)
        future: Future[T] = self._pool.submit(job)
        state = request.scope["state"]
        # Given back when the answer is out, or - when nobody waits for it any more - when the thread is done.
        state["release"] = lambda: future.add_done_callback(lambda _: self._give_back(weight))
        try:
            left = max(deadline - asyncio.get_running_loop().time(), 0.0)
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), left)
        except TimeoutError:
            future.cancel()
            raise Refused(503, "this took too long; ask for less, or try again", Retry_After="10") from None
        except LakeError as error:
            self.following.wake()
            raise of_lake(error) from error

    async def _take(self, weight: int, deadline: float) -> None:
        if weight > self.settings.memory_mb * 10**6:
            raise Refused(413, "this asks for more memory than the server gives to all requests together")
        loop = asyncio.get_running_loop()
        while not self._taken(weight):
            if loop.time() > deadline:
                raise Refused(503, "the server has too much to do; try again", Retry_After="10")
            await asyncio.sleep(_PAUSE)

    def _taken(self, weight: int) -> bool:
        with self._lock:
            if self._free < weight:
                return False
            self._free -= weight
            return True

    def _give_back(self, weight: int) -> None:
        with self._lock:
            self._free += weight


def _secret(key: SecretStr) -> bytes:
    return key.get_secret_value().encode()
