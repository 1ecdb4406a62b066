"""From findings to a verdict."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.checks.acceptance import CheckConfig
from tasks.checks.check import Cell, Finding, checks
from tasks.checks.range import Range
from tasks.checks.verdict import KEPT_CELLS, State, Verdict, Waiver, judge, suite
from tasks.lake.errors import CorruptInput

from .synthetic import defect, subject

CONFIG = CheckConfig()
FINE = Finding("range", "2t", 1.0, "2t: 9 fields lie within 175..335 K.")

cell = st.builds(Cell, st.integers(0, 360), st.none() | st.integers(0, 50), st.none() | st.floats(1, 1000))
finding = st.builds(
    Finding,
    check=st.sampled_from(["range", "missing", "spike"]),
    variable=st.sampled_from(["2t", "10u", "tp"]),
    score=st.floats(0, 1),
    sentence=st.text(min_size=1, max_size=30),
    cells=st.lists(cell, max_size=3),
    fatal=st.booleans(),
    weight=st.floats(0.1, 4),
)


@pytest.mark.parametrize(
    ("score", "state"),
    [
        (1, "accepted"),
        (0.95, "accepted"),
        (0.9499, "flagged"),
        (0.8, "flagged"),
        (0.7999, "quarantined"),
        (0, "quarantined"),
    ],
)
def test_the_score_decides(score: float, state: str) -> None:
    verdict = judge([FINE, Finding("climate", "10u", score, "10u: is bad.", (Cell(6),))], CONFIG)
    assert verdict.state == state
    assert verdict.score == score
    assert [s.key for s in verdict.quarantined] == (["10u/006"] if state == "quarantined" else [])
    assert [s.key for s in verdict.flagged] == (["10u/006"] if state == "flagged" else [])


def test_below_flag_above_without_cells_the_run_is_rejected() -> None:
    assert judge([FINE, Finding("jump", "10u", 0.2, "10u: all of it is bad.")], CONFIG).state == "rejected"


@pytest.mark.parametrize(
    ("action", "score", "state"),
    [
        ("accept", 0.0, "accepted"), ("accept", 0.9, "accepted"), ("flag", 0.0, "flagged"),
        ("quarantine", 0.0, "quarantined"), ("reject", 0.0, "rejected"), ("reject", 0.9, "flagged"),
    ],
)  # fmt: skip
def test_the_action_of_the_check_decides_below_flag_above(action: str, score: float, state: str) -> None:
    config = CheckConfig.model_validate({"run": [{"type": "jump", "action": action}]})
    assert judge([FINE, Finding("jump", "10u", score, "10u: is bad.", (Cell(6),))], config).state == state


def test_thresholds_of_a_check_stand_before_those_of_the_scale() -> None:
    strict = CheckConfig.model_validate({"run": [{"type": "jump", "accept_above": 1, "flag_above": 0.99}]})
    found = [Finding("jump", "10u", 0.98, "10u: is bad.", (Cell(6),))]
    assert judge(found, CONFIG).state == "accepted"
    assert judge(found, strict).state == "quarantined"


def test_too_many_bad_cells_reject_the_run() -> None:
    found = [Finding("jump", "10u", 0.0, "10u: is bad.", tuple(Cell(3 * i) for i in range(11)))]
    assert judge(found, CONFIG, sizes={"10u": 110}).state == "quarantined"
    assert judge(found, CONFIG, sizes={"10u": 109}).state == "rejected"


@pytest.mark.parametrize(
    ("state", "policy", "outcome"),
    [
        ("flagged", {}, "publish"), ("flagged", {"flagged": "hold"}, "hold"),
        ("quarantined", {}, "publish"), ("quarantined", {"quarantined": "hold"}, "hold"),
        ("rejected", {}, "hold"), ("rejected", {"rejected": "roll_back"}, "roll_back"),
    ],
)  # fmt: skip
def test_the_policy_says_what_is_done(state: str, policy: dict[str, str], outcome: str) -> None:
    score = {"flagged": 0.9, "quarantined": 0.1, "rejected": 0.1}[state]
    cells = () if state == "rejected" else (Cell(6),)
    verdict = judge(
        [Finding("jump", "10u", score, "10u: is bad.", cells)], CheckConfig.model_validate({"policy": policy})
    )
    assert (verdict.state, verdict.outcome) == (state, outcome)


@pytest.mark.parametrize("cell", ["10u/006", "10u", "all"])
def test_what_a_person_releases_is_flagged(cell: str) -> None:
    found = [Finding("jump", "10u", 0.1, "10u: is bad.", (Cell(6),))]
    waiver = Waiver(cell=cell, by="Ada", why="a real front", at=datetime(2026, 11, 20, tzinfo=UTC))
    verdict = judge(found, CONFIG, waivers=[waiver])
    assert (verdict.state, verdict.quarantined, verdict.released) == ("flagged", (), (waiver,))
    assert [s.key for s in verdict.flagged] == ["10u/006"]
    other = waiver.model_copy(update={"cell": "10u/009"})
    assert judge(found, CONFIG, waivers=[other]).state == "quarantined"


def test_a_rejected_run_is_released_as_a_whole_or_by_its_variable() -> None:
    found = [Finding("coordinates", "10u", 0.0, "10u: lies.", fatal=True)]
    for cell, state in (("all", "flagged"), ("10u", "flagged"), ("2t", "rejected")):
        waiver = Waiver(cell=cell, by="Ada", why="known", at=datetime(2026, 11, 20, tzinfo=UTC))
        assert judge(found, CONFIG, waivers=[waiver]).state == state


def test_anything_fatal_rejects_whatever_the_score() -> None:
    verdict = judge([FINE, Finding("missing", "10u", 0.99, "10u: a field is empty.", fatal=True)], CONFIG)
    assert verdict.state == State.REJECTED
    assert verdict.reasons == ("missing: 10u: a field is empty.",)


def test_nothing_checked_is_not_accepted() -> None:
    verdict = judge([], CONFIG)
    assert (verdict.state, verdict.score, verdict.reasons) == ("rejected", 0.0, ("Nothing was checked.",))


def test_one_ruined_variable_in_twenty_is_not_averaged_away() -> None:
    fine = [Finding(check, f"v{i}", 1.0, "v: fine.") for i in range(20) for check in ("range", "missing", "frozen")]
    assert judge([*fine, Finding("frozen", "v3", 0.0, "v3: stands still.")], CONFIG).state == "rejected"


def test_weight_softens_or_sharpens() -> None:
    found = Finding("jump", "2t", 0.81, "2t: jumps.", weight=0.5)
    assert judge([found], CONFIG).score == pytest.approx(0.9)
    assert judge([found], CONFIG).variables == {"2t": pytest.approx(0.9)}


def test_one_bad_field_of_many_is_taken_out() -> None:
    thing = defect(subject("2t", members=20))
    thing.values[3, 4, 0, 5, 5] = 1000.0
    verdict = judge([check.run(thing) for check in suite(CONFIG)], CONFIG)
    assert verdict.state == "quarantined"
    assert [s.key for s in verdict.quarantined] == ["2t/018-m04"]
    assert verdict.reasons[0].startswith("range: 2t at +18 h, member 4: 1 value outside 175..335 K, largest 1000.")


def test_reasons_are_worst_first() -> None:
    verdict = judge([Finding("a", "x", 0.9, "x: so so."), Finding("b", "y", 0.1, "y: bad."), FINE], CONFIG)
    assert verdict.reasons == ("b: y: bad.", "a: x: so so.")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(finding, max_size=8))
def test_json_round_trip(found: list[Finding]) -> None:
    verdict = judge(found, CONFIG)
    assert Verdict.from_json(verdict.to_json()) == verdict


@given(st.lists(finding, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_findings_does_not_decide(found: list[Finding], random) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = judge(found, CONFIG), judge(shuffled, CONFIG)
    assert (one.state, one.score, set(one.reasons)) == (other.state, other.score, set(other.reasons))


@given(st.lists(finding, min_size=1, max_size=6), finding)
def test_one_more_finding_never_improves_a_run(found: list[Finding], more: Finding) -> None:
    order = list(State)
    one, other = judge(found, CONFIG), judge([*found, more], CONFIG)
    assert other.score <= one.score
    assert order.index(other.state) >= order.index(one.state)


def test_a_broken_document_is_refused() -> None:
    with pytest.raises(CorruptInput, match=r"verdict: .*state"):
        Verdict.from_json(b'{"score": 1, "reasons": [], "table": [], "state": "fine"}')


def test_cells_are_counted_beyond_what_is_kept() -> None:
    cells = tuple(Cell(i, 0) for i in range(500))
    row = judge([Finding("range", "2t", 0.2, "2t: bad.", cells)], CONFIG).table[0]
    assert (row.faults, len(row.cells)) == (500, KEPT_CELLS)


def test_the_default_suite_is_every_standard_check() -> None:
    assert [check.type for check in suite(CONFIG)] == [name for name in checks if checks[name].standard]


def test_run_replaces_a_check_of_the_suite_or_stands_alone() -> None:
    mine = {"type": "range", "limits": {"2t": [250, 300]}}
    with_suite = suite(CheckConfig.model_validate({"run": [mine]}))
    assert len(with_suite) == len(suite(CONFIG))
    assert next(c for c in with_suite if isinstance(c, Range)).limits == {"2t": (250.0, 300.0)}
    assert [c.type for c in suite(CheckConfig.model_validate({"defaults": False, "run": [mine]}))] == ["range"]


def test_a_config_without_any_check_or_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match="switches every check off"):
        CheckConfig(defaults=False)
    with pytest.raises(ValueError, match="higher than accept_above"):
        CheckConfig(accept_above=0.5, flag_above=0.8)
