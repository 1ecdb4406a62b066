"""Pieces of one computation side by side: on threads, or on any executor the caller brings."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

_WAITING = 32
"""Pieces handed out and not taken back: what bounds the memory of an executor that copies its arguments."""


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each[T](task: Callable[..., T], pieces: Iterable[tuple[Any, ...]], pool: Executor | None) -> Iterator[T]:
    """``task(*piece)`` of every piece, in order, with a bounded number under way.

    Without a ``pool`` on threads of this process, one a core: numpy lets go of the GIL. With one - a process pool, a
    Dask client's ``get_executor()`` - the task must be a function of a module, and its pieces are sent.
    """
    if pool is None:
        with ThreadPoolExecutor(cores()) as threads:
            yield from _windowed(task, pieces, threads)
    else:
        yield from _windowed(task, pieces, pool)


def _windowed[T](task: Callable[..., T], pieces: Iterable[tuple[Any, ...]], pool: Executor) -> Iterator[T]:
    waiting: deque[Future[T]] = deque()
    try:
        for piece in pieces:
            if len(waiting) == _WAITING:
                yield waiting.popleft().result()
            waiting.append(pool.submit(task, *piece))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
