"""A survey from listing to report: what a second run adds, what it leaves alone, and what the report says."""

import io
from typing import Any

import orjson
import polars as pl
import pytest

from tasks.lake import children
from tasks.lake.errors import RecipeError, UsageError
from tasks.lake.partition import Status
from tasks.lake.phase import Window
from tasks.plan import Options, plan_phase
from tasks.surveys import compiled, table
from tasks.surveys.counting import changes, counts, result
from tasks.surveys.probe import Row
from tasks.surveys.reasons import Reason

from .conftest import PHASES, Survey

ZIP = "https://data.example/granule.zip"


def row(concept: str, reason: str | None = None, *, state: str = "done", **more: Any) -> Row:
    values: dict[str, Any] = {
        "collection_concept_id": concept, "collection_short_name_and_version": "S_1", "concept_id": "G1-X",
        "data_center": "POCLOUD", "data_url": None, "backend": None, "format": "NetCDF", "extension": "nc",
        "tiling_compatible": None if state != "done" else reason is None, "incompatible_reason": reason,
        "error_message": None, "tiles_url": None, "variable": None, "data_variables": (), "num_granules": 1,
        "processing_level": "4", "groups": (), "state": state,
    }  # fmt: skip
    return Row(**{**values, **more})


def test_a_second_run_adds_what_is_new_and_touches_nothing_else(survey: Survey) -> None:
    first = {survey.add(i, ZIP) for i in range(5)}
    reports = survey.run()
    assert [r.status for r in reports] == ["done"] * 5
    assert [r.partitions["done"] for r in reports] == [5, 5, 5, 1, 1]
    before = {m.key: m for m in survey.lake.objects.listing()}
    # The catalogue lives on: granules are added to what is there, and that is nothing new.
    for concept in first:
        survey.catalogue.collections[concept] = 99
    assert [r.status for r in survey.run()] == ["nothing to do"] * 5
    assert {m.key: m for m in survey.lake.objects.listing()} == before

    added = survey.add(5, ZIP)
    reports = survey.run()
    assert [r.partitions["done"] for r in reports] == [1, 1, 1, 0, 1]
    after = {m.key: m for m in survey.lake.objects.listing()}
    assert all(after[k] == m for k, m in before.items() if any(c in k for c in first))
    assert survey.results() == dict.fromkeys([*sorted(first), added], "unsupported_format")


def test_a_collection_that_leaves_the_catalogue_keeps_its_verdict(survey: Survey) -> None:
    gone, stays = survey.add(1, ZIP), survey.add(2, ZIP)
    survey.run()
    del survey.catalogue.collections[gone]
    survey.run()
    assert survey.results().keys() == {gone, stays}


def test_regridding_is_on_record_as_not_applicable(survey: Survey) -> None:
    survey.add(1, ZIP)
    survey.run()
    (record,) = survey.records("regrid").values()
    assert (record.partition, record.status) == ("first/not-applicable", Status.DONE)
    assert record.metrics["applicable"] == "no"


def test_another_seed_or_round_is_another_sample(survey: Survey) -> None:
    for i in range(4):
        survey.add(i, ZIP, granules=100_000)
    survey.run("ingest")
    samples = {k: r.metrics["granule"] for k, r in survey.records("ingest").items()}
    assert survey.selected("ingest") == set()
    assert survey.selected("ingest", seed=2) == set(samples)
    survey.run("ingest", round="second")
    assert {k: r.metrics["granule"] for k, r in survey.records("ingest", "second").items()} == samples
    survey.run("ingest", round="third", seed=2)
    third = {k: r.metrics["granule"] for k, r in survey.records("ingest", "third").items()}
    assert all(third[k] != samples[k] for k in samples)


