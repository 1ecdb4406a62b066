"""Where batches run: what the runner asks of an executor, threads of this process, and a Dask client."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from .lake.partition import Outcome
from .scheduler import Scheduler
from .work import Job, work


@dataclass(frozen=True, slots=True)
class Terms:
    """What a place where batches run is and costs: its workers, USD an hour for all of it (None when nobody knows), and
    the address of its dashboard."""

    workers: int = 1
    price_hour: float | None = 0.0
    dashboard: str | None = None


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

    @property
    def terms(self) -> Terms:
        """What it is and costs."""
        ...

    @property
    def scheduler(self) -> Scheduler | None:
        """The Dask scheduler behind it, if there is one."""
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

    scheduler = None

    def __init__(self, slots: int = 2, terms: Terms | None = None) -> None:
        self.slots = slots
        self.terms = terms or Terms()
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


class DaskExecutor:
    """Batches on a Dask scheduler without Prefect, through a client that is closed at the end."""

    def __init__(self, client: Any, slots: int, terms: Terms | None = None) -> None:
        self.slots = slots
        self.terms = terms or Terms()
        self._client = client
        self.scheduler = Scheduler(client)

    def submit(self, job: Job) -> Handle:
        """Start a batch."""
        return self._client.submit(work, job, pure=False)

    def result(self, handle: Any) -> tuple[Outcome, ...]:
        """Outcomes of a batch that is over; raises what the worker died of."""
        return handle.result(timeout=30)

    def usable(self) -> str | None:
        """Whether the scheduler is there, with workers."""
        return self.scheduler.usable()

    def close(self) -> None:
        """Leave the scheduler; what it still works on is cancelled."""
        self._client.close()
