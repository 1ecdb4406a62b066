"""An event loop in a thread of its own: for clusters that only know how to be opened asynchronously.

Dask's own way, a cluster that is not asynchronous, loses hold of what it has begun when its start is interrupted. Here
the start is a coroutine, which can be cancelled and waited for.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any


class Background:
    """Runs coroutines for threads that are not asynchronous."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run[T](self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run to the end. Whatever ends the wait ends the coroutine, too. Raises ``TimeoutError``."""
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, timeout), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            # The coroutine may have more to undo than the future knows of.
            with contextlib.suppress(concurrent.futures.CancelledError, Exception):
                asyncio.run_coroutine_threadsafe(_settled(), self._loop).result(timeout=5)
            raise


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@contextlib.contextmanager
def background() -> Iterator[Background]:
    """A loop as long as the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cluster", daemon=True)
    thread.start()
    try:
        yield Background(loop)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_rest(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


async def _cancel_rest() -> None:
    rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
