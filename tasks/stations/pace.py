"""How many requests are under way at once: as many as the provider serves fastest, found out while working.

Throughput is measured as requests under way divided by the time one takes (Little's law), over a few dozen requests;
then the number goes on in the direction in which it got better. A refusal or an overload takes a third off at once.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ..lake.quota import Quota

_BETTER = 1.03
_NOTE = "concurrency"


class Pace:
    """A number of places for requests, and a token of the quota for each: a `http.Limit`. Thread-safe.

    ``start`` is the number to begin with in the whole lake unless earlier runs left one; processes that share the
    quota share it. ``most`` bounds it.
    """

    def __init__(self, quota: Quota, start: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota = quota
        self._most = most
        self._clock = clock
        total = quota.noted(_NOTE) or start
        self._sharers = quota.holders
        self._limit = min(float(most), max(1.0, total / self._sharers))
        self._direction = 1
        self._before: float | None = None
        self._taken = self._asking = 0
        self._done: list[tuple[int, float]] = []
        self._shrunk = 0
        self._free = threading.Condition()
        self._mine = threading.local()

    @property
    def limit(self) -> int:
        """Requests that may be under way at once, now and in this process."""
        return max(1, round(self._limit))

    def take(self) -> None:
        """Wait for a place and a token. Raises ``QuotaError`` (see `Quota.take`)."""
        with self._free:
            self._free.wait_for(lambda: self._taken < self.limit)
            self._taken += 1
        try:
            self.quota.take()
        except BaseException:
            self._leave()
            raise
        with self._free:
            self._asking += 1
            self._mine.began = self._clock(), self._asking

    def answered(self, status: int | None, retry_after: float | None = None) -> None:
        """Free the place, and learn from how the request ended."""
        began, asking = self._mine.began
        seconds = self._clock() - began
        with self._free:
            self._asking -= 1
            self._taken -= 1
            if status is None or status in (408, 429, 500, 502, 503, 504):
                self._shrink()
            else:
                self._done.append((asking, seconds))
                self._consider()
            self._free.notify_all()
        self.quota.answered(status, retry_after)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Around work that asks the provider: unspent tokens go back, and the number is left for those who follow."""
        with self.quota.used():
            yield
        total = float(self.limit * self._sharers)
        if self._before is not None and abs(total - (self.quota.noted(_NOTE) or 0)) >= 2:
            self.quota.note(_NOTE, total)

    def _leave(self) -> None:
        with self._free:
            self._taken -= 1
            self._free.notify_all()

    def _shrink(self) -> None:
        # Those that were under way together fail together: one step for all of them.
        self._shrunk += 1
        if self._shrunk == 1:
            self._limit = max(1.0, self._limit * 2 / 3)
            self._before = None
        if self._shrunk >= self.limit:
            self._shrunk = 0
        self._done.clear()

    def _consider(self) -> None:
        if len(self._done) < max(8, 2 * self.limit):
            return
        asking = sum(n for n, _ in self._done) / len(self._done)
        seconds = sum(s for _, s in self._done) / len(self._done)
        self._done.clear()
        self._shrunk = 0
        self._share()
        if asking < 0.6 * self.limit:
            # The quota or the work to do kept the places empty: that says nothing of the provider.
            return
        now = asking / max(seconds, 1e-6)
        if self._before is not None:
            if now < self._before / _BETTER:
                self._direction = -self._direction
            elif now < self._before * _BETTER:
                # No better: then rather fewer.
                self._direction = -1
        self._before = now
        step = self._direction * max(1, self.limit // 8)
        self._limit = min(float(self._most), max(1.0, self._limit + step))

    def _share(self) -> None:
        sharers = self.quota.holders
        if sharers != self._sharers:
            self._limit = min(float(self._most), max(1.0, self._limit * self._sharers / sharers))
            self._sharers, self._before = sharers, None
