"""Laws of rounding mantissa bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.forecasts import rounding
from tasks.forecasts.rounding import keep_bits

ANY = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=st.floats(width=32, allow_nan=True))
BITS = st.integers(1, 23)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """A rounded copy."""
    copy = values.copy()
    keep_bits(copy, bits)
    return copy


@given(ANY, BITS)
def test_the_error_is_bounded_and_special_values_stay(values: np.ndarray, bits: int):
    result = rounded(values, bits)
    special = ~np.isfinite(values)
    np.testing.assert_array_equal(result[special].view(np.uint32), values[special].view(np.uint32))
    assert np.isfinite(result[~special]).all()
    normal = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)
    exact = values[normal].astype(float)
    assert (np.abs(result[normal] - exact) <= np.abs(exact) * 2.0 ** -(bits + 1)).all()


@given(ANY, BITS)
def test_rounding_again_changes_nothing(values: np.ndarray, bits: int):
    once = rounded(values, bits)
    np.testing.assert_array_equal(rounded(once, bits).view(np.uint32), once.view(np.uint32))


@given(hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False)), BITS)
def test_order_is_kept(values: np.ndarray, bits: int):
    ordered = rounded(np.sort(values), bits)
    assert (ordered[1:] >= ordered[:-1]).all()


@given(hnp.arrays(np.float32, 20, elements=st.floats(-(2.0**100), 2.0**100, width=32)), st.integers(1, 22))
def test_dropped_bits_are_zero(values: np.ndarray, bits: int):
    assert not (rounded(values, bits).view(np.uint32) & np.uint32((1 << (23 - bits)) - 1)).any()


def test_ties_go_to_even():
    one_bit = np.array([1.25, 1.75, 1.0, 1.5, -1.25, -1.75], np.float32)
    np.testing.assert_array_equal(rounded(one_bit, 1), np.array([1.0, 2.0, 1.0, 1.5, -1.0, -2.0], np.float32))


def test_nan_with_only_low_bits_stays_nan():
    values = np.array([0x7F800001, 0xFFFFFFFF, 0x7FFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(rounded(values, 7)).all()


def test_blocks_and_views_are_rounded_whole(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).normal(280, 10, (7, 11, 13)).astype(np.float32)
    expected = rounded(values, 7)
    monkeypatch.setattr(rounding, "BLOCK", 10)
    np.testing.assert_array_equal(rounded(values, 7), expected)
    strided = np.asfortranarray(values)
    keep_bits(strided, 7)
    np.testing.assert_array_equal(strided, expected)


@pytest.mark.parametrize(
    ("values", "bits"), [(np.zeros(3), 7), (np.zeros(3, np.float32), 0), (np.zeros(3, np.float32), 24)]
)
def test_what_cannot_be_rounded_is_refused(values: np.ndarray, bits: int):
    with pytest.raises(ValueError, match="keep_bits"):
        keep_bits(values, bits)
