"""Overviews against loops over single cells."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.grids.overviews import reduced
from tasks.scenes.recipe import Method

SHAPES = st.tuples(st.integers(1, 13), st.integers(1, 13))


def cells(values: np.ndarray, factor: int):
    """(row, column, pixels in reading order) of every cell."""
    for r in range(-(-values.shape[0] // factor)):
        for c in range(-(-values.shape[1] // factor)):
            yield r, c, values[r * factor : (r + 1) * factor, c * factor : (c + 1) * factor].ravel()


def one(pixels: np.ndarray, method: Method, nodata: float | None, dtype: np.dtype) -> float:
    """What a cell is, by the words of the documentation."""
    if method == "first":
        return pixels[0]
    good = [p for p in pixels.tolist() if p != nodata and p == p]
    if not good:
        return np.nan if dtype.kind == "f" and nodata is None else (nodata or 0)
    if method == "mean":
        mean = float(np.mean(np.array(good, "f8")))
        return mean if dtype.kind == "f" else round(mean)
    if method == "max":
        return max(good)
    if method == "flags":
        return int(np.bitwise_or.reduce(np.array(good, "i8")))
    most = max(Counter(good).values())
    return next(g for g in good if Counter(good)[g] == most)


def expected(values: np.ndarray, factor: int, method: Method, nodata: float | None) -> np.ndarray:
    out = np.zeros((-(-values.shape[0] // factor), -(-values.shape[1] // factor)), values.dtype)
    for r, c, pixels in cells(values, factor):
        out[r, c] = one(pixels, method, nodata, values.dtype)
    return out


@pytest.mark.parametrize("method", ["mean", "max", "mode", "first"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
@given(data=st.data())
def test_integers(method: Method, dtype: str, data: st.DataObject) -> None:
    factor = data.draw(st.sampled_from([2, 3]))
    high = {"uint8": 255, "uint16": 65535, "int16": 32767, "uint32": 2**32 - 1}[dtype]
    elements = st.one_of(st.integers(0, 3), st.integers(0, high))
    values = data.draw(arrays(dtype, SHAPES, elements=elements))
    nodata = data.draw(st.sampled_from([None, 0, 1, high]))
    np.testing.assert_array_equal(reduced(values, factor, method, nodata), expected(values, factor, method, nodata))


@given(values=arrays("uint8", SHAPES), factor=st.sampled_from([2, 3]), nodata=st.sampled_from([None, 0, 255]))
def test_flags_are_or(values: np.ndarray, factor: int, nodata: float | None) -> None:
    np.testing.assert_array_equal(reduced(values, factor, "flags", nodata), expected(values, factor, "flags", nodata))


@pytest.mark.parametrize("method", ["mean", "max", "mode"])
@given(
    values=arrays("float32", SHAPES, elements=st.one_of(st.just(np.nan), st.floats(-9, 9, width=32))),
    factor=st.sampled_from([2, 3]),
)
def test_no_nan_spreads(method: Method, values: np.ndarray, factor: int) -> None:
    found = reduced(values, factor, method, None)
    assert found.dtype == values.dtype
    np.testing.assert_allclose(found, expected(values, factor, method, None), rtol=1e-6, atol=1e-6)


def test_odd_edges_are_made_from_what_is_there() -> None:
    values = np.array([[1, 3, 10], [5, 7, 20], [100, 200, 40]], "uint16")
    np.testing.assert_array_equal(reduced(values, 2, "mean", None), [[4, 15], [150, 40]])


def test_halves_are_rounded_to_even() -> None:
    values = np.array([[1, 2, 2, 3]], "uint8")
    np.testing.assert_array_equal(reduced(values, 2, "mean", None), [[2, 2]])


def test_of_two_equal_classes_the_first_is_taken_and_none_only_where_all_are_none() -> None:
    values = np.array([[7, 4, 0, 0, 0, 0], [4, 7, 0, 5, 0, 0]], "uint8")
    np.testing.assert_array_equal(reduced(values, 2, "mode", 0), [[7, 5, 0]])


def test_leading_dimensions_stay() -> None:
    values = np.arange(2 * 5 * 4, dtype="uint8").reshape(2, 5, 4)
    found = reduced(values, 2, "mean", None)
    assert found.shape == (2, 3, 2)
    np.testing.assert_array_equal(found[1], expected(values[1], 2, "mean", None))
