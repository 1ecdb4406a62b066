"""Accumulations taken apart: every kind of window gives the same gains, and none is bridged over what is missing."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.forecasts.deaccumulate import gains, take_apart
from tasks.lake.errors import UsageError

from .cdo import cdo, golden, needs_cdo, write

LEADS = (0, 3, 6, 9, 12, 15, 18)
RUN_TOTALS = tuple((0, h) for h in LEADS)
RESET_EVERY_6 = tuple((max(0, (h - 1) // 6 * 6), h) for h in LEADS)
BUCKETS = tuple((max(0, h - 3), h) for h in LEADS)
KINDS = {"run totals": RUN_TOTALS, "reset every 6 h": RESET_EVERY_6, "buckets": BUCKETS}


def accumulated(gain: np.ndarray, windows: tuple[tuple[int, int] | None, ...]) -> np.ndarray:
    """Fields over these windows from the gain of each hour, (hours, ...)."""
    total = np.concatenate([np.zeros((1, *gain.shape[1:])), np.cumsum(gain, axis=0)])
    fields = [np.full(gain.shape[1:], np.nan) if w is None else total[w[1]] - total[w[0]] for w in windows]
    return np.stack(fields).astype("float32")


@pytest.fixture
def hourly() -> np.ndarray:
    # Eighths, so that sums and differences are exact in float32.
    return np.random.default_rng(3).integers(0, 80, (18, 4, 5)) / 8


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_windows_give_the_gain_since_the_step_before(kind: str, hourly: np.ndarray):
    windows = KINDS[kind]
    found, fallen = take_apart(accumulated(hourly, windows), LEADS, windows)
    assert np.isnan(found[0]).all()
    for place, (start, end) in enumerate(pairwise(LEADS), 1):
        np.testing.assert_array_equal(found[place], hourly[start:end].sum(axis=0))
    assert not fallen.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hours", [3, 6, 12])
def test_all_kinds_of_windows_give_the_gain_over_the_last_hours(kind: str, hours: int, hourly: np.ndarray):
    windows = KINDS[kind]
    found, _ = take_apart(accumulated(hourly, windows), LEADS, windows, hours=hours)
    for place, end in enumerate(LEADS):
        if end < hours:
            assert np.isnan(found[place]).all()
        else:
            np.testing.assert_array_equal(found[place], hourly[end - hours : end].sum(axis=0))


def test_a_rate_is_the_gain_by_its_seconds(hourly: np.ndarray):
    fields = accumulated(hourly, RUN_TOTALS)
    amount, _ = take_apart(fields, LEADS, RUN_TOTALS)
    rate, _ = take_apart(fields, LEADS, RUN_TOTALS, per_second=True)
    np.testing.assert_allclose(rate[1:], amount[1:] / 10800, rtol=1e-6)


def test_means_count_with_the_length_of_their_windows(hourly: np.ndarray):
    """A 6-hour mean and the 3-hour mean of its first half give that of the second half."""
    length = np.array([max(1, e - s) for s, e in RESET_EVERY_6]).reshape(-1, 1, 1)
    means = accumulated(hourly, RESET_EVERY_6) / length
    rate, _ = take_apart(means.astype("float32"), LEADS, RESET_EVERY_6, mean=True, per_second=True)
    np.testing.assert_allclose(rate[2], hourly[3:6].mean(axis=0), rtol=1e-5)
    amount, _ = take_apart(means.astype("float32"), LEADS, RESET_EVERY_6, mean=True)
    np.testing.assert_allclose(amount[2], hourly[3:6].mean(axis=0) * 10800, rtol=1e-5)


def missing(windows: tuple[tuple[int, int], ...], *places: int) -> tuple[tuple[int, int] | None, ...]:
    return tuple(None if i in places else w for i, w in enumerate(windows))


def known(windows: tuple[tuple[int, int] | None, ...], hours: int | None = None) -> list[int]:
    return [g.span[1] for g in gains(LEADS, windows, hours) if g is not None and g.terms is not None]


@pytest.mark.parametrize(
    ("kind", "hours", "there"),
    [
        ("run totals", None, [3, 6, 15, 18]),
        ("reset every 6 h", None, [3, 6, 15, 18]),
        ("buckets", None, [3, 6, 12, 15, 18]),
        ("run totals", 6, [6, 12, 18]),
        ("reset every 6 h", 6, [6, 12, 18]),
        ("buckets", 6, [6, 15, 18]),
    ],
)
def test_no_window_is_bridged_over_a_missing_field(kind: str, hours: int | None, there: list[int], hourly: np.ndarray):
    """The field at 9 h is missing: run totals know neither 6-9 nor 9-12, but they do know 6-12."""
    windows = missing(KINDS[kind], 3)
    assert known(windows, hours) == there
    found, _ = take_apart(accumulated(hourly, windows), LEADS, windows, hours=hours)
    assert [h for h, f in zip(LEADS, found, strict=True) if not np.isnan(f).any()] == there


def test_a_cell_without_a_value_stays_alone(hourly: np.ndarray):
    fields = accumulated(hourly, RUN_TOTALS)
    fields[3, 1, 1] = np.nan
    found, _ = take_apart(fields, LEADS, RUN_TOTALS)
    assert np.argwhere(np.isnan(found[1:])).tolist() == [[2, 1, 1], [3, 1, 1]]


def test_the_first_step_counts_from_the_start_of_its_own_window():
    found, _ = take_apart(np.full((2, 1), 6, "float32"), (6, 12), ((0, 6), (6, 12)))
    np.testing.assert_array_equal(found, [[6], [6]])
    found, _ = take_apart(np.full((2, 1), 6, "float32"), (6, 12), ((3, 6), (6, 12)), hours=6)
    assert np.isnan(found[0]).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    starts=st.tuples(*(st.one_of(st.none(), st.integers(0, h)) for h in LEADS)),
    hours=st.one_of(st.none(), st.integers(1, 18)),
)
def test_whatever_windows_there_are_what_is_known_is_right(
    seed: int, starts: tuple[int | None, ...], hours: int | None
):
    hourly = np.random.default_rng(seed).integers(0, 50, (18, 1))
    windows = tuple(None if s is None else (s, h) for s, h in zip(starts, LEADS, strict=True))
    found, _ = take_apart(accumulated(hourly, windows), LEADS, windows, hours=hours)
    for gain, values in zip(gains(LEADS, windows, hours), found, strict=True):
        if gain is None or gain.terms is None:
            assert np.isnan(values).all()
        else:
            np.testing.assert_allclose(values, hourly[gain.span[0] : gain.span[1]].sum(axis=0))


def test_small_falls_are_rounding_and_large_ones_are_named():
    """1 in 1000 down is packing; a field that loses half of its value is wrong, and no rate is made of it."""
    fields = np.array([[0, 0], [100, 100], [99.9, 50], [110, 110]], "float32")
    found, fallen = take_apart(fields, (0, 3, 6, 9), RUN_TOTALS[:4], rising=True)
    np.testing.assert_array_equal(found[2], [0, np.nan])
    assert fallen.tolist() == [0, 0, 1, 0]
    either, none = take_apart(fields, (0, 3, 6, 9), RUN_TOTALS[:4])
    np.testing.assert_allclose(either[2], [-0.1, -50], atol=1e-4)
    assert not none.any()


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        (((0, 0), (0, 5)), "does not end at its lead time"),
        (((0, 0), (4, 3)), "does not end at its lead time"),
        (((0, 0),), "a window per lead time"),
    ],
)
def test_windows_that_cannot_be_are_refused(windows: tuple[tuple[int, int], ...], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        gains((0, 3), windows)


def test_gains_of_run_totals_as_cdo_had_them():
    kept = golden("deaccumulated")
    found, _ = take_apart(kept["tp"], LEADS, RUN_TOTALS)
    np.testing.assert_allclose(found[1:], kept["deltat"], rtol=1e-6)


@needs_cdo
def test_gains_of_run_totals_as_cdo_has_them(hourly: np.ndarray, tmp_path: Path):
    """``cdo deltat``: the difference from the time before."""
    fields = accumulated(hourly, RUN_TOTALS)
    file = write(tmp_path / "in.nc", {"tp": fields}, np.arange(4.0), np.arange(5.0))
    expected = cdo(["deltat"], [file], tmp_path / "out.nc")["tp"]
    found, _ = take_apart(fields, LEADS, RUN_TOTALS)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-6)
