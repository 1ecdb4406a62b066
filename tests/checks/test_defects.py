"""Each check catches what it is for, names it, and says nothing of clean data."""

import numpy as np
import pytest

from tasks.checks.acceptance import CheckConfig
from tasks.checks.accumulation import Accumulation
from tasks.checks.check import Cell, Finding, Subject
from tasks.checks.coordinates import Coordinates
from tasks.checks.duplicate import Duplicate
from tasks.checks.flat import Flat
from tasks.checks.frozen import Frozen
from tasks.checks.jump import Jump
from tasks.checks.missing import Missing
from tasks.checks.present import Present
from tasks.checks.range import Range
from tasks.checks.spike import Spike
from tasks.checks.verdict import judge, suite

from .synthetic import NAMES, defect, subject

LEVELS = (1000.0, 500.0)


def findings(thing: Subject) -> list[Finding]:
    return [check.run(thing) for check in suite(CheckConfig())]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(12))
def test_clean_data_raise_no_alarm(name: str, seed: int) -> None:
    # 108 cases over nine parameters, alternating between deterministic runs, ensembles and several sizes.
    shape = ((24, 48), (9, 16), (40, 30))[seed % 3]
    thing = subject(name, seed=seed, members=None if seed % 3 == 0 else 3, shape=shape)
    found = findings(thing)
    assert [f.sentence for f in found if f.score != 1.0 or f.fatal or f.cells] == []
    assert judge(found, CheckConfig()).state == "accepted"


@pytest.mark.parametrize("seed", range(4))
def test_clean_levels_raise_no_alarm(seed: int) -> None:
    assert [f.sentence for f in findings(subject("t", seed=seed, levels=LEVELS)) if f.score != 1.0] == []


def test_uneven_steps_raise_no_alarm() -> None:
    fine, coarse = subject("2t", every=3, steps=8), subject("2t", every=6, steps=12)
    values = np.concatenate([fine.values, coarse.values[4:]])
    lead_time = np.concatenate([fine.lead_time, coarse.lead_time[4:]])
    thing = defect(fine, values=values, lead_time=lead_time, present=np.ones(values.shape[:3], bool))
    assert [f.sentence for f in findings(thing) if f.score != 1.0] == []


def test_present_names_the_absent_field_and_counts_the_others() -> None:
    thing = defect(subject())
    thing.present[1, 2] = thing.present[4, 0] = False
    found = Present(type="present").run(thing)
    assert found.sentence == "2t at +6 h, member 2: the field is absent; 1 other field likewise, of 27 expected."
    assert found.cells == (Cell(6, 2), Cell(24, 0))
    assert found.score == pytest.approx(0.9 * 25 / 27)
    assert not found.fatal


def test_present_lacks_the_control_member() -> None:
    thing = defect(subject())
    thing.present[:, 0] = False
    found = Present(type="present").run(thing)
    assert {c.member for c in found.cells} == {0}
    assert Present(type="present", unusable_share=0.3).run(thing).fatal


def test_present_is_fatal_when_nothing_is_there() -> None:
    found = Present(type="present").run(defect(subject(), present=np.zeros((9, 3, 1), bool)))
    assert found.fatal
    assert found.sentence == "2t: none of 27 expected fields is there."
    assert found.score == 0


def test_missing_points_are_counted() -> None:
    thing = defect(subject())
    thing.values[2, 1, 0, :3, :4] = np.nan
    found = Missing(type="missing").run(thing)
    assert found.sentence == "2t at +12 h, member 1: 12 of 1152 values are missing (1.04 %, allowed 0 %)."
    assert not found.fatal
    assert Missing(type="missing", allowed=0.02).run(thing).score == 1


def test_a_field_of_nan_that_should_be_there_is_fatal() -> None:
    thing = defect(subject("swh"))
    thing.values[3, 0] = np.nan
    found = Missing(type="missing").run(thing)
    assert found.fatal
    assert found.cells == (Cell(18, 0),)


def test_a_mask_that_grows_is_noticed() -> None:
    thing = defect(subject("sst"))
    thing.values[3, 0, 0, :8] = np.nan
    assert Missing(type="missing").run(thing).cells == (Cell(18, 0),)


def test_nan_where_nothing_was_sent_is_not_missing() -> None:
    thing = defect(subject())
    thing.values[3, 0] = np.nan
    thing.present[3, 0] = False
    assert Missing(type="missing").run(thing).score == 1


def test_range_says_how_many_values_are_outside_and_the_largest() -> None:
    thing = defect(subject("10u"))
    thing.values[1, 2, 0, 0, :14] = 300.0
    thing.values[1, 2, 0, 0, 3] = 400.0
    found = Range(type="range").run(thing)
    assert found.sentence == "10u at +6 h, member 2: 14 values outside -120..120 m s-1, largest 400."
    assert found.cells == (Cell(6, 2),)
    assert not found.fatal


def test_celsius_under_the_name_of_kelvin_is_fatal() -> None:
    thing = defect(subject())
    thing.values[5] -= 273.15
    found = Range(type="range").run(thing)
    assert found.fatal
    assert {c.lead_time for c in found.cells} == {30}


