"""Quarantine, release by a named person, and redrive from a mirror."""

import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest

from tasks.forecasts import completeness, redrive, release
from tasks.forecasts.template import load, refined_cube
from tasks.lake import open_cube
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError
from tasks.lake.lake import Lake
from tasks.lake.phase import Context
from tasks.lake.run_axis import FIELD_STATUS

from .small_archive import MEMBERS, SCOPE, STEPS, Place, Run, variables


def bad_run() -> Run:
    """A run with one field in Celsius and one accumulation that falls."""
    run = Run()
    run["t2m/006-m01"].values = run["t2m/006-m01"].values - 273.15
    run["tp/009-m02"].values = run["tp/009-m02"].values * 0.2
    return run


def context(place: Place) -> Context:
    return Context(place.lake, place.recipe)


FEW = {"members": list(MEMBERS), "variables": variables("t2m", "tp")}


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The bad run, validated. Not to be changed."""
    base = tmp_path_factory.mktemp("validated")
    bad_run().write(base / "archive")
    place = Place.of(base / "lake", base / "archive", select=FEW)
    assert [r.status for r in place("ingest", "refine", "validate")] == ["done"] * 3
    return place


@pytest.fixture
def place(validated: Place, tmp_path: Path) -> Place:
    """A copy of the bad run's lake and of its archive."""
    lake = Path(validated.lake.objects.location.prefix)
    shutil.copytree(lake, tmp_path / "lake")
    return Place(Lake(str(tmp_path / "lake")), validated.recipe)


def field(place: Place, name: str, step: int, member: int) -> np.ndarray:
    cube = open_cube(place.lake.url, "small").isel(init_time=0)
    return cube[name].values[STEPS.index(step), MEMBERS.index(member)]


def status(place: Place, name: str, step: int, member: int) -> int:
    cube = open_cube(place.lake.url, "small").isel(init_time=0)
    return int(cube[f"{name}_status"].values[STEPS.index(step), MEMBERS.index(member)])


def test_bad_cells_are_out_until_a_person_releases_them(place: Place) -> None:
    found = release.verdict(context(place), SCOPE)
    assert {s.key for s in found.quarantined} == {"t2m/006-m01", "tp/009-m02"}
    assert np.isnan(field(place, "t2m", 6, 1)).all()
    assert status(place, "t2m", 6, 1) == FIELD_STATUS["rejected"]
    assert np.isfinite(field(place, "t2m", 6, 0)).all()
    release.release(context(place), SCOPE, ["t2m/006-m01"], "Ada", "the station says so")
    assert place("validate")[0].status == "done"
    assert np.isfinite(field(place, "t2m", 6, 1)).all()
    assert float(field(place, "t2m", 6, 1).max()) < 60, "the values as they came"
    assert status(place, "t2m", 6, 1) == FIELD_STATUS["flagged"]
    assert status(place, "tp", 9, 2) == FIELD_STATUS["rejected"]
    found = release.verdict(context(place), SCOPE)
    assert [(w.cell, w.by, w.why) for w in found.released] == [("t2m/006-m01", "Ada", "the station says so")]
    structure = load(context(place)).cube(place.recipe)
    tip = refined_cube(context(place), structure).tip("main")
    assert tip is not None
    assert tip[1]["released"][0]["by"] == "Ada"
    assert place("validate")[0].status == "nothing to do"


def test_a_release_that_cannot_be_changes_nothing(place: Place) -> None:
    for cells, by, why, words in (
        (["t2m/006-m00"], "Ada", "x", "nothing to release as 't2m/006-m00'"),
        (["t2m/006-m01", "nonsense"], "Ada", "x", "nothing to release as 'nonsense'"),
        (["t2m/006-m01"], " ", "x", "names who decides and why"),
        (["t2m/006-m01"], "Ada", "", "names who decides and why"),
    ):
        with pytest.raises(UsageError, match=words):
            release.release(context(place), SCOPE, cells, by, why)
    assert release.waivers(context(place), SCOPE) == ([], None)
    assert place("validate")[0].status == "nothing to do"


