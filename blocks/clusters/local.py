"""A Dask cluster on this machine: the default."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import Field

from tasks.lake.errors import UsageError

from .protocol import Cluster, Place, clusters

ALLOWED_FAILURES = 1
"""Workers that may die with a batch before Dask gives it up, besides the first.

A batch that keeps killing its worker is found out soon: the phase runner, which knows what the ledger says, decides
on further tries.
"""


def cores() -> int:
    """Cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


@clusters.register("local")
class Local(Cluster):
    """Scheduler and workers as processes of this machine, reachable from this machine only."""

    type: Literal["local"] = Field("local", description="Kind of cluster.")
    workers: int | None = Field(None, ge=1, description="Worker processes; one a core when not given.")
    threads: int = Field(1, ge=1, description="Batches that a worker works on at once.")
    memory: str | None = Field(
        None, description="Memory of a worker, such as 4 GiB; an equal share of the machine's when not given."
    )
    tls: bool = Field(False, description="Encrypt, and let only this process in: for machines that others use, too.")

    @contextmanager
    def opened(self, flow_run: str) -> Iterator[Place]:
        """Start it and end it. ``flow_run`` marks nothing: it cannot outlive this process."""
        del flow_run
        self.check()
        import dask
        from distributed import LocalCluster, Security

        workers = self.workers or max(1, cores() // self.threads)
        security = Security.temporary() if self.tls else None
        settings = {
            "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
            "distributed.comm.timeouts.connect": "30s",
        }
        with dask.config.set(settings), LocalCluster(
            n_workers=workers, threads_per_worker=self.threads, memory_limit=self.memory or "auto", host="127.0.0.1",
            protocol="tls" if self.tls else "tcp", security=security, dashboard_address="127.0.0.1:0", silence_logs=50,
        ) as cluster:  # fmt: skip
            yield Place(
                cluster.scheduler_address, workers * self.threads, f"a local Dask cluster of {workers} workers",
                security, cluster.dashboard_link, workers, "this machine",
            )  # fmt: skip

    def check(self) -> None:
        """Whether the memory is one. Raises ``UsageError``."""
        from dask.utils import parse_bytes

        try:
            parse_bytes(self.memory or 0)
        except ValueError:
            raise UsageError("no amount of memory", expected="such as 4 GiB", found=self.memory) from None
