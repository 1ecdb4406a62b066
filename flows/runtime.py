"""What a run stands on: a Prefect server (the configured one, or a temporary one) and a place for batches."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.executor import Executor, Handle, Threads
from tasks.lake.errors import LakeError, Unreachable, UsageError
from tasks.work import Job, work

CLUSTERS = ("local", "none")
"""Names that ``--cluster`` takes, besides the address of a Dask scheduler (``tcp://``, ``tls://``)."""

_HEALTH_TIMEOUT = 5


def quiet() -> None:
    """Settings for the command line, made before Prefect or Dask is imported; what the user set stands."""
    defaults = {
        # The command prints its own progress and summary; Prefect's log still goes to its server.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SHOW_UPDATE_NOTIFICATION": "false",
        "DO_NOT_TRACK": "1",
        "DASK_LOGGING__DISTRIBUTED": "critical",
        "ICECHUNK_LOG": "error",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def slots_here() -> int:
    """How many batches this machine works on at once: a core each."""
    return max(1, len(os.sched_getaffinity(0)))


# -- clusters ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where batches run: the address of a Dask scheduler, or None for threads of this process."""

    address: str | None
    slots: int
    description: str


@contextlib.contextmanager
def open_cluster(name: str) -> Iterator[Place]:
    """Open what ``--cluster`` names and close it whatever happens. Raises ``UsageError``, ``Unreachable``."""
    if name == "none":
        yield Place(None, slots_here(), "threads of this process")
    elif name == "local":
        with _local_cluster() as place:
            yield place
    elif name.startswith(("tcp://", "tls://")):
        yield _existing(name)
    else:
        raise UsageError(
            f"there is no cluster {name!r}",
            expected=f"one of {', '.join(CLUSTERS)} or tcp://HOST:PORT",
            found=repr(name),
        )


@contextlib.contextmanager
def _local_cluster() -> Iterator[Place]:
    import dask
    from distributed import LocalCluster

    workers = slots_here()
    # A partition that keeps killing its worker is found out after one try here: the phase runner, which
    # knows what the ledger says, decides on further ones.
    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.comm.timeouts.connect": "30s"}
    with dask.config.set(settings), LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50,
    ) as cluster:  # fmt: skip
        yield Place(cluster.scheduler_address, workers, f"a local Dask cluster of {workers} workers")


def _existing(address: str) -> Place:
    from distributed import Client

    try:
        with Client(address, timeout=_HEALTH_TIMEOUT, set_as_default=False) as client:
            workers = sum(w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values())
    except OSError as error:
        raise Unreachable(f"no Dask scheduler answers at {address} ({type(error).__name__})") from None
    return Place(address, max(1, workers), f"the Dask cluster at {address}")


class DaskExecutor:
    """Batches on a Dask scheduler without Prefect."""

    def __init__(self, place: Place) -> None:
        from distributed import Client

        self.slots = place.slots
        self._client: Any = Client(place.address, set_as_default=False)

    def submit(self, job: Job) -> Handle:
        """Start a batch."""
        return self._client.submit(work, job, pure=False)

    def result(self, handle: Any) -> Any:
        """Outcomes of a batch that is over; raises what the worker died of."""
        return handle.result(timeout=30)

    def usable(self) -> str | None:
        """Whether the scheduler still answers."""
        return None if self._client.status in ("running", "connecting") else "the Dask scheduler is gone"

    def close(self) -> None:
        """Leave the scheduler; what it still works on is cancelled."""
        self._client.close()


@contextlib.contextmanager
def executor(place: Place, *, prefect: bool) -> Iterator[Executor]:
    """An executor for a place; with Prefect (inside a flow run) every batch is a task run."""
    if prefect:
        from prefect.task_runners import ThreadPoolTaskRunner

        from tasks.batch import PrefectExecutor

        if place.address is None:
            runner: Any = ThreadPoolTaskRunner(max_workers=place.slots)
        else:
            from prefect_dask import DaskTaskRunner

            runner = DaskTaskRunner(address=place.address)
        with PrefectExecutor(runner, place.slots) as running:
            yield running
        return
    plain = Threads(place.slots) if place.address is None else DaskExecutor(place)
    try:
        yield plain
    finally:
        plain.close()


_HEAVY = (
    "tasks.batch",
    "tasks.forecasts.ingest",
    "tasks.forecasts.refine",
    "tasks.forecasts.validate",
    "tasks.forecasts.regrid",
    "tasks.forecasts.export",
    "icechunk",
    "zarr.codecs",
    "xarray",
    "netCDF4",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)
"""What batches and settlings import sooner or later, and what takes long."""


def warm_up(place: Place) -> None:
    """Have this process and the workers import what they will need, while there is something else to wait for."""
    if place.address is not None:
        from distributed import Client

        with contextlib.suppress(OSError, LakeError), Client(place.address, set_as_default=False) as client:
            client.run(_import_all)
    _import_all()


def _import_all() -> None:
    import importlib

    for name in _HEAVY:
        importlib.import_module(name)
