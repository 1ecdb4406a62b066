"""Backfill: which runs are taken, in which order, within which budget; and nothing is done twice."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from flows.backfill_command import main
from tasks.backfill.drive import Budget, drive
from tasks.backfill.estimate import DEFAULTS, rates, spent
from tasks.backfill.survey import Cell, Run, look, survey
from tasks.lake.errors import CorruptInput, ExitCode, NotThereYet
from tasks.lake.ledger import Select, State
from tasks.lake.phase import Context
from tasks.lake.prices import prices
from tasks.report import Report

from ..forecasts import small_archive
from ..forecasts.small_archive import RUN, STEPS, Place, variables

SCOPES = ("2026-11-20T00", "2026-11-20T12", "2026-11-21T00")
SELECT = {"members": [0], "variables": variables("t2m")}
PHASES = ("ingest", "refine", "validate")


# -- driving -------------------------------------------------------------------------------------------


def report(scope: str, code: ExitCode = ExitCode.DONE) -> Report:
    return Report("small", "ingest", "done", code, {}, (), 1.0, (), "", (scope,))


def driven(scopes: str, work: Callable[[str], list[Report]] | None = None, **more: Any) -> Any:
    options: dict[str, Any] = {"estimates": dict.fromkeys(scopes, 1.0), "budget": Budget()} | more
    return drive(list(scopes), work or (lambda s: [report(s)]), **options)


def test_runs_are_worked_on_in_order_and_no_more_than_so_many_at_once() -> None:
    begun: list[str] = []
    active, most, lock = 0, 0, threading.Lock()

    def work(scope: str) -> list[Report]:
        nonlocal active, most
        with lock:
            begun.append(scope)
            active += 1
            most = max(most, active)
        time.sleep(0.02)
        with lock:
            active -= 1
        return [report(scope)]

    made = driven("abcdefgh", work, at_once=3)
    assert sorted(begun) == list("abcdefgh")
    assert most == 3
    assert made.exit_code is ExitCode.DONE
    begun.clear()
    driven("hgf", work)
    assert begun == ["h", "g", "f"]


def test_the_budget_is_never_exceeded_by_estimates() -> None:
    made = driven("abcd", budget=Budget(2.5, 0.0, lambda _: 1.0))
    assert (list(made.reports), made.left, made.spent) == (["a", "b"], ["c", "d"], 2.0)
    assert made.exit_code is ExitCode.TRANSIENT


def test_what_was_spent_counts_and_not_what_was_estimated() -> None:
    cheap = driven("abcd", budget=Budget(2.5, 0.0, lambda _: 0.5))
    assert cheap.left == []
    dear = driven("abcd", budget=Budget(2.5, 0.0, lambda _: 2.0))
    assert (list(dear.reports), dear.left) == (["a"], ["b", "c", "d"])


def test_what_was_spent_before_counts() -> None:
    assert driven("ab", budget=Budget(2.5, 2.0, lambda _: 1.0)).left == ["a", "b"]


def test_runs_under_way_count_with_their_estimates() -> None:
    most, active, lock = 0, 0, threading.Lock()

    def work(scope: str) -> list[Report]:
        nonlocal most, active
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.02)
        with lock:
            active -= 1
        return [report(scope)]

    driven("abcdef", work, at_once=4, budget=Budget(2.5, 0.0, lambda _: 0.0))
    assert most == 2


def test_a_run_that_fails_leaves_the_others_alone() -> None:
    def work(scope: str) -> list[Report]:
        if scope == "b":
            raise CorruptInput("b is broken")
        if scope == "c":
            raise NotThereYet("c is late")
        return [report(scope)]

    made = driven("abcd", work)
    assert sorted(made.reports) == ["a", "d"]
    assert {s: str(e) for s, e in made.errors.items()} == {"b": "b is broken", "c": "c is late"}
    assert made.exit_code is ExitCode.FAILED


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((0, 0), 0), ((0, 3), 3), ((3, 4), 4), ((4, 1, 3), 1)],
)
def test_the_worst_exit_code_counts(codes: tuple[int, ...], worst: int) -> None:
    made = driven("abcd"[: len(codes)], lambda s: [report(s, ExitCode(codes["abcd".index(s)]))])
    assert made.exit_code == worst


# -- choosing ------------------------------------------------------------------------------------------


def run_of(**states: int) -> Run:
    found = {State(k): n for k, n in states.items()}
    return Run("2026-11-20T00", {"ingest": Cell("ingest", found)})


@pytest.mark.parametrize(
    ("states", "takers"),
    [
        ({"done": 3}, set()),
        ({"done": 2, "never": 1}, {"missing", "all"}),
        ({"done": 2, "failed": 1}, {"failed", "all"}),
        ({"done": 2, "retry": 1}, {"missing", "failed", "all"}),
        ({"done": 2, "stale": 1}, {"missing", "stale", "all"}),
        ({"done": 2, "lost": 1}, {"missing", "failed", "all"}),
        ({"rejected": 3}, set()),
    ],
)
def test_selections_take_runs_as_they_take_partitions(states: dict[str, int], takers: set[str]) -> None:
    assert {str(s) for s in Select if run_of(**states).chosen(s)} == takers


def test_a_later_phase_that_waits_is_missing_unless_the_run_is_held_or_failed() -> None:
    def run(first: Cell) -> Run:
        return Run("r", {"validate": first, "regrid": Cell("regrid", waits="validate is not done")})

    done = {State.DONE: 3}
    assert run(Cell("validate", done)).chosen(Select.MISSING)
    assert not run(Cell("validate", done, held="rejected")).chosen(Select.MISSING)
    assert not run(Cell("validate", done, held="rejected")).chosen(Select.ALL)
    assert not run(Cell("validate", {State.FAILED: 1})).chosen(Select.MISSING)
    assert run(Cell("validate", {State.FAILED: 1})).chosen(Select.FAILED)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell("x", {State.DONE: 3}), "done"),
        (Cell("x"), "nothing"),
        (Cell("x", {State.NEVER: 3}, todo=(None,)), "-"),  # type: ignore[arg-type]
        (Cell("x", {State.DONE: 1, State.NEVER: 2}, todo=(None,)), "1/3"),  # type: ignore[arg-type]
        (Cell("x", {State.DONE: 1, State.FAILED: 2}, todo=(None,)), "failed 2/3"),  # type: ignore[arg-type]
        (Cell("x", {State.DONE: 3}, settling=True), "unsettled"),
        (Cell("x", {State.DONE: 3}, held="rejected"), "held"),
        (Cell("x", waits="y is not done"), "waits"),
    ],
)
def test_a_cell_in_a_word(cell: Cell, text: str) -> None:
    assert str(cell) == text


# -- a range -------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The provider: three runs."""
    for number in range(3):
        small_archive.Run(RUN + number * timedelta(hours=12), seed=number).write(tmp_path / "archive", members=(0,))
    return tmp_path / "archive"