@pytest.mark.parametrize("value", [np.inf, -np.inf, 9.999e20, 9.96921e36])
def test_fill_values_are_outside_whatever_the_parameter(value: float) -> None:
    thing = defect(subject("unheard_of"))
    thing.values[0, 0, 0, 0, 0] = value
    assert Range(type="range").run(thing).cells == (Cell(0, 0),)


def test_range_of_a_level_is_narrower_than_of_the_atmosphere() -> None:
    thing = defect(subject("t", levels=LEVELS), name="gh", units="gpm")
    thing.values[:, :, 0] = 100.0
    thing.values[:, :, 1] = 5500.0
    assert Range(type="range").run(thing).score == 1
    thing.values[4, 1, 1] = 100.0
    found = Range(type="range").run(thing)
    assert found.cells == (Cell(24, 1, 500.0),)
    assert "smallest 100" in found.sentence


def test_the_recipe_overrides_the_range() -> None:
    thing = subject("unheard_of")
    narrow = Range.model_validate({"type": "range", "limits": {"unheard_of": [0, 1]}}).run(thing)
    assert narrow.fatal
    assert "outside 0..1 furlong" in narrow.sentence
    with pytest.raises(ValueError, match="minimum above the maximum"):
        Range(type="range", limits={"2t": (3.0, 1.0)})


def test_frozen_names_the_step_that_stands_still() -> None:
    thing = defect(subject())
    thing.values[4, 1] = thing.values[3, 1]
    found = Frozen(type="frozen").run(thing)
    assert found.sentence == "2t at +24 h, member 1: identical to +18 h in every bit."
    assert found.cells == (Cell(24, 1),)


def test_frozen_looks_across_an_absent_step() -> None:
    thing = defect(subject(members=None))
    thing.present[4] = False
    thing.values[5] = thing.values[3]
    assert Frozen(type="frozen").run(thing).sentence == "2t at +30 h: identical to +18 h in every bit."


def test_a_dry_day_is_not_frozen_but_a_global_accumulation_that_stops_is() -> None:
    dry = defect(subject("tp"))
    dry.values[:] = 0.0
    assert Frozen(type="frozen").run(dry).score == 1
    stuck = defect(subject("tp"))
    stuck.values[5] = stuck.values[4]
    assert len(Frozen(type="frozen").run(stuck).cells) == 3
    region = defect(stuck, latitude=np.linspace(55, 45, 24), longitude=np.linspace(0, 20, 48), values=stuck.values)
    assert Frozen(type="frozen").run(region).score == 1


def test_flat_wind_is_wrong_and_flat_rain_is_not() -> None:
    calm = defect(subject("10u"))
    calm.values[3, 2] = 0.0
    found = Flat(type="flat").run(calm)
    assert found.sentence == "10u at +18 h, member 2: every point holds 0 m s-1."
    assert Flat(type="flat").run(defect(subject("tp"))).score == 1


def test_flat_keeps_quiet_about_a_field_of_nan() -> None:
    thing = defect(subject("10u"))
    thing.values[3, 2] = np.nan
    assert Flat(type="flat").run(thing).score == 1


def test_duplicate_names_both_members() -> None:
    thing = defect(subject())
    thing.values[2, 2] = thing.values[2, 0]
    found = Duplicate(type="duplicate").run(thing)
    assert found.sentence == "2t at +12 h, member 2: identical to member 0 in every bit."
    assert found.cells == (Cell(12, 2),)


def test_duplicate_finds_levels_folded_into_one() -> None:
    thing = defect(subject("t", levels=LEVELS))
    thing.values[:, :, 0] = thing.values[:, :, 1]
    found = Duplicate(type="duplicate").run(thing)
    assert len(found.cells) == 27
    assert "level 500: identical to level 1000 in every bit" in found.sentence


def test_members_without_rain_are_no_duplicates() -> None:
    assert Duplicate(type="duplicate").run(defect(subject("tp"))).score == 1


@pytest.mark.parametrize(("at", "factor"), [(4, 0.2), (4, 3.0), (8, 0.2), (7, 30.0), (1, 40.0)])
def test_accumulation_names_the_wrong_source_field(at: int, factor: float) -> None:
    thing = defect(subject("tp", seed=3))
    thing.values[at, 1] *= factor
    found = Accumulation(type="accumulation").run(thing)
    assert [(c.lead_time, c.member) for c in found.cells] == [(6 * at, 1)]
    assert f"tp at +{6 * at} h, member 1: the accumulated field is wrong" in found.sentence


def test_accumulation_finds_a_single_point_that_falls() -> None:
    thing = defect(subject("tp", seed=3))
    thing.values[4, 0, 0, 7, 9] = 0.5
    found = Accumulation(type="accumulation").run(thing)
    assert found.cells == (Cell(24, 0),)
    assert "1 point falls by up to" in found.sentence


