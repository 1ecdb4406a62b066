"""Whatever becomes of a run, its cluster ends: by the run's own doing, the scheduler's or the reaper's."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.clusters import reaper
from blocks.clusters.protocol import build
from flows.runtime import connect, open_cluster
from tests.flows.running import assert_same_cubes, environment, pipeline, run, start

from .aws import Aws
from .conftest import SMALL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which the pipeline of the demo has run undisturbed, in threads."""
    lake = tmp_path_factory.mktemp("demo") / "lake"
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    return lake


def file(folder: Path, kind: str, **more: Any) -> Path:
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(SMALL[kind] | more))
    return path


def until(met: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def nothing_left(aws: Aws) -> None:
    assert aws.wait_until_no_process(15), [m.said[-500:] for m in aws.machines]
    assert aws.left() == []


def tags_of(call: dict[str, Any]) -> dict[str, str]:
    return {t["key"]: t["value"] for t in call["tags"]}


# -- success -------------------------------------------------------------------------------------------------


def test_the_demo_runs_on_fargate(aws: Aws, demo: Path, tmp_path: Path):
    lake = tmp_path / "lake"
    cluster = file(tmp_path, "fargate", workers=2, cpu=1024)
    ran = run("pipeline", "demo", "--lake", lake, "--cluster", cluster, "--no-prefect", "--json")
    assert ran.code == 0, ran.out + ran.err
    assert [p["status"] for p in ran.json["phases"]] == ["done"] * 5
    assert_same_cubes(demo, lake)
    assert len(aws.tasks) == 3, "one cluster for all phases"
    nothing_left(aws)
    assert "AKIA" not in "".join(m.said for m in aws.machines), "the machines have the role's credentials"


def test_the_demo_runs_on_ec2_under_prefect(aws: Aws, demo: Path, tmp_path: Path):
    lake, home = tmp_path / "lake", tmp_path / "home"
    cluster = file(tmp_path, "ec2", workers=1, threads=2)
    ran = run(
        "pipeline", "demo", "--lake", lake, "--cluster", cluster, "--json", env=environment(PREFECT_HOME=str(home))
    )
    assert ran.code == 0, ran.out + ran.err
    assert_same_cubes(demo, lake)
    assert len(aws.instances) == 2, "one cluster for all phases"
    nothing_left(aws)
    with contextlib.closing(sqlite3.connect(home / "prefect.db")) as database:
        (parent,) = database.execute("select id from flow_run where name like '%pipeline'").fetchone()
        parameters = "".join(row[0] for row in database.execute("select parameters from flow_run"))
    tags = {t["Key"]: t["Value"] for t in aws.run_instances[0]["TagSpecifications"][0]["Tags"]}
    assert tags["weatherlake:flow-run"] == parent
    expires = datetime.fromisoformat(tags["weatherlake:expires"])
    assert timedelta(hours=11) < expires - datetime.now(UTC) < timedelta(hours=12)
    assert "BEGIN" not in parameters, "keys are in no parameter of a flow run"


# -- failure -------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_run_that_fails(aws: Aws, tmp_path: Path):
    lake = tmp_path / "lake"
    assert run("ingest", "demo", "--lake", lake, "--no-prefect", "--cluster", "none").code == 0
    (lake / "staging").write_text("a file where the folder of forks should be")
    cluster = file(tmp_path, "fargate")
    ran = run("refine", "demo", "--lake", lake, "--cluster", cluster, "--no-prefect", "--json")
    assert ran.code not in (0, 2), ran.out + ran.err
    assert aws.tasks
    nothing_left(aws)


# -- the end from outside ------------------------------------------------------------------------------------


def begun(aws: Aws, tmp_path: Path, kind: str, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    """The pipeline on a cluster, under way: its first phase has done something."""
    lake = tmp_path / "lake"
    process = start(
        "pipeline", "demo", "--lake", lake, "--cluster", file(tmp_path, kind, **more), *arguments,
        env=environment(PREFECT_HOME=str(tmp_path / "home")),
    )  # fmt: skip
    until(lambda: list((lake / "ledger").rglob("*.json")) or process.poll() is not None, 200)
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.fault
@pytest.mark.parametrize(
    ("number", "prefect"), [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGTERM, True)], ids=str
)
def test_nothing_is_left_of_a_run_that_is_cancelled(number: signal.Signals, prefect: bool, aws: Aws, tmp_path: Path):
    process = begun(aws, tmp_path, "fargate", *([] if prefect else ["--no-prefect"]))
    process.send_signal(number)
    time.sleep(0.5)
    # A second one, from somebody impatient, does not interrupt the closing.
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    nothing_left(aws)


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["fargate", "ec2"])
def test_a_run_that_is_terminated_while_its_cluster_starts(kind: str, aws: Aws, tmp_path: Path):
    process = start("pipeline", "demo", "--lake", tmp_path / "lake", "--cluster", file(tmp_path, kind), "--no-prefect")
    until(lambda: aws.machines)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    nothing_left(aws)


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["fargate", "ec2"])
def test_a_run_that_is_killed_leaves_what_ends_itself_and_what_the_reaper_removes(kind: str, aws: Aws, tmp_path: Path):
    process = begun(aws, tmp_path, kind, "--no-prefect", alone_minutes=0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert aws.wait_until_no_process(40), "the scheduler ends when no client is there"
    left = aws.left()
    assert not [x for x in left if x.startswith(("process", "task", "instance"))]
    assert left, "keys and security group, which cost nothing, wait for the reaper"
    assert reaper.reap(dry_run=False) == [], "not before their time"
    soon = datetime.now(UTC) + timedelta(hours=12, minutes=1)
    assert len(reaper.reap(dry_run=True, now=soon)) == len(left)
    assert not [r.problem for r in reaper.reap(dry_run=False, now=soon) if r.problem]
    assert aws.left() == []


@pytest.mark.fault
def test_the_reaper_ends_machines_that_hang(aws: Aws, tmp_path: Path):
    process = begun(aws, tmp_path, "fargate", "--no-prefect")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for machine in aws.machines:
        for found in machine.family():
            found.suspend()
    reaped = reaper.reap(dry_run=False, now=datetime.now(UTC) + timedelta(hours=13))
    assert [r.kind for r in reaped].count("task") == 2
    assert not [r for r in reaped if r.problem]
    nothing_left(aws)


# -- the end from inside -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", [{"idle_minutes": 0.05}, {"max_hours": 25 / 3600}], ids=["without work", "after its lifetime"]
)
def test_a_cluster_ends_itself(limit: dict[str, float], aws: Aws):
    with build(SMALL["fargate"] | limit, "here").opened("run") as place, connect(place):
        # A client is there all the time.
        assert aws.wait_until_no_process(60)
        assert not [x for x in aws.left() if x.startswith("task")]
    assert aws.left() == []


def test_work_does_not_keep_a_cluster_alive_beyond_its_lifetime(aws: Aws):
    settings = SMALL["fargate"] | {"max_hours": 25 / 3600}
    with build(settings, "here").opened("run") as place, connect(place) as client:
        busy = client.submit(time.sleep, 600)
        until(lambda: client.processing() and any(client.processing().values()))
        assert aws.wait_until_no_process(60)
        busy.release()
    assert aws.left() == []


def test_a_spot_worker_that_is_told_to_leave_leaves_and_the_cluster_stays(aws: Aws, tmp_path: Path):
    with open_cluster(str(file(tmp_path, "fargate", workers=2))) as place, connect(place) as client:
        (first, second) = aws.of_role("worker")
        first.stop(grace=60)
        until(lambda: not first.running)
        assert client.submit(sum, [1, 2], pure=False).result(timeout=30) == 3
        assert second.running
    nothing_left(aws)
