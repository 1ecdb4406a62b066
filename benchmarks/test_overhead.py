"""What the runner costs beside the work: partitions of no work, and of 50 ms, on 1, 2 and 4 workers.

The same calls are made in plain Dask, too, one task a partition: what a task costs without ledger and batches.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from distributed import Client, LocalCluster

from tasks import runner
from tasks.executor import DaskExecutor, Threads
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.ledger import Record
from tasks.lake.partition import Partition, Produced
from tasks.lake.phase import Context, Phase, ScopePlan, Window
from tasks.plan import Options

SECONDS = 0.05
FEW, MANY, SLOW = 1000, 10_000, 1000


class Recipe(recipes.Recipe):
    """So many partitions, and how long each sleeps."""

    kind: Literal["idle"] = "idle"  # type: ignore[assignment]
    partitions: int
    seconds: float = 0.0


class Idle(Phase[Recipe]):
    """Partitions that wait and write nothing."""

    name = "ingest"
    version = "1"
    settles = False

    def scopes(self, context: Context[Recipe], window: Window) -> list[str]:
        return ["all"]

    def plan(self, context: Context[Recipe], scope: str) -> ScopePlan:
        return ScopePlan(scope, tuple(Partition(f"all/{i:05}", "1") for i in range(context.recipe.partitions)))

    def process(self, context: Context[Recipe], partition: Partition) -> Produced:
        time.sleep(context.recipe.seconds)
        return Produced()

    def settle(self, context: Context[Recipe], scope: str, records: Mapping[str, Record]) -> Produced:
        raise AssertionError("it does not settle")


def phases() -> dict[str, type[Phase[Any]]]:
    """The phases of the kind."""
    return {"ingest": Idle}


def know_idle() -> None:
    """Make the kind known in this process."""
    recipes.KINDS["idle"] = "benchmarks.test_overhead"  # type: ignore[index]
    sys.modules.setdefault("benchmarks.test_overhead", sys.modules[__name__])


@pytest.fixture(scope="module", params=[1, 2, 4])
def cluster(request: pytest.FixtureRequest) -> Iterator[tuple[int, Client]]:
    """A local cluster of so many workers with a thread each, warm."""
    know_idle()
    workers = int(request.param)
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as made,
        Client(made, set_as_default=False) as client,
    ):
        client.run(know_idle)
        yield workers, client


@pytest.mark.parametrize("case", ["no work", "50 ms"])
def test_overhead(benchmark: Any, tmp_path: Path, cluster: tuple[int, Client], case: str):
    workers, client = cluster
    count, seconds = (MANY, 0.0) if case == "no work" else (SLOW, SECONDS)
    ideal = count * seconds / workers
    _run(tmp_path, client, workers, 2 * workers, seconds)
    few = _run(tmp_path, client, workers, FEW, 0.0) if case == "no work" else 0.0
    took = benchmark.pedantic(_run, (tmp_path, client, workers, count, seconds), rounds=1, iterations=1)
    plain = _plain(client, FEW, seconds) if case == "no work" else 0.0
    row = {
        "case": f"{count:,} of {case}",
        "workers": workers,
        "seconds": took,
        "ms a partition": (took - ideal) / count * 1e3,
        "share of the work": f"{(took - ideal) / ideal:.1%}" if ideal else "",
        "growth, 1,000 to 10,000": f"{took / count / (few / FEW):.2f} x" if few else "",
        "plain Dask, ms a task": plain / FEW * 1e3 if plain else "",
    }
    benchmark.extra_info.update({"table": "overhead", "rows": [row]})


def test_overhead_in_threads(benchmark: Any, tmp_path: Path):
    """The same without Dask: what ledger and batches alone cost."""
    know_idle()
    took = benchmark.pedantic(_run, (tmp_path, None, 1, MANY, 0.0), rounds=1, iterations=1)
    row = {
        "case": f"{MANY:,} of no work, in a thread",
        "workers": 1,
        "seconds": took,
        "ms a partition": took / MANY * 1e3,
    }
    benchmark.extra_info.update({"table": "overhead", "rows": [row]})


def _run(folder: Path, client: Client | None, workers: int, count: int, seconds: float) -> float:
    """Seconds of a phase of so many partitions, in a lake of its own."""
    lake = folder / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    executor: Any = Threads(workers) if client is None else DaskExecutor(client, workers)
    recipe = Recipe(name="idle", partitions=count, seconds=seconds)
    begun = time.perf_counter()
    report = runner.run_phase(Lake(str(lake)), recipe, "ingest", Window(), Options(), executor)
    took = time.perf_counter() - begun
    assert report.partitions["done"] == count
    if client is None:
        executor.close()
    return took


def _plain(client: Client, count: int, seconds: float) -> float:
    """Seconds of as many tasks of Dask's own."""
    begun = time.perf_counter()
    client.gather(client.map(time.sleep, [seconds] * count, pure=False))
    return time.perf_counter() - begun
