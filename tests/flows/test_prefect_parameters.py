"""What a flow takes: one list for forms, schema and code; and what follows when a run ends badly."""

import dataclasses
import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.states import Failed
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows import pinned
from flows.hooks import release
from flows.ingest import ingest
from flows.lakes import url_of
from flows.phase import PhaseFailed, _passing, limit_of
from flows.pipeline import pipeline
from flows.request import Request
from flows.validate import validate as validation
from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError, UsageError
from tasks.lake.lake import Lake
from tasks.lake.ledger import lineage
from tasks.lake.partition import Partition, Status
from tasks.report import Report

FIELDS = [f.name for f in dataclasses.fields(Request)]


@pytest.mark.parametrize("flow", [ingest, pipeline, validation], ids=lambda f: f.name)
def test_a_flow_takes_what_a_request_has(flow: Any) -> None:
    taken = list(inspect.signature(flow.fn).parameters)
    assert taken[: len(FIELDS)] == FIELDS
    assert taken[len(FIELDS) :] == (["release", "by", "why", "redrive"] if flow is validation else [])


def test_a_form_offers_every_recipe_and_takes_a_file() -> None:
    schema = parameter_schema(pipeline).model_dump()
    assert schema["properties"]["recipe"]["anyOf"][0]["enum"] == recipes.names()
    for name in ("run", "start", "end"):
        assert schema["properties"][name]["format"] == "date-time"
    sent = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    # As the server does it when a run is made.
    validate(sent | {"recipe": "/etc/recipes/mine.yaml", "cluster": "fargate-cluster/big"}, schema, raise_on_error=True)
    validate({"recipe": "demo", "run": "2026-11-20T00"}, schema, raise_on_error=True)
    with pytest.raises(ValidationError, match="select"):
        validate({"recipe": "demo", "select": "some"}, schema, raise_on_error=True)
    assert Request.of(sent | {"recipe": "demo"}) == Request("demo")


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-11-20T06", 6), ("2026-11-20T06:00:00Z", 6), ("2026-11-20T06:00:00.000Z", 6),
        ("2026-11-20T08:00:00+02:00", 6),
    ],
)  # fmt: skip
def test_a_time_may_come_from_a_picker(text: str, hour: int) -> None:
    request = Request("demo", run=text)
    assert request.window.run == datetime(2026, 11, 20, hour, tzinfo=UTC)
    assert request.which == f"2026-11-20T{hour:02}"


def test_a_day_is_all_of_it() -> None:
    request = Request("demo", start="2026-11-20", end="2026-11-20")
    assert request.which == "2026-11-20T00..2026-11-20T23"


@pytest.mark.parametrize("text", ["yesterday", "2026-11-20", "2026-11-20T06:30:00Z", "2026-13-01T00"])
def test_what_is_no_run_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no run"):
        _ = Request("demo", run=text).window


def test_a_block_needs_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert url_of("s3://bucket/lake") == "s3://bucket/lake"
    with pytest.raises(UsageError, match="no Prefect server is configured"):
        url_of("block:weatherlake-lake/prod")


def test_days_back_is_a_day_for_good() -> None:
    """A retry tomorrow is about the same days."""
    found = pinned._look(Request("demo", days_back=1), "ingest")
    assert Request("demo", **found).window.start == Request("demo", days_back=1).window.start
    assert pinned.pinned(Request("demo", run="2026-11-20T00"), "ingest").run == "2026-11-20T00"


def test_latest_is_a_run_for_good(demo: Path) -> None:
    found = pinned._look(Request("demo", latest=True, lake=str(demo)), "ingest")
    assert Request("demo", **found).window.run is not None


@pytest.mark.parametrize(
    ("code", "again"), [(ExitCode.TRANSIENT, True), (ExitCode.FAILED, False), (ExitCode.HELD, False)]
)
def test_only_what_may_pass_is_tried_again(code: ExitCode, again: bool) -> None:
    error = PhaseFailed(Report("demo", "ingest", "incomplete", code, {}, (), 1.0))
    assert _passing(None, None, Failed(data=error)) is again
    assert _passing(None, None, Failed(data=ValueError("x"))) is False
    assert _passing(None, None, Failed(data=LakeError("x"))) is False


def test_a_provider_has_one_limit() -> None:
    assert limit_of(recipes.load("ifs-ens")) == limit_of(recipes.load("ifs-hres")) == "weatherlake-ecmwf"


def test_what_a_dead_run_held_is_free_again(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    ledger = lake.ledger("demo")
    for key, run in (("a", "dead"), ("b", "alive")):
        ledger.claim("ingest", Partition(f"2026-11-20T00/{key}", key), lineage(run))
    request = Request("demo", run="2026-11-20T00")
    freed = release(lake, recipes.load("demo"), request, ["ingest"], ["dead"], "its flow run crashed")
    assert freed == ["ingest 2026-11-20T00/a"]
    found = ledger.read_all("ingest")
    assert {key[-1]: r.status for key, r in found.items()} == {"a": Status.LOST, "b": Status.RUNNING}
    assert found["2026-11-20T00/a"].error.message == "its flow run crashed"