def test_only_some_collections(survey: Survey) -> None:
    wanted, _ = survey.add(1, ZIP), survey.add(2, ZIP)
    reports = survey.run(collections=[wanted])
    assert [r.partitions["planned"] for r in reports] == [1, 1, 1, 1, 1]
    assert survey.results() == {wanted: "unsupported_format"}
    plan = plan_phase(survey.lake, survey.recipe(collections=["C9-X"]), "ingest", Window(), Options())  # type: ignore[arg-type]
    assert plan.rows == ()
    assert "not in the catalogue: C9-X" in plan.scopes[0].notes


def test_a_report_of_a_survey_that_is_not_finished(survey: Survey) -> None:
    done, lost, failed, never = (survey.add(i, ZIP) for i in range(4))
    survey.run("ingest")
    survey.run("refine", "validate", collections=[done])
    ledger = survey.lake.ledger("cmr-collections")
    plan = plan_phase(survey.lake, survey.recipe(), "refine", Window(), Options())  # type: ignore[arg-type]
    by_key = {p.key.partition("/")[2]: p for p in plan.selected}
    assert set(by_key) == {lost, failed, never}
    from tasks.lake.errors import Unreachable
    from tasks.lake.ledger import lineage

    ledger.claim("refine", by_key[lost], lineage("x"))
    ledger.mark_lost("refine", by_key[lost].key, "its worker was lost (KilledWorker)")
    ledger.fail("refine", ledger.claim("refine", by_key[failed], lineage("x")), Unreachable("no answer"))
    report = survey.run("export")[0]
    assert report.status == "done"
    assert survey.results() == {done: "unsupported_format", lost: "lost", failed: "failed", never: compiled.NEVER}
    rows = survey.rows()
    assert rows[never]["attempt"] is None
    assert rows[lost]["error_message"] == "its worker was lost (KilledWorker)"
    assert rows[failed]["error_message"] == "no answer"
    assert all(rows[k]["tiling_compatible"] is None for k in (lost, failed, never))
    page = survey.lake.objects.get("exports/cmr-collections/first/summary.html").decode()
    assert "<b>3</b>without a verdict" in page
    # Finished, it is reported again.
    survey.run()
    assert set(survey.results().values()) == {"unsupported_format"}


def test_what_changed_since_the_last_survey(survey: Survey) -> None:
    stays, goes, changes_ = (survey.add(i, ZIP) for i in range(3))
    survey.run(round="2026-10")
    none = orjson.loads(survey.lake.objects.get("exports/cmr-collections/2026-10/changes.json"))
    assert none == {"compared_with": None}
    del survey.catalogue.collections[goes]
    survey.files[changes_] = None
    comes = survey.add(7, ZIP)
    survey.run(round="2026-11")
    found = orjson.loads(survey.lake.objects.get("exports/cmr-collections/2026-11/changes.json"))
    assert found == {
        "compared_with": "2026-10", "added": [comes], "removed": [goes], "now_compatible": [],
        "no_longer_compatible": [], "unchanged": 1,
        "other_result": [{"collection": changes_, "before": "unsupported_format", "now": "failed_to_extract_url"}],
    }  # fmt: skip
    assert stays in survey.results("2026-11")
    # The older survey goes on being compared with nothing, and with whatever it is told to.
    assert [r.status for r in survey.run(round="2026-10")][-1] == "done"
    assert orjson.loads(survey.lake.objects.get("exports/cmr-collections/2026-10/changes.json")) == none
    with pytest.raises(UsageError, match="no exported survey '2025-01'"):
        survey.run("export", round="2026-11", compare="2025-01")


