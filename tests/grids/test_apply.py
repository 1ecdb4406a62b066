"""Applying weights: xESMF's results, gaps, blocks, threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tasks.grids.apply import apply
from tasks.grids.weights import Weights, make
from tasks.lake.errors import UsageError

from .oracle import grid, variables, weights

SKIPPING: dict[str, dict] = {
    "noskip": {},
    "skipna_th0": {"skipna": True, "na_thres": 0},
    "skipna_th05": {"skipna": True, "na_thres": 0.5},
    "skipna_th1": {"skipna": True, "na_thres": 1},
}


@pytest.mark.parametrize("rule", SKIPPING)
def test_gaps_are_treated_as_xesmf_treats_them(rule: str) -> None:
    (field,) = variables("grid_g5", "fm")
    (golden,) = variables("esmf_g5_g2_conservative", f"fm_{rule}")
    mine = apply(weights("esmf_g5_g2_conservative"), field, **SKIPPING[rule])
    np.testing.assert_allclose(mine, golden, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize("case", ["lcc_us05_conservative_normed", "lcc_us05_bilinear", "g5_g2_conservative"])
def test_fields_are_esmfs(case: str) -> None:
    name = f"esmf_{case}"
    (field,), (golden,) = variables(f"grid_{name.split('_')[1]}", "f"), variables(name, "f_out")
    mine = apply(weights(name), field)
    there = ~weights(name).empty.reshape(golden.shape)
    np.testing.assert_allclose(mine[there], golden[there], rtol=2e-6)
    assert np.isnan(mine[~there]).all()


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 0.9))
@settings(max_examples=40, deadline=None)
def test_skipna_renormalises_by_the_valid_share(seed: int, na_thres: float, gaps: float) -> None:
    """The rule written out with dense matrices."""
    random = np.random.default_rng(seed)
    dense = random.random((12, 20)) * (random.random((12, 20)) < 0.3)
    field = np.where(random.random(20) < gaps, np.nan, random.random(20))
    made = Weights(csr_array(dense), (4, 5), (3, 4), "test")
    valid = dense @ np.isfinite(field)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (dense @ np.nan_to_num(field)) / valid
    expected[(valid < np.clip(1 - na_thres, 1e-6, 1 - 1e-6)) | (dense.sum(1) == 0)] = np.nan
    mine = apply(made, field.reshape(4, 5), skipna=True, na_thres=na_thres)
    np.testing.assert_allclose(mine.ravel(), expected, rtol=1e-6)


def test_a_gap_elsewhere_changes_nothing_here() -> None:
    """Where rows do not sum to 1, a field with a gap is scaled as one without is."""
    partly = weights("esmf_lcc_us05_conservative")
    field = np.ones(partly.source_shape, np.float32)
    whole = apply(partly, field, skipna=True, na_thres=1)
    field[0, 0] = np.nan
    np.testing.assert_allclose(apply(partly, field, skipna=True, na_thres=1), whole, rtol=1e-6)
    np.testing.assert_allclose(whole[np.isfinite(whole)], 1, rtol=1e-6)


def test_one_gap_spoils_only_the_cells_that_see_it() -> None:
    made = make(grid("g5"), grid("g2"), "conservative")
    field = np.ones((36, 72), np.float32)
    field[10, 20] = np.nan
    bad = np.isnan(apply(made, field)).ravel()
    np.testing.assert_array_equal(bad, made.matrix[:, [10 * 72 + 20]].toarray()[:, 0] > 0)


def test_leading_dimensions_and_out() -> None:
    made = make(grid("g5"), grid("g2"), "bilinear")
    fields = np.random.default_rng(1).random((2, 3, 36, 72), dtype="float32")
    together = apply(made, fields)
    assert together.shape == (2, 3, 90, 180)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[1, 2], apply(made, fields[1, 2]))
    out = np.empty((2, 3, 90, 180), np.float32)
    assert apply(made, fields, out=out) is out
    np.testing.assert_array_equal(out, together)
    # A view that is not contiguous, as a flipped field is.
    np.testing.assert_array_equal(apply(made, fields[..., ::-1, :][..., ::-1, :]), together)


def test_each_field_has_gaps_of_its_own() -> None:
    """One call with many fields gives what a call each gives, also where some share their gaps."""
    made, random = make(grid("g5"), grid("g2"), "conservative"), np.random.default_rng(4)
    fields = random.random((5, 36, 72), dtype="float32")
    land = random.random((36, 72)) < 0.3
    fields[0, land] = fields[1, land] = np.nan
    fields[3, random.random((36, 72)) < 0.3] = np.nan
    for wide in (fields, fields.astype("float64")):
        before = wide.copy()
        together = apply(made, wide, skipna=True, na_thres=0.5)
        np.testing.assert_array_equal(together, [apply(made, f, skipna=True, na_thres=0.5) for f in fields])
        np.testing.assert_array_equal(wide, before)
    assert np.isnan(together[[0, 1, 3]]).any(axis=(1, 2)).all()
    assert not np.isnan(together[[2, 4]]).any()


def test_single_precision_and_threads_and_double_results() -> None:
    made = make(grid("g5"), grid("g2"), "conservative")
    fields = np.random.default_rng(5).random((7, 36, 72)) + 280
    exact = np.stack([(made.matrix @ f.ravel()).reshape(90, 180) for f in fields])
    double = apply(made, fields, out=np.empty(exact.shape), threads=3)
    np.testing.assert_array_equal(double, exact)
    single = apply(made, fields, precision="single", threads=2)
    assert 0 < np.abs(single - exact).max() < 1e-6 * 281
    np.testing.assert_allclose(apply(made, fields), exact, rtol=1e-7)


def test_threads_do_not_disturb_each_other() -> None:
    made = make(grid("g5"), grid("g2"), "conservative")
    fields = np.random.default_rng(2).random((16, 36, 72), dtype="float32")
    with ThreadPoolExecutor(4) as pool:
        apart = np.stack(list(pool.map(lambda f: apply(made, f), fields)))
    np.testing.assert_array_equal(apart, apply(made, fields))


def test_what_does_not_fit_is_refused() -> None:
    made = make(grid("g5"), grid("g2"), "bilinear")
    with pytest.raises(UsageError, match="source grid"):
        apply(made, np.zeros((72, 36), np.float32))
    with pytest.raises(UsageError, match="out does not fit"):
        apply(made, np.zeros((36, 72), np.float32), out=np.empty((90, 180), np.float16))
    with pytest.raises(UsageError, match="share"):
        apply(made, np.zeros((36, 72), np.float32), skipna=True, na_thres=2)


@given(
    st.sampled_from(["conservative", "bilinear", "nearest"]),
    st.tuples(st.integers(0, 89), st.integers(1, 90)),
    st.tuples(st.integers(0, 179), st.integers(1, 180)),
)
@settings(max_examples=30, deadline=None)
def test_a_block_is_a_part_of_the_whole(method: str, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    whole = make(grid("g5"), grid("g2"), method)
    field = np.random.default_rng(3).random((36, 72), dtype="float32")
    block = (slice(rows[0], rows[0] + rows[1]), slice(columns[0], columns[0] + columns[1]))
    part, window = whole.rows(*block)
    np.testing.assert_array_equal(apply(part, field[window]), apply(whole, field)[block])


def test_a_block_needs_a_small_window() -> None:
    part, window = make(grid("g5"), grid("g2"), "conservative").rows(slice(0, 5), slice(90, 100))
    assert window == (slice(34, 36), slice(0, 4))
    assert part.source_shape == (2, 4)


def test_a_block_that_sees_nothing_is_all_nan() -> None:
    made = weights("esmf_lcc_us05_conservative")
    part, window = made.rows(slice(0, 1), slice(0, 1))
    assert np.isnan(apply(part, np.ones(made.source_shape)[window])).all()


@pytest.mark.parametrize("block", [(slice(0, 0), slice(0, 3)), (slice(0, 3),), (slice(0, 9, 2), slice(0, 3))])
def test_a_wrong_block_is_refused(block: tuple[slice, ...]) -> None:
    with pytest.raises(UsageError, match="block"):
        make(grid("g5"), grid("g2"), "bilinear").rows(*block)
