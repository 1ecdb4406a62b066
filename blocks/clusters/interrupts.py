"""Signals around a cluster: SIGTERM ends the run in good order, and nothing interrupts the closing."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """In the block, SIGTERM raises ``SystemExit`` where it would end the process on the spot.

    Somebody else's handler, such as Prefect's in a flow run, stands. Only the main thread can have handlers.
    """

    def end(number: int, frame: Any) -> NoReturn:
        raise SystemExit(TERMINATED)

    if not _main() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """In the block, neither SIGTERM nor Ctrl-C interrupts: a second one would leave a cluster half closed."""
    if not _main():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
