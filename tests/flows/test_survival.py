"""The demo on a cluster whose parts are killed while it runs: the cubes are those of an undisturbed run."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.lake.lake import Lake
from tasks.lake.partition import Status

from ..runner.clusters import Processes, kill, processes
from .running import assert_same_cubes, pipeline, start

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


def on_record(lake: Path, phase: str) -> int:
    """How many partitions of a phase somebody has begun."""
    return len(Lake(str(lake)).ledger("demo").read_all(phase)) if lake.exists() else 0


def when(process: subprocess.Popen[str], begun: Callable[[], bool]) -> None:
    """Wait until something has begun, or the command is over."""
    end = time.monotonic() + 120
    while process.poll() is None and not begun() and time.monotonic() < end:
        time.sleep(0.05)


def kill_worker(cluster: Processes, process: subprocess.Popen[str], lake: Path, phase: str) -> None:
    when(process, lambda: on_record(lake, phase) >= 2)
    for worker in cluster.workers()[:1]:
        kill(worker)


def test_workers_and_then_the_scheduler_are_killed(demo: Path, tmp_path: Path):
    lake = tmp_path / "lake"
    with processes(tmp_path / "cluster") as cluster:
        process = start("pipeline", "demo", "--lake", lake, "--json", "--no-prefect", "--cluster", cluster.address)
        for phase in ("ingest", "refine"):
            kill_worker(cluster, process, lake, phase)
        when(process, lambda: on_record(lake, "validate") >= 2)
        assert cluster.scheduler is not None
        cluster.scheduler.kill()
        out, err = process.communicate(timeout=200)
    assert process.returncode in (0, 4), out + err
    for phase in ("ingest", "refine"):
        records = Lake(str(lake)).ledger("demo").read_all(phase)
        assert {r.status for r in records.values()} == {Status.DONE}
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    assert_same_cubes(demo, lake)


def test_a_worker_is_killed_under_prefect(tmp_path: Path):
    """Prefect leaves the task run of a killed worker pending, and says nothing of it; the phase does."""
    lake = tmp_path / "lake"
    with processes(tmp_path / "cluster") as cluster:
        process = start("ingest", "demo", "--lake", lake, "--json", "--cluster", cluster.address)
        when(process, lambda: on_record(lake, "ingest") >= 1)
        for worker in cluster.workers():
            kill(worker)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    records = Lake(str(lake)).ledger("demo").read_all("ingest")
    assert {r.status for r in records.values()} == {Status.DONE}
    assert len(records) == 10
