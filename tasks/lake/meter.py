"""How fast bytes go over, and when it will be over: measured while a transfer lasts."""

import threading
import time
from collections import deque
from collections.abc import Callable

_FIRST = 5.0
_EVERY = 15.0
_WINDOW = 120.0
"""Seconds back to which the rate is taken: long enough to be steady, short enough to follow the network."""

HOURS_A_MONTH = 30 * 24


def quiet(sentence: str) -> None:
    """Say nothing."""
    del sentence


class Meter:
    """Counts what is over, from many threads, and says now and then how it goes (``say``).

    ``runs_a_month`` is how many runs like this one a month has: with it, the meter also says how long they would take
    at this rate. ``clock`` is in seconds.
    """

    def __init__(
        self,
        name: str = "transfer",
        say: Callable[[str], None] = quiet,
        runs_a_month: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._say = say
        self._runs_a_month = runs_a_month
        self._clock = clock
        self._lock = threading.Lock()
        self.objects = self.moved = self.kept = 0
        self.expected_objects = self.expected_bytes = 0
        self.begun = clock()
        self._said = self.begun + _FIRST - _EVERY
        self._samples: deque[tuple[float, int]] = deque([(self.begun, 0)])

    def expect(self, objects: int, count: int) -> None:
        """So much more there is to be done."""
        with self._lock:
            self.expected_objects += objects
            self.expected_bytes += count

    def copied(self, count: int, *, whole: bool = True) -> None:
        """So many bytes went over; ``whole`` when an object ended with them."""
        with self._lock:
            self.moved += count
            self.objects += whole
            now = self._clock()
            if now - self._samples[-1][0] >= 0.5:
                self._samples.append((now, self.moved))
                while now - self._samples[0][0] > _WINDOW:
                    self._samples.popleft()
            due = now - self._said >= _EVERY
            if due:
                self._said = now
        if due:
            self._say(self.sentence())

    def skipped(self, count: int) -> None:
        """So many bytes were there already."""
        with self._lock:
            self.kept += count
            self.objects += 1

    @property
    def rate(self) -> float:
        """Bytes a second, of late."""
        (first, before), now = self._samples[0], self._clock()
        return (self.moved - before) / max(now - first, 1e-6)

    @property
    def left(self) -> float | None:
        """Seconds to go at the rate of late; None when nothing has gone over yet."""
        rest = max(0, self.expected_bytes - self.moved - self.kept)
        return rest / self.rate if self.rate else (0.0 if not rest else None)

    @property
    def month(self) -> float | None:
        """Hours that a month of such runs takes at this rate; None when that is not known."""
        if not self._runs_a_month or not self.rate:
            return None
        return self._runs_a_month * self.expected_bytes / self.rate / 3600

    def sentence(self) -> str:
        """How it goes: ``2026-11-20T00: 1.2 of 50.0 GB, 612 MB/s, done in 1 min 20 s``."""
        over = self.moved + self.kept
        words = [f"{self.name}: {over / 1e9:.2f} of {self.expected_bytes / 1e9:.2f} GB", f"{self.rate / 1e6:.0f} MB/s"]
        if self.left is not None:
            words.append(f"done in {duration(self.left)}")
        if self.month is not None:
            volume = self._runs_a_month * self.expected_bytes / 1e12
            words.append(f"a month of such runs ({volume:.3g} TB) in {self.month:.3g} h")
        return ", ".join(words)


def duration(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``3 min 20 s``, ``2 h 5 min``."""
    count = round(seconds)
    if count < 60:
        return f"{count} s"
    if count < 3600:
        return f"{count // 60} min {count % 60} s"
    return f"{count // 3600} h {count % 3600 // 60} min"
