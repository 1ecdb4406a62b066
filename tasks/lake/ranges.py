"""Many byte ranges at once: joined where they lie close, hundreds under way, memory bounded for the whole process."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import Any

IN_FLIGHT = 128
"""Requests under way at once in a process: at 40 ms of latency, what a fast link needs to be kept full."""

BUDGET = 256 * 2**20
"""Bytes requested and not yet used up, in a process."""

GAP = 64 * 1024
"""Gap (bytes) over which two ranges are still read as one: cheaper than another request, and rare in GRIB files."""

SIZE = 8 * 2**20
"""Bytes that joined ranges grow to, so that a large read is made of several requests side by side."""

type Range = tuple[int, int]
"""Offset and length in bytes."""


def joined(ranges: Iterable[Range], gap: int = GAP, size: int = SIZE) -> list[list[Range]]:
    """Byte ranges, sorted and without repetitions, in groups that are read with one request each.

    A range is never split: one that is longer than ``size`` is a group of its own.
    """
    groups: list[list[Range]] = []
    end = 0
    for offset, length in sorted(set(ranges)):
        further = max(end, offset + length)
        if groups and offset - end <= gap and further - groups[-1][0][0] <= size:
            groups[-1].append((offset, length))
            end = further
        else:
            groups.append([(offset, length)])
            end = offset + length
    return groups


def extent(group: Sequence[Range]) -> Range:
    """Offset and length of the one range that covers a group."""
    start = group[0][0]
    return start, max(offset + length for offset, length in group) - start


class Budget:
    """Bytes that a process may hold of ranges under way, and requests it may have open."""

    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self._count = count
        self._lock = threading.Lock()

    def take(self, size: int, *, anyway: bool) -> bool:
        """Take a request of ``size`` bytes; False when there is no room, unless ``anyway``."""
        with self._lock:
            if not anyway and (self._size < size or self._count < 1):
                return False
            self._size -= size
            self._count -= 1
            return True

    def give_back(self, size: int) -> None:
        """A request's bytes are used up."""
        with self._lock:
            self._size += size
            self._count += 1


_shared = Budget(BUDGET, IN_FLIGHT)


@cache
def _pool() -> ThreadPoolExecutor:
    # Threads are started as they are needed. They wait for the network most of the time and hold no lock meanwhile.
    return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="ranges")


@dataclass(frozen=True, slots=True)
class Part:
    """Ranges of one object that are read with one request: ``place`` is whatever names the object to the reader."""

    place: Any
    ranges: tuple[Range, ...]


def parts(place: Any, ranges: Iterable[Range]) -> Iterator[Part]:
    """Ranges of one object, joined (see `joined`)."""
    return (Part(place, tuple(group)) for group in joined(ranges))


def fetch(
    read: Callable[[Any, int, int], bytes], wanted: Iterable[Part], budget: Budget = _shared
) -> Iterator[tuple[Part, memoryview]]:
    """The bytes of parts of any number of objects as they arrive, in any order: the part and its extent's bytes.

    ``read(place, offset, length)`` is called in threads. What one caller has not used yet counts against the budget
    of all; each caller is always allowed one request, so none can starve. The first error ends it.
    """
    waiting = deque(wanted)
    under_way: dict[Future[bytes], tuple[Part, int]] = {}
    try:
        while waiting or under_way:
            while waiting:
                offset, length = extent(waiting[0].ranges)
                if not budget.take(length, anyway=not under_way):
                    break
                part = waiting.popleft()
                under_way[_pool().submit(read, part.place, offset, length)] = part, length
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                part, length = under_way[done]
                data = done.result()
                yield part, memoryview(data)
                del under_way[done], data
                budget.give_back(length)
    finally:
        for future in under_way:
            future.cancel()
        wait(under_way)
        for _, length in under_way.values():
            budget.give_back(length)
