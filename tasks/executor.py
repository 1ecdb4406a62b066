"""Where batches run: what the runner asks of an executor, and the one that is always there."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from .lake.partition import Outcome
from .work import Job, work


class Handle(Protocol):
    """A batch under way: what `concurrent.futures`, Dask and Prefect futures have in common here."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> Any:
        """Call ``fn`` with the handle (or its like) when the batch is over."""
        ...


class Executor(Protocol):
    """Where batches run."""

    @property
    def slots(self) -> int:
        """How many batches run at once."""
        ...

    def submit(self, job: Job) -> Handle:
        """Start a batch."""
        ...

    def result(self, handle: Any) -> tuple[Outcome, ...]:
        """Outcomes of a batch that is over. Raises whatever kept it from having any: then it is lost."""
        ...

    def usable(self) -> str | None:
        """None, or one sentence why no further batch can run (the scheduler is gone)."""
        ...


class Threads:
    """Batches in threads of this process: ``--cluster none``."""

    def __init__(self, slots: int = 2) -> None:
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="batch")

    def submit(self, job: Job) -> Handle:
        """Start a batch."""
        return self._pool.submit(work, job)

    def result(self, handle: Any) -> tuple[Outcome, ...]:
        """Outcomes of a batch that is over."""
        return handle.result()

    def usable(self) -> str | None:
        """Threads are always usable."""
        return None

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._pool.shutdown(cancel_futures=True)
