"""Dask's performance report of a scene, asked for by the workers themselves.

`distributed.performance_report` wants to run in the client around the whole work; the phases of a scene are apart, and
often on another day. What it asks of the scheduler at its begin and its end is asked here from inside a worker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any

from ..lake.errors import UsageError


@cache
def watch() -> bool:
    """Have the scheduler keep what tasks do from now on, once a process; False outside Dask."""
    with _client() as client:
        if client is not None:
            client.get_task_stream(start=0, stop=0)
        return client is not None


def report(since: datetime, title: str) -> bytes:
    """The report (HTML) of all that the cluster did since then. Raises ``UsageError`` outside Dask."""
    with _client() as client:
        if client is None:
            raise UsageError("a Dask performance report needs a Dask cluster (--cluster local or tcp://...)")
        ask = client.scheduler.performance_report
        return str(client.sync(ask, start=since.timestamp(), last_count=0, code=title, mode="inline")).encode()


@contextmanager
def _client() -> Iterator[Any]:
    """A client of the scheduler that this process works for, None when it works for none."""
    from distributed import Client
    from distributed.worker import Worker

    # `distributed.get_worker` knows the thread of a Dask task alone; partitions are worked on in threads of ours.
    worker = next(iter(Worker._instances), None)
    if worker is None:
        yield None
        return
    with Client(worker.scheduler.address, set_as_default=False, timeout=30) as client:
        yield client