def test_a_run_without_a_verdict_cannot_be_decided_about(tmp_path: Path) -> None:
    empty = Place.of(tmp_path / "lake", tmp_path)
    for decide in (
        lambda: release.release(context(empty), SCOPE, ["all"], "Ada", "x"),
        lambda: redrive.redrive(context(empty), SCOPE),
    ):
        with pytest.raises(
            UsageError, match=f"no verdict on run {SCOPE} of small; run first: python -m flows.validate"
        ):
            decide()
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(("policy", "branch"), [("hold", True), ("roll_back", False)])
def test_a_rejected_run_is_held_or_rolled_back_and_released_as_a_whole(
    tmp_path: Path, policy: str, branch: bool
) -> None:
    run = Run()
    for message in run.of("msl"):
        message.values = message.values * 100
    run.write(tmp_path / "archive")
    few = {**FEW, "variables": variables("msl")}
    place = Place.of(tmp_path / "lake", tmp_path / "archive", select=few, checks={"policy": {"rejected": policy}})
    report = place("ingest", "refine", "validate")[-1]
    assert (report.status, int(report.exit_code)) == ("held", 3)
    assert "msl at" in report.problems[0]
    structure = load(context(place)).cube(place.recipe)
    cube = refined_cube(context(place), structure)
    assert (cube.tip(f"run/{SCOPE}") is not None) == branch
    with pytest.raises(UsageError, match="nothing of it was published"):
        open_cube(place.lake.url, "small")
    release.release(context(place), SCOPE, ["all"], "Ada", "for a demonstration")
    assert place("validate")[0].status == "done"
    published = open_cube(place.lake.url, "small").isel(init_time=0)
    assert int(published["status"]) == 2
    assert (published["msl_status"].values == FIELD_STATUS["flagged"]).all()


def test_another_scale_decides_anew_without_reading(place: Place) -> None:
    held = Place(
        place.lake,
        recipes.parse(place.recipe.model_dump(mode="json") | {"checks": {"policy": {"quarantined": "hold"}}}),
    )
    report = held("validate")[0]
    assert (report.status, report.partitions["skipped"]) == ("held", report.partitions["planned"])


def test_redrive_takes_the_field_from_where_it_is_sound(place: Place, tmp_path: Path) -> None:
    archive = Path(place.recipe.source.root.removeprefix("file://"))
    found = redrive.redrive(context(place), SCOPE)
    assert found.done == ()
    assert set(found.left.values()) == {f"{archive.as_uri()} has the same bytes"}
    bad = Path(shutil.copytree(archive, tmp_path / "bad"))
    Run().write(archive)
    try:
        found = redrive.redrive(context(place), SCOPE)
        assert {r.cell for r in found.done} == {"t2m/006-m01", "tp/009-m02"}
        reports = place("refine", "validate")
    finally:
        shutil.copytree(bad, archive, dirs_exist_ok=True)
    assert [r.status for r in reports] == ["done", "done"]
    assert reports[0].partitions["done"] == 2, "the two partitions with another message, no others"
    verdict = release.verdict(context(place), SCOPE)
    assert verdict.quarantined == ()
    # The provider has changed its files since they were indexed, and that is said.
    assert all("is not what it was when the manifest was made" in reason for reason in verdict.reasons)
    assert float(field(place, "t2m", 6, 1).min()) > 200
    assert status(place, "tp", 9, 2) == FIELD_STATUS["present"]
    # What was bad is still there to be looked at.
    record = orjson.loads(place.lake.objects.get(f"quarantine/small/{SCOPE}/t2m/006-m01.json"))
    assert "outside 175..335 K" in record["reason"]
    with pytest.raises(UsageError, match="has no cell in quarantine"):
        redrive.redrive(context(place), SCOPE)


def test_redrive_prefers_a_mirror(tmp_path: Path) -> None:
    """ECMWF's layout on two mirrors, of which the first has a bad field."""
    folders = [tmp_path / "first", tmp_path / "second"]
    bad = Run()
    bad["t2m/006-m00"].values = bad["t2m/006-m00"].values - 273.15
    for folder, run in zip(folders, (bad, Run()), strict=True):
        below = folder / "20261120/00z/ifs/0p25/oper"
        run.write(below, "{init:%Y%m%d%H}0000-{step}h-oper-fc.grib2", members=(0,))
    source = {"type": "ecmwf", "stream": "oper", "mirrors": [f.as_uri() for f in folders]}
    select = {"variables": variables("t2m", "msl"), "steps": list(STEPS)}
    place = Place.of(tmp_path / "lake", tmp_path, source=source, select=select, checks={"quarantine_at_most": 0.5})
    reports = place("ingest", "refine", "validate")
    assert [r.status for r in reports] == ["done"] * 3, [r.problems for r in reports]
    assert {s.key for s in release.verdict(context(place), SCOPE).quarantined} == {"t2m/006"}
    found = redrive.redrive(context(place), SCOPE)
    assert [r.cell for r in found.done] == ["t2m/006"], found.left
    assert found.done[0].url.startswith(folders[1].as_uri())
    assert [r.status for r in place("refine", "validate")] == ["done", "done"]
    assert release.verdict(context(place), SCOPE).state == "accepted"
    assert (completeness.load(context(place), SCOPE)["t2m"] == FIELD_STATUS["present"]).all()
