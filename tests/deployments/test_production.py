"""As an operator does it: a server, a worker, everything registered, a run from its form, a failure, a retry."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.objects import Objects
from tasks.lake.recipe import PHASES

from ..flows.test_archives import PATTERN
from ..servers import CREDENTIALS, Archive, S3Server
from .production import Production, production, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KEY, *SECRETS = ("AKIAPLANTEDKEY00", "planted-secret-key-0815", "planted-hook-password-4711")
WINDOW = {"run": "2026-11-20T00:00:00.000Z", "cluster": "none"}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Production]:
    """A server on which everything was registered, and a worker; the lake is in S3, its keys in a block only."""
    with production(tmp_path_factory.mktemp("prefect")) as made:
        made.command("tests.deployments.plant", KEY, *SECRETS)
        place, _, _ = s3.lake().partition("?")
        printed = made.command(
            "deployments.register", "--lake", place, "--endpoint", s3.endpoint, "--region", "us-east-1",
            "--credentials", "planted", "--notify", "apprise-target/planted",
        )  # fmt: skip
        assert "block weatherlake-lake/lake: created" in printed
        made.env["LAKE"] = f"{place}?endpoint={s3.endpoint}&region=us-east-1"
        made.start("worker.log", "prefect", "worker", "start", "--pool", "weatherlake", "--type", "process")
        yield made


@pytest.fixture
def lake(operator: Production, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The lake as the test sees it, with keys of its own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return Lake(operator.env["LAKE"])


def small(folder: Path, archive: Archive) -> Path:
    """The demo's recipe, smaller, from an archive behind HTTP, that tells a hook of what goes wrong."""
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text())
    document |= {"name": "small", "transfer": "copy", "products": [], "statistics": []}
    document["source"] = {
        "type": "folder", "root": archive.url, "pattern": PATTERN, "index": "ecmwf", "steps": [0, 6, 12, 18, 24],
        "members": [0, 1, 2, 3],
    }  # fmt: skip
    document["select"] = {"members": [0, 1], "variables": document["select"]["variables"][:2]}
    document["exports"] = [{"type": "map", "name": "map", "zone": "refined", "variable": "t2m", "lead_time": 24}]
    document["checks"] = {"notify": [{"block": "apprise-target/planted"}]}
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def attempts(lake: Lake, phase: str) -> dict[str, int]:
    """Partition -> how often it was tried."""
    return {key.split("/", 1)[1]: r.attempt for key, r in lake.ledger("small").read_all(phase).items()}


def test_a_second_registration_changes_nothing(operator: Production) -> None:
    printed = operator.command("deployments.register", "--notify", "apprise-target/planted")
    assert "nothing to change" in printed
    names = {f"{d['name']}" for d in operator.post("deployments/filter", {"limit": 200})}
    assert set(recipes.names()) <= names


def test_a_retry_runs_only_what_is_missing_and_no_secret_gets_out(
    operator: Production, lake: Lake, demo: Path, tmp_path: Path, http_archive: Callable[..., Archive]
) -> None:
    # The provider hangs up in the middle of one step's file.
    archive = http_archive(demo / "archive" / "demo", truncate=1000, only=r"-12h-.*grib2")
    recipe = small(tmp_path, archive)
    flow_run = operator.run("pipeline/demo", recipe=str(recipe), retries=0, **WINDOW)
    failed = operator.ended(flow_run)
    assert failed["state_type"] == "FAILED", failed["state"]
    assert failed["name"] == "small 2026-11-20T00 pipeline"
    assert [c["name"] for c in operator.children(flow_run)] == ["small 2026-11-20T00 ingest"]
    # The hook comes after the state.
    wait(lambda: "small-pipeline-failure" in operator.artifacts([flow_run]), 30, operator.logs)
    before = attempts(lake, "ingest")
    assert before["step-012"] > 1
    assert {k: n for k, n in before.items() if k != "step-012"} == {f"step-{s:03}": 1 for s in (0, 6, 18, 24)}

    archive.faults.truncate = None
    archive.clear()
    operator.retry(flow_run)
    done = operator.ended(flow_run)
    assert done["state_type"] == "COMPLETED", done["state"]
    after = attempts(lake, "ingest")
    assert {k: n for k, n in after.items() if n != before.get(k)} == {"step-012": before["step-012"] + 1, "settle": 1}
    fetched = {r.path.rpartition("/")[2] for r in archive.requests if r.path.endswith("grib2") and r.method == "GET"}
    assert fetched == {"20261120000000-12h-enfo-ef.grib2"}

    children = operator.children(flow_run)
    artifacts = operator.artifacts([flow_run, *(c["id"] for c in children)])
    assert {f"small-{p}-report" for p in PHASES} | {"small-pipeline", "small-verdict", "small-matrix"} <= set(artifacts)
    assert artifacts["small-export-picture-1"]["type"] == "image"
    _no_secret_anywhere(operator, lake)


def _no_secret_anywhere(operator: Production, lake: Lake) -> None:
    """Not in the server's database - parameters, logs, artifacts, events; blocks are encrypted there - nor in what was
    printed, nor in any object of the lake."""
    with sqlite3.connect(operator.home / "prefect.db") as database:
        text = "\n".join(database.iterdump())
    database.close()
    assert "small-pipeline-failure" in text
    assert "block:weatherlake-lake/lake" in text
    # The id of a key is no secret, and Prefect's own events of blocks hold it; nothing of ours does.
    ours = "\n".join(line for line in text.splitlines() if "prefect.block-document." not in line)
    assert KEY not in ours
    for secret in SECRETS:
        assert secret not in text
        for log in operator.home.glob("*.log"):
            assert secret not in log.read_text(), log.name
    for meta in (
        lake.objects.listing("ledger") + lake.objects.listing("notifications") + lake.objects.listing("verdicts")
    ):
        data = lake.objects.get(meta.key)
        assert not [s for s in (KEY, *SECRETS) if s.encode() in data], meta.key
    notes = [lake.objects.get(m.key) for m in lake.objects.listing("notifications")]
    assert any(b"could not be sent through apprise-target/planted" in note for note in notes)


def test_dask_hears_no_secret(
    operator: Production, lake: Lake, demo: Path, tmp_path: Path, http_archive: Callable[..., Archive]
) -> None:
    """A phase on somebody's Dask cluster, one batch of which fails: neither events nor logs hold a key."""
    from distributed import Client, LocalCluster

    archive = http_archive(demo / "archive" / "demo", truncate=1000, only=r"-6h-.*grib2")
    recipe = small(tmp_path, archive)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        parameters: dict[str, Any] = WINDOW | {"cluster": cluster.scheduler_address, "force": True}
        run = operator.ended(operator.run("ingest/demo", recipe=str(recipe), retries=0, **parameters))
        assert run["state_type"] == "FAILED"
        said = repr((client.get_events(), client.get_scheduler_logs(), client.get_worker_logs()))
        said += client.run_on_scheduler(_transitions)
    assert "processing" in said
    assert not [s for s in (KEY, *SECRETS) if s in said]
    assert Objects(lake.url).listing("ledger/small/ingest")


def _transitions(dask_scheduler: Any) -> str:
    """Everything the scheduler remembers of its tasks."""
    return repr(list(dask_scheduler.transition_log))
