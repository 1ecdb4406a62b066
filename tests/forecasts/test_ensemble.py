"""Statistics over the members, against CDO and numpy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.forecasts.ensemble import statistics
from tasks.forecasts.products import Statistic, Statistics

from .cdo import cdo, golden, needs_cdo, write

ROWS = Statistics(
    of=("t2m",), mean=True, standard_deviation=True, quantiles=(0.5, 0.1, 0.9), above=(273.15,), below=(-5,)
)


def members(gaps: bool) -> np.ndarray:
    values = np.random.default_rng(5).normal(273, 8, (3, 7, 6, 8)).astype("float32")
    if gaps:
        values[1, 2:5, 1, :4] = np.nan
        values[2, :, 3, 3] = np.nan
    return values


def test_names_say_what_they_are():
    assert [s.suffix for s in ROWS.wanted] == ["mean", "std", "q10", "q50", "q90", "above_273p15", "below_m5"]


def test_mean_deviation_and_probability_as_cdo_had_them():
    kept = golden("ensemble")
    values = np.moveaxis(kept["t"], 0, 1)
    mean, std, above = statistics(values, [s for s in ROWS.wanted if s.kind in ("mean", "std", "above")])
    np.testing.assert_allclose(mean, kept["ensmean"], rtol=1e-6)
    np.testing.assert_allclose(std, kept["ensstd"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(above, kept["share"], rtol=1e-6)


@needs_cdo
@pytest.mark.parametrize("gaps", [False, True])
def test_mean_deviation_and_probability_as_cdo_has_them(gaps: bool, tmp_path: Path):
    """``ensmean``, ``ensstd`` (divided by n) and the mean of ``gtc``; CDO too counts the members that have a value."""
    values = members(gaps)
    lat, lon = np.arange(6.0), np.arange(8.0)
    files = [write(tmp_path / f"{m}.nc", {"t": values[:, m]}, lat, lon) for m in range(7)]
    mean, std, above = statistics(values, [s for s in ROWS.wanted if s.kind in ("mean", "std", "above")])
    out = tmp_path / "out.nc"
    np.testing.assert_allclose(mean, cdo(["ensmean"], files, out)["t"], rtol=1e-6)
    np.testing.assert_allclose(std, cdo(["ensstd"], files, out)["t"], rtol=1e-5, atol=1e-4)
    over = [tmp_path / f"over{m}.nc" for m in range(7)]
    for file, target in zip(files, over, strict=True):
        cdo(["gtc,273.15"], [file], target)
    np.testing.assert_allclose(above, cdo(["ensmean"], over, out)["t"], rtol=1e-6)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
def test_quantiles_as_numpy_has_them(gaps: bool, share: float):
    values = members(gaps)
    [found] = statistics(values, [Statistic(kind="quantile", value=share)])
    np.testing.assert_allclose(found, np.nanquantile(values.astype("float64"), share, axis=1), rtol=1e-6)


@given(arrays("float32", (2, 5, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_laws(values: np.ndarray):
    mean, std, low, high, above, below = statistics(
        values,
        [
            *Statistics(of=("x",), mean=True, standard_deviation=True, quantiles=(0.2, 0.8)).wanted,
            Statistic(kind="above", value=0.0),
            Statistic(kind="below", value=0.0),
        ],
    )
    slack = 1e-3
    assert (values.min(axis=1) - slack <= mean).all()
    assert (mean <= values.max(axis=1) + slack).all()
    assert (std >= 0).all()
    assert (low <= high).all()
    equal = (values == 0).mean(axis=1)
    np.testing.assert_allclose(above + below + equal, 1, rtol=1e-6)


def test_a_cell_without_any_member_has_no_statistic():
    values = np.full((1, 3, 2), np.nan, "float32")
    values[0, 1, 0] = 7
    for found, expected in zip(statistics(values, ROWS.wanted), [7, 0, 7, 7, 7, 0, 0], strict=True):
        np.testing.assert_array_equal(found, [[expected, np.nan]])


def test_members_that_agree_have_no_spread():
    values = np.full((1, 51, 4), 280.1, "float32")
    mean, std = statistics(values, ROWS.wanted[:2])
    np.testing.assert_array_equal(mean, values[:, 0])
    np.testing.assert_allclose(std, 0, atol=1e-6)
