"""What a run stands on: a Prefect server (the configured one, or a temporary one) and a place for batches."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocks.clusters.interrupts import ended_by_sigterm
from blocks.clusters.local import Local
from blocks.clusters.local import cores as slots_here
from blocks.clusters.protocol import Cluster, Place, build, from_file, owner
from tasks.executor import DaskExecutor, Executor, Terms, Threads
from tasks.lake.errors import LakeError, UsageError

CLUSTERS = ("local", "none")
"""Names that ``--cluster`` takes, besides the address of a Dask scheduler (``tcp://``, ``tls://``), a YAML file with a
cluster's settings, and a saved block (``fargate-cluster/NAME``)."""


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


# -- clusters ------------------------------------------------------------------------------------------------


def is_here(name: str) -> bool:
    """Whether a cluster can be opened before there is a flow run: it needs no Prefect, and is nobody's on AWS."""
    return name in CLUSTERS or name.startswith(_ADDRESSES)


@contextlib.contextmanager
def open_cluster(name: str, most: int | None = None) -> Iterator[Place]:
    """Open what ``--cluster`` names and close it whatever happens. Raises ``UsageError``, ``Unreachable``.

    A cluster that is started for this has at most ``most`` workers, however many its settings name.

    A cluster that this process has opened already is used by its address and left open: so the phases of a pipeline
    run on one cluster, and the keys to it never leave the process.
    """
    if name == "none":
        yield Place(None, slots_here(), "threads of this process")
    elif name in _opened:
        yield _opened[name]
    else:
        cluster = _no_larger(_named(name), most)
        with ended_by_sigterm(), cluster.opened(_flow_run()) as place:
            assert place.address is not None
            if not isinstance(cluster, Local):
                _prepare(place)
            _opened[place.address] = place
            try:
                yield place
            finally:
                del _opened[place.address]


_ADDRESSES = ("tcp://", "tls://")
_opened: dict[str, Place] = {}
"""Clusters that this process has opened, by address."""


def _named(name: str) -> Cluster:
    """The cluster that a name means. Raises ``UsageError``."""
    if name == "local":
        return Local()
    if name.startswith(_ADDRESSES):
        return build({"type": "existing", "address": name}, name)
    if name.endswith((".yaml", ".yml")):
        return from_file(Path(name))
    if "/" in name:
        from blocks.cluster_blocks import saved

        return saved(name)
    raise UsageError(
        f"there is no cluster {name!r}",
        expected=f"one of {', '.join(CLUSTERS)}, tcp://HOST:PORT, a YAML file or BLOCK/NAME",
        found=repr(name),
    )


def _no_larger(cluster: Cluster, most: int | None) -> Cluster:
    """The cluster with no more workers than there is use for."""
    workers = getattr(cluster, "workers", None)
    if most is None or workers is None or workers <= most:
        return cluster
    return cluster.model_copy(update={"workers": most})


def _flow_run() -> str:
    """Who opens a cluster: the flow run, or else this process."""
    if "prefect" in sys.modules:
        from prefect.runtime import flow_run

        if flow_run.id:
            return str(flow_run.id)
    return owner()


def _prepare(place: Place) -> None:
    """Have the cluster run this code, with the versions of this machine. Raises ``UsageError``, ``LakeError``."""
    from tasks.code import prepare_cluster

    with connect(place) as client:
        prepare_cluster(client)


def connect(place: Place) -> Any:
    """A Dask client of a place that has an address. It is no default client: Prefect would take it for its own."""
    from distributed import Client

    return Client(place.address, security=place.security, set_as_default=False)


@contextlib.contextmanager
def executor(place: Place, *, prefect: bool) -> Iterator[Executor]:
    """An executor for a place; with Prefect (inside a flow run) every batch is a task run."""
    terms = Terms(place.workers, place.price_hour, place.dashboard)
    if prefect:
        from prefect.task_runners import ThreadPoolTaskRunner

        from tasks.batch import PrefectExecutor

        if place.address is None:
            runner: Any = ThreadPoolTaskRunner(max_workers=place.slots)
        else:
            from prefect_dask import DaskTaskRunner

            runner = DaskTaskRunner(address=place.address, client_kwargs={"security": place.security})
        with PrefectExecutor(runner, place.slots, terms) as running:
            yield running
        return
    plain = Threads(place.slots, terms) if place.address is None else DaskExecutor(connect(place), place.slots, terms)
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
        with contextlib.suppress(OSError, LakeError), connect(place) as client:
            client.run(_import_all)
    _import_all()


def _import_all() -> None:
    import gc
    import importlib

    for name in _HEAVY:
        importlib.import_module(name)
    # What is there now stays: the collector need not look through a million objects of libraries again and again.
    gc.freeze()