def test_counts_and_changes() -> None:
    rows = [row("C1-A"), row("C2-A", "timeout"), row("C3-A", "timeout", data_center="NSIDC"), row("C4-A", state="lost")]
    counted = counts(rows)
    assert counted["by_result"] == {"timeout": 2, "compatible": 1, "lost": 1}
    assert (counted["compatible"], counted["incompatible"], counted["without_verdict"]) == (1, 2, 1)
    assert counted["by_data_center"] == {
        "POCLOUD": {"compatible": 1, "lost": 1, "timeout": 1}, "NSIDC": {"timeout": 1},
    }  # fmt: skip
    before = {"C1-A": "timeout", "C2-A": "compatible", "C3-A": "timeout", "C9-A": "lost"}
    found = changes(before, rows, "older")
    assert found["now_compatible"] == [{"collection": "C1-A", "before": "timeout"}]
    assert found["no_longer_compatible"] == [{"collection": "C2-A", "now": "timeout"}]
    assert (found["added"], found["removed"], found["unchanged"]) == (["C4-A"], ["C9-A"], 1)


def test_the_table_is_read_by_others_and_back() -> None:
    rows = [
        row("C1-A", variable="sst", data_variables=("sst", "ice"), dimensions={"lat": 3}, versions={"gdal": "3"},
            seed=4, attempt=2, duration=1.5, tile="0/0/0", tile_valid=0.5),
        row("C2-A", "out_of_memory", error_message="it wanted more"),
        row("C3-A", state="never tried"),
    ]  # fmt: skip
    data = table.write(rows)
    assert table.results(data) == {r.collection_concept_id: result(r) for r in rows}
    read = pl.read_parquet(io.BytesIO(data))
    assert read["data_variables"].to_list() == [["sst", "ice"], [], []]
    assert read["tiling_compatible"].to_list() == [True, False, None]
    assert read["duration"].to_list() == [1.5, None, None]
    assert [f.name for f in table.SCHEMA] == list(Row.__struct_fields__)


@pytest.mark.parametrize(
    ("window", "said"), [({"latest": True}, "a survey has no runs"), ({"start": 1}, "expected --round NAME")]
)
def test_a_survey_has_no_runs(survey: Survey, window: dict[str, Any], said: str) -> None:
    survey.add(1, ZIP)
    with pytest.raises(UsageError, match=said):
        plan_phase(survey.lake, survey.recipe(), "ingest", Window(**window), Options())  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", [p for p in PHASES if p not in ("ingest", "regrid")])
def test_a_phase_before_its_time(survey: Survey, phase: str) -> None:
    survey.add(1, ZIP)
    with pytest.raises(UsageError, match=r"has no (ingest|refine) yet; run flows\.(ingest|refine) first"):
        survey.run(phase)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reasons": ["tired"]}, "holds 'tired'; known are: unsupported_format, .*out_of_memory"),
        ({"login": {"username": "env:A"}}, "either a token, or a username and a password"),
        ({"check": {"memory": 1}}, "check.memory"),
        ({"round": "No Such/Name"}, "round"),
        ({"catalogue": {"page_size": 5000}}, "page_size"),
    ],
)
def test_a_recipe_that_is_wrong(survey: Survey, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        survey.recipe(**settings)


@pytest.mark.parametrize("death", [children.TimedOut, children.OutOfMemory, children.Crashed])
def test_each_death_of_a_child_is_its_own_verdict(
    survey: Survey, death: type[children.Died], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash, a time-out and an out-of-memory do not look alike in ledger, row and counts."""
    reason = {
        children.TimedOut: Reason.TIMEOUT, children.OutOfMemory: Reason.OUT_OF_MEMORY, children.Crashed: Reason.CRASHED,
    }[death]  # fmt: skip
    from tasks.surveys import check

    monkeypatch.setattr(check, "INSPECTION", "tests.surveys.hostile:by_name")
    names = {children.TimedOut: "hang.nc", children.OutOfMemory: "eat-and-die.nc", children.Crashed: "crash.nc"}
    concept = survey.add(1, names[death])
    survey.run(check__seconds=2, check__memory=128)
    assert survey.results() == {concept: str(reason)}
    assert survey.records("refine")[concept].metrics["reason"] == reason
    assert survey.records("validate")[concept].metrics["reason"] == reason
    assert survey.selected("refine", reasons=[str(reason)]) == {concept}
    assert survey.selected("refine", "failed") == set()
