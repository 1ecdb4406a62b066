"""The look before publication: what is wrong is named with its step, and what is right passes."""

from typing import Any

import numpy as np
import pytest

from tasks.forecasts.postcheck import Subject, Tally, judge, merged, pack, unpack
from tasks.lake.errors import CorruptInput
from tasks.lake.partition import Output

SUBJECT = Subject("t2m", {"lead_time": [0, 3, 6], "member": [0, 1]}, (None, None), "K")
RULES: dict[str, Any] = {"mean": True, "bounded": True, "area": 2.0, "conservation": 1e-6}


def good() -> Tally:
    """Three steps of two members: values from 280 to 300 K, mean 290."""
    tally = Tally.empty((3, 2))
    for row, value in {
        "low": 281, "high": 299, "missing": 0, "total": 580, "source_low": 280, "source_high": 300,
        "source_missing": 0, "source_total": 580, "fallen": 0,
    }.items():  # fmt: skip
        tally[row][...] = value
    return tally


def test_nothing_is_wrong_with_a_good_field():
    assert judge(SUBJECT, good(), **RULES) == []


@pytest.mark.parametrize(
    ("row", "value", "sentence"),
    [
        ("missing", 4, "t2m has no value in 4 cell(s) at step 3 h, member 1"),
        ("total", 580.01, "the mean of t2m at step 3 h, member 1 is not conserved: 290 before and 290.005 after"),
        ("high", 300.1, "t2m at step 3 h, member 1 goes from 281 to 300.1, its source only from 280 to 300 K"),
        ("low", 279.9, "t2m at step 3 h, member 1 goes from 279.9 to 299, its source only"),
        ("fallen", 7, "t2m would be negative in 7 cell(s) at step 3 h, member 1: an accumulated field"),
    ],
)
def test_what_is_wrong_is_named_with_its_step_and_member(row: str, value: float, sentence: str):
    tally = good()
    tally[row][1, 1] = value
    [found] = judge(SUBJECT, tally, **RULES)
    assert found.startswith(sentence)
    assert "more" not in found
    tally[row][2, 0] = value
    assert " and 1 more field(s)" in judge(SUBJECT, tally, **RULES)[0]


@pytest.mark.parametrize(
    ("limits", "span"), [((None, 290.0), "290 or less"), ((285.0, None), "285 or more"), ((0.0, 1.0), "0 to 1")]
)
def test_a_product_has_limits_of_its_own(limits: tuple[float | None, float | None], span: str):
    subject = Subject("r2", SUBJECT.axes, limits, "%")
    [found] = judge(subject, good(), **RULES)
    assert found.startswith("r2 at step 0 h, member 0 goes from 281 to 299, and can only be")
    assert span in found


def test_gaps_of_the_source_are_no_fault_of_regridding():
    tally = good()
    tally["source_missing"][1, 1], tally["missing"][1, 1] = 12, 4
    tally["total"][1, 1] = tally["source_total"][1, 1] = np.nan
    assert judge(SUBJECT, tally, **RULES) == []


def test_rounding_is_no_fault():
    tally = good()
    tally["high"][...] = 300.0001
    tally["total"][...] = 580.0001
    assert judge(SUBJECT, tally, **RULES) == []


def test_tallies_of_blocks_add_up():
    rng = np.random.default_rng(2)
    fields = rng.normal(size=(3, 2, 8, 10)).astype("float32")
    fields[1, 0, 2, 7] = np.nan
    whole = Tally.empty((3, 2))
    whole.note(fields, 80, 2)
    halves = []
    for part in (fields[..., :4], fields[..., 4:]):
        tally = Tally.empty((3, 2))
        tally.note(part, part.shape[2] * part.shape[3], 2)
        halves.append({"t2m": tally})
    found = merged(halves)["t2m"]
    np.testing.assert_array_equal(found.values, whole.values)
    assert found["missing"].sum() == 1
    shards = [Output("t2m/c/0/0", "xxh3:1", 12), Output("t2m/c/0/1", "xxh3:2", 13)]
    tallies, written = unpack(pack({"t2m": whole}, shards), "x")
    np.testing.assert_array_equal(tallies["t2m"].values, whole.values)
    assert written == shards


def test_a_broken_tally_is_named():
    with pytest.raises(CorruptInput, match=r"staging/x\.npz is no tally"):
        unpack(b"PK nonsense", "staging/x.npz")
