"""Validation as a user runs it: held, released, redriven; bad input changes nothing."""

from pathlib import Path

import pytest

from tasks.forecasts.release import waivers
from tasks.lake.phase import Context

from ..forecasts.small_archive import MEMBERS, SCOPE, Place, Run, variables
from .running import PLAIN, Ran, run


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """A run with a bad field, refined, with a policy that holds such a run; and its recipe as a file."""
    base = tmp_path_factory.mktemp("held")
    bad = Run()
    bad["t2m/006-m01"].values = bad["t2m/006-m01"].values * 100
    bad.write(base / "archive")
    select = {"members": list(MEMBERS), "variables": variables("t2m")}
    checks = {"policy": {"quarantined": "hold"}}
    place = Place.of(base / "lake", base / "archive", select=select, checks=checks)
    assert [r.status for r in place("ingest", "refine")] == ["done"] * 2
    return place, place.save(base / "small.yaml")


def validate(held: tuple[Place, Path], *arguments: str) -> Ran:
    place, recipe = held
    lake = place.lake.objects.location.prefix
    return run("validate", recipe, "--lake", lake, "--run", SCOPE, *PLAIN, *arguments)


def says(ran: Ran, code: int, words: str) -> None:
    assert ran.code == code, ran.out + ran.err
    assert words in ran.err, ran.err
    assert "Traceback" not in ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith("error:")]) == 1


def test_held_released_by_a_person_and_published(held: tuple[Place, Path]) -> None:
    place, _ = held
    says(validate(held, "--release", "all", "--by", "Ada", "--why", "x"), 2, f"there is no verdict on run {SCOPE}")
    ran = validate(held)
    assert ran.code == 3
    assert "held back, quarantined" in ran.out + ran.err
    says(validate(held, "--release", "t2m/006-m01"), 2, "names who decides and why")
    says(validate(held, "--release", "t2m/006-m02", "--by", "Ada", "--why", "x"), 2, "nothing to release as")
    says(validate(held, "--by", "Ada"), 2, "--by and --why go with --release")
    assert waivers(Context(place.lake, place.recipe), SCOPE) == ([], None)
    assert validate(held).code == 3, "nothing was changed by any of these"
    ran = validate(held, "--release", "t2m/006-m01", "--by", "Ada", "--why", "a demonstration")
    assert ran.code == 0, ran.out + ran.err
    assert "released by Ada: t2m/006-m01" in ran.err


WRONG = {
    "an unknown check": ("checks.run=[rnage]", "no check named 'rnage'"),
    "a tolerance outside its range": ("checks.run=[{type: jump, tolerance: 2}]", "should be less than 1"),
    "an unknown scale": ("checks.scale=nobody", "scale 'nobody' is not there"),
    "an unknown policy": ("checks.policy={rejected: publish}", "checks.policy.rejected"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_scale_is_one_sentence(held: tuple[Place, Path], what: str) -> None:
    setting, words = WRONG[what]
    says(validate(held, "--set", setting), 2, words)


def test_a_run_that_was_never_refined_has_no_verdict(tmp_path: Path, held: tuple[Place, Path]) -> None:
    _, recipe = held
    ran = run("validate", recipe, "--lake", tmp_path / "lake", "--run", SCOPE, *PLAIN)
    assert ran.code == 2
    assert "run first: python -m flows." in ran.err