def test_windows_that_begin_anew_do_not_fall() -> None:
    clean = subject("tp", steps=9)
    values = clean.values.copy()
    values[5:] -= values[4]
    bucket = defect(clean, values=values, window_start=np.array([0, 0, 0, 0, 0, 24, 24, 24, 24]))
    assert Accumulation(type="accumulation").run(bucket).score == 1
    assert Accumulation(type="accumulation").run(defect(bucket, window_start=None, values=values)).score < 1
    values[7] *= 0.1
    assert [c.lead_time for c in Accumulation(type="accumulation").run(bucket).cells] == [42, 42, 42]


def test_rounding_to_seven_bits_is_not_a_fall() -> None:
    thing = defect(subject("tp"))
    bits = thing.values.view(np.uint32)
    bits += 1 << 15
    bits &= np.uint32(0xFFFF0000)
    assert Accumulation(type="accumulation").run(thing).score == 1


def test_fluxes_with_a_sign_may_fall() -> None:
    thing = defect(subject("tp"), name="slhf", units="J m-2")
    thing.values[:] *= -1
    assert Accumulation(type="accumulation").run(thing).score == 1
    assert Accumulation(type="accumulation", variables=("slhf",)).run(thing).score < 1


def test_jump_blames_the_field_that_stands_on_its_head() -> None:
    thing = defect(subject("2t", steps=12))
    thing.values[5, 1, 0, :12] -= 40.0
    found = Jump(type="jump").run(thing)
    assert found.cells == (Cell(30, 1),)
    assert found.sentence.startswith("2t at +30 h, member 1: the mean change since the previous step is")


def test_jump_blames_the_step_where_another_run_begins() -> None:
    thing = defect(subject("msl", steps=12))
    thing.values[7:, 2] = thing.values[7:, 2, :, ::-1] * 0.98
    assert Jump(type="jump").run(thing).cells == (Cell(42, 2),)


def test_jump_needs_enough_steps() -> None:
    thing = defect(subject("2t", steps=4))
    thing.values[2] -= 40
    assert Jump(type="jump").run(thing).score == 1


def test_spike_says_where() -> None:
    thing = defect(subject())
    thing.values[3, 0, 0, 7, 9] = 200.0
    found = Spike(type="spike").run(thing)
    assert found.cells == (Cell(18, 0),)
    assert "a point sticks out of the neighbours" in found.sentence
    assert "200 K at row 7, column 9" in found.sentence


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 47), (23, 0), (23, 20)])
def test_spike_is_found_at_the_edge(y: int, x: int) -> None:
    thing = defect(subject("unheard_of"))
    thing.values[0, 0, 0, y, x] = -300.0
    found = Spike(type="spike").run(thing)
    assert found.cells == (Cell(0, 0),)
    assert f"row {y}, column {x}" in found.sentence


def test_a_front_is_no_spike() -> None:
    thing = defect(subject())
    thing.values[..., 20:] -= 60.0
    assert Spike(type="spike").run(thing).score == 1


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("lead_time", np.array([0, 6, 12, 12, 24, 30, 36, 42, 48]), "lead_time does not rise from 12 to 12 h"),
        ("lead_time", np.arange(8) * 6, "lead_time has shape (8,) for 9 steps"),
        ("member", np.array([0, 1, 1]), "member 1 is there 2 times"),
        ("member", None, "there are 3 members without a coordinate"),
        ("latitude", np.linspace(100, -80, 24), "latitude runs from -80 to 100 degrees, outside -90..90"),
        ("longitude", np.concatenate([np.arange(24) * 7.5 + 180, np.arange(24) * 7.5]), "longitude is not monotone"),
        ("longitude", np.arange(48) * 10.0 - 120, "longitude runs from -120 to 350 degrees, more than a full circle"),
        ("latitude", np.full(24, np.nan), "latitude has 24 values that are no numbers"),
        ("latitude", np.zeros((24, 47)), "latitude has shape (24, 47), the grid (24, 48)"),
        ("present", np.ones((8, 3, 1), bool), "present has shape (8, 3, 1)"),
    ],
)
def test_coordinates_that_lie_are_fatal(part: str, value: np.ndarray | None, words: str) -> None:
    found = Coordinates(type="coordinates").run(defect(subject(), **{part: value}))
    assert words in found.sentence
    assert found.fatal
    assert found.score == 0


def test_a_projected_grid_has_two_dimensional_coordinates() -> None:
    clean = subject()
    longitude, latitude = np.meshgrid(clean.longitude, clean.latitude)
    assert Coordinates(type="coordinates").run(defect(clean, latitude=latitude, longitude=longitude)).score == 1


def test_a_lone_peak_is_a_spike_as_much_as_a_pit() -> None:
    thing = defect(subject("msl"))
    thing.values[3, 0, 0, 7, 9] = 109900.0
    found = Spike(type="spike").run(thing)
    assert found.cells == (Cell(18, 0),)
    assert "row 7, column 9" in found.sentence


def test_each_tolerance_of_jump_holds_by_itself() -> None:
    loose = {"type": "jump", "spread_share": 1e-6, "deviations": 1e-6}
    clean = subject("msl", steps=12)
    assert Jump.model_validate(loose | {"factor": 3.0}).run(clean).score == 1
    assert Jump.model_validate(loose | {"factor": 1.001}).run(clean).score < 1