@pytest.fixture
def at(tmp_path: Path, archive: Path) -> Place:
    place = Place.of(tmp_path / "lake", archive, select=SELECT, checks={"climatology": 0})
    place.save(tmp_path / "small.yaml")
    return place


def command(at: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    recipe = Path(at.lake.objects.location.prefix).parent / "small.yaml"
    given = [str(recipe), "--lake", at.lake.url, "--no-prefect", "--cluster", "none", "--json", *arguments]
    if "--runs" not in arguments:
        given += ["--start", SCOPES[0], "--end", SCOPES[-1]]
    code = main(given)
    return code, orjson.loads(capsys.readouterr().out)


def attempts(at: Place) -> dict[tuple[str, str], tuple[int, Any]]:
    ledger = at.lake.ledger("small")
    return {(p, k): (r.attempt, r.finished) for p in PHASES for k, r in ledger.read_all(p).items()}


def test_a_range_is_done_once_and_nothing_of_it_twice(at: Place, capsys: pytest.CaptureFixture[str]) -> None:
    at("ingest", "refine")
    before = attempts(at)
    code, told = command(at, capsys, "--order", "oldest")
    assert code == 0
    assert told["order"] == list(SCOPES)
    assert [set(r["phases"].values()) for r in told["runs"]] == [{"done", "nothing"}] * 3
    assert {k: v for k, v in attempts(at).items() if k in before} == before
    assert told["spent_usd"] > 0
    after = attempts(at)
    code, again = command(at, capsys)
    assert (code, again["order"]) == (0, [])
    assert attempts(at) == after


def test_the_plan_changes_nothing_and_says_what_it_takes(at: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = command(at, capsys, "--plan")
    assert code == 0
    assert not Path(at.lake.objects.location.prefix).exists()
    assert told["order"] == sorted(SCOPES, reverse=True)
    each = told["runs"][0]["estimate"]
    # No run tells of anything: fields times the stated defaults.
    fields = len(STEPS)
    assert each["worker_hours"] == pytest.approx(fields * sum(DEFAULTS[p].seconds for p in PHASES) / 3600, abs=2e-6)
    assert each["usd"] > each["worker_hours"] * prices().fargate_hour(1, 4)
    assert told["estimate"]["usd"] == pytest.approx(3 * each["usd"], abs=2e-6)
    at("ingest", "refine", "validate", "regrid", "export")
    _, measured = command(at, capsys, "--plan")
    rows = {r["run"]: r for r in measured["runs"]}
    assert "estimate" not in rows[SCOPES[0]]
    assert "ingest by 6 done partitions" in measured["rates"][0]
    assert rows[SCOPES[1]]["estimate"]["worker_hours"] != each["worker_hours"]


def test_rates_are_those_of_the_ledger(at: Place) -> None:
    at("ingest")
    context: Context[Any] = Context(at.lake, at.recipe)
    found = rates(context, ("ingest", "refine"), SCOPES)
    assert found.measured == {"ingest": 6, "refine": 0}
    records = [r for k, r in at.lake.ledger("small").read_all("ingest").items() if "step" in k]
    seconds = sum((r.finished - r.started).total_seconds() for r in records if r.finished) / 6 / 4
    assert found.partition["ingest"].seconds == pytest.approx(seconds)
    assert found.partition["ingest"].kept == pytest.approx(sum(o.bytes for r in records for o in r.outputs) / 6)
    assert found.count["refine"] == 1
    run = look(context, SCOPES[1], ("ingest", "refine"))
    assert found.of_run(run).seconds == pytest.approx(6 * seconds + 6 * DEFAULTS["refine"].seconds)
    cost = spent(context, ("ingest",), [SCOPES[0]], RUN)
    assert cost[SCOPES[0]] > 6 * 4 * seconds / 3600 / 4 * prices().fargate_hour(1, 4)


def test_a_budget_stops_and_a_larger_one_goes_on(at: Place, capsys: pytest.CaptureFixture[str]) -> None:
    _, plan = command(at, capsys, "--plan")
    one = plan["runs"][0]["estimate"]["usd"]
    code, told = command(at, capsys, "--budget", str(1.5 * one), "--max-active", "1")
    assert code == 4
    assert 1 <= len(told["left"]) <= 2, "the newest is done, and what it took decides on the next"
    assert set(told["runs"][2]["phases"].values()) == {"done", "nothing"}
    assert command(at, capsys, "--budget", "0")[0] == 4
    code, told = command(at, capsys, "--budget", "100")
    assert (code, told["left"]) == (0, [])
    assert told["spent_usd"] >= 0


def test_runs_that_fail_are_named_and_taken_again(at: Place, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = next(archive.glob("2026112012*-9h-*.grib2"))
    content = late.read_bytes()
    late.unlink()
    code, told = command(at, capsys)
    assert code == 4
    rows = {r["run"]: r for r in told["runs"]}
    assert "is not complete (yet)" in rows[SCOPES[1]]["error"]
    assert [set(rows[s]["phases"].values()) for s in (SCOPES[0], SCOPES[2])] == [{"done", "nothing"}] * 2
    before = attempts(at)
    late.write_bytes(content)
    code, told = command(at, capsys)
    assert (code, told["order"]) == (0, [SCOPES[1]])
    assert {k: v for k, v in attempts(at).items() if k in before} == before


def test_a_list_of_runs_and_partitions(at: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = command(at, capsys, "--phase", "ingest", "--runs", SCOPES[2], f"{SCOPES[0]}/step-006")
    assert code == 0
    assert [(r["run"], r["phases"]) for r in told["runs"]] == [(s, {"ingest": "done"}) for s in (SCOPES[0], SCOPES[2])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo"], "needs a first run"),
        (["demo", "--start", "2026-11-21", "--end", "2026-11-20"], "ends before it starts"),
        (["demo", "--runs", "2026-11-20T03"], "is no run of demo"),
        (["knmi-hourly", "--start", "2026-11-20"], "a backfill is for runs of a forecast"),
        (["demo", "--start", "2026-11-20", "--max-active", "0"], "1 or more"),
        (["demo", "--start", "2026-11-20", "--budget", "-1"], "0 or more"),
        (["demo", "--start", "2026-11-20", "--runs", "2026-11-20T00"], "not of both"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--plan", "--lake", str(tmp_path / "lake")]) == 2
    assert said in capsys.readouterr().err


def test_the_survey_keeps_the_order(at: Place) -> None:
    context: Context[Any] = Context(at.lake, at.recipe)
    assert [r.scope for r in survey(context, SCOPES[::-1], ("ingest",))] == list(SCOPES[::-1])
