"""Killed, raced, and on another store: the result is the same, and nothing finished is done twice."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tasks.lake.lake import Lake
from tasks.lake.partition import Status
from tasks.lake.recipe import PHASES

from ..servers import S3Server
from .running import PLAIN, assert_same_cubes, pipeline, start


def finished(lake: Path) -> dict[tuple[str, str], tuple[int, str]]:
    """(phase, partition) -> (attempt, when it was finished) of everything that is done."""
    ledger = Lake(str(lake)).ledger("demo")
    return {
        (phase, key): (record.attempt, str(record.finished))
        for phase in PHASES
        for key, record in ledger.read_all(phase).items()
        if record.status is Status.DONE
    }


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL the command and everything it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.fault
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("how", [PLAIN, ("--no-prefect",)], ids=["threads", "dask"])
def test_killed_at_any_point_and_started_again(how: tuple[str, ...], demo: Path, tmp_path: Path):
    """20 kills in all: ten in threads, ten on Dask, spread over the length of a run."""
    kills, lake, number = 0, tmp_path / "lake-0", 0
    length = _length(tmp_path, how)
    while kills < 10:
        before = finished(lake) if lake.exists() else {}
        process = start("pipeline", "demo", "--lake", lake, "--json", *how)
        time.sleep(random.uniform(0.05, 1.0) * length)
        if process.poll() is None:
            kill_group(process)
            kills += 1
        else:
            process.communicate()
        after = finished(lake) if lake.exists() else {}
        for key, done in before.items():
            assert after.get(key) == done, f"{key} was finished and was done again"
        if process.returncode == 0:
            # A run that came through: check it, and begin with an empty lake again.
            assert_same_cubes(demo, lake)
            number += 1
            lake = tmp_path / f"lake-{number}"
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    assert_same_cubes(demo, lake)
    assert pipeline("demo", lake).json["status"] == "nothing to do"


def _length(tmp_path: Path, how: tuple[str, ...]) -> float:
    begun = time.monotonic()
    process = start("pipeline", "demo", "--lake", tmp_path / "measured", "--json", *how)
    process.communicate()
    assert process.returncode == 0
    return time.monotonic() - begun


def test_two_pipelines_at_once_share_the_work(demo: Path, tmp_path: Path):
    lake = tmp_path / "lake"
    both = [start("pipeline", "demo", "--lake", lake, "--json", *PLAIN) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert_same_cubes(demo, lake)
    attempts = {key: attempt for key, (attempt, _) in finished(lake).items()}
    assert set(attempts.values()) == {1}, "some partition was worked on twice"


@pytest.mark.slow
def test_a_lake_on_s3_holds_the_same_cubes(demo: Path, s3: S3Server):
    lake = s3.lake()
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    assert_same_cubes(demo, lake)
    again = pipeline("demo", lake)
    assert again.json["status"] == "nothing to do"


@pytest.mark.fault
def test_a_killed_worker_costs_nothing_but_time(demo: Path, tmp_path: Path):
    """Dask workers are killed one after the other while the run goes on."""
    import psutil

    lake = tmp_path / "lake"
    process = start("pipeline", "demo", "--lake", lake, "--json", "--no-prefect")
    killed = 0
    while process.poll() is None and killed < 3:
        time.sleep(1.5)
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        workers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        if workers and lake.exists():
            workers[0].send_signal(signal.SIGKILL)
            killed += 1
    out, err = process.communicate(timeout=240)
    ran_again = pipeline("demo", lake)
    assert ran_again.code == 0, out + err
    assert_same_cubes(demo, lake)
