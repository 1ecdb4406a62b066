"""With Prefect: every state and log is recorded, and nothing is left behind."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from .running import ROOT, assert_same_cubes, environment, run, start


def processes_with(text: str) -> list[psutil.Process]:
    """Processes whose environment has this text (the home of their Prefect)."""
    found = []
    for process in psutil.process_iter():
        try:
            if text in process.environ().get("PREFECT_HOME", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def gone(text: str, seconds: float = 20) -> bool:
    """Whether all such processes end within some seconds."""
    end = time.monotonic() + seconds
    while processes_with(text) and time.monotonic() < end:
        time.sleep(0.2)
    return not processes_with(text)


@pytest.mark.slow
def test_a_temporary_server_records_everything_and_ends(demo: Path, tmp_path: Path):
    home, lake = tmp_path / "home", tmp_path / "lake"
    ran = run("pipeline", "demo", "--lake", lake, env=environment(PREFECT_HOME=str(home)))
    assert ran.code == 0, ran.out + ran.err
    assert "a temporary Prefect server, on a local Dask cluster" in ran.err
    assert_same_cubes(demo, lake)
    assert gone(str(home), 5)
    with sqlite3.connect(home / "prefect.db") as database:
        flows = database.execute("select name, state_type from flow_run order by start_time").fetchall()
        tasks = database.execute("select name, state_type from task_run").fetchall()
        logs = database.execute("select count(*) from log").fetchone()[0]
        artifacts = {row[0] for row in database.execute("select key from artifact")}
    database.close()
    phases = ["pipeline", "ingest", "refine", "validate", "regrid", "export"]
    assert [name for name, _ in flows] == [f"demo 2026-11-20T00 {p}" for p in phases]
    assert {state for _, state in flows} == {"COMPLETED"}
    # "ingest-0" and the like stand for the phases' flows inside the pipeline's; batches are "ingest <first> .. <last>".
    assert {name.split()[0] for name, _ in tasks if " " in name} == set(phases[1:])
    assert {state for _, state in tasks} == {"COMPLETED"}
    assert logs > 0
    assert {f"demo-{p}-report" for p in phases[1:]} | {"demo-pipeline"} <= artifacts


@pytest.mark.fault
def test_a_killed_run_leaves_no_process(tmp_path: Path):
    home, lake = tmp_path / "home", tmp_path / "lake"
    process = start("pipeline", "demo", "--lake", lake, env=environment(PREFECT_HOME=str(home)))
    end = time.monotonic() + 60
    while len(processes_with(str(home))) < 4 and time.monotonic() < end:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert gone(str(home)), processes_with(str(home))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A Prefect server as an operator runs one; its API's address."""
    home = tmp_path / "server"
    port = 42000 + os.getpid() % 2000
    env = environment(PREFECT_HOME=str(home), PREFECT_SERVER_ANALYTICS_ENABLED="false", PREFECT_UI_ENABLED="0")
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "prefect.server.api.server:create_app",
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}/api"
        try:
            for _ in range(600):
                try:
                    if httpx.get(f"{url}/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


@pytest.mark.slow
def test_the_configured_server_is_used(server: str, tmp_path: Path):
    env = environment(PREFECT_HOME=str(tmp_path / "client"), PREFECT_API_URL=server)
    arguments = ("demo", "--lake", tmp_path / "lake", "--cluster", "none")
    ran = run("ingest", *arguments, env=env)
    assert ran.code == 0, ran.out + ran.err
    assert f"Prefect server {server}" in ran.err
    runs = httpx.post(f"{server}/flow_runs/filter", json={}).json()
    assert [(r["name"], r["state_type"]) for r in runs] == [("demo 2026-11-20T00 ingest", "COMPLETED")]
    ran = run("refine", *arguments, "--json", env=env)
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["partitions"]["done"] == 24
