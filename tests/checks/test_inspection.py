"""One pass: every field is read once, in order, and few are held at a time."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from tasks.checks.acceptance import CheckConfig
from tasks.checks.inspection import inspect
from tasks.checks.statistics import Statistics, Summary
from tasks.checks.verdict import suite

from .synthetic import NAMES, defect, subject


class Counting:
    """Fields read from an array, each a copy of its own, with what was read and how many were alive at once."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape = values.shape
        self.read: list[tuple[int, int, int]] = []
        self.alive: list[weakref.ref] = []
        self.most = 0

    def __getitem__(self, index: tuple[int, int, int]) -> np.ndarray:
        self.read.append(index)
        field = self._values[index].copy()
        self.alive = [r for r in self.alive if r() is not None]
        self.alive.append(weakref.ref(field))
        self.most = max(self.most, len(self.alive))
        return field


@pytest.mark.parametrize("name", ["2t", "tp", "unheard_of"])
def test_every_field_is_read_once_and_few_are_held(name: str) -> None:
    clean = subject(name, steps=40, members=4)
    absent = clean.present.copy()
    absent[3, 1] = False
    values = Counting(clean.values)
    thing = replace(clean, values=values, present=absent)
    gc.disable()
    try:
        inspect([thing], suite(CheckConfig()), [[Statistics(thing)]])
    finally:
        gc.enable()
    assert sorted(values.read) == [tuple(i) for i in np.argwhere(absent).tolist()]
    for member in range(4):
        steps = [t for t, m, _ in values.read if m == member]
        assert steps == sorted(steps), "in the order of lead_time"
    assert values.most <= 8, "memory follows the map, not the number of steps"


@pytest.mark.parametrize("name", NAMES)
def test_lazily_read_fields_are_judged_as_an_array_is(name: str) -> None:
    thing = defect(subject(name, seed=2))
    thing.values[4, 1] = thing.values[3, 1] * 0.5
    checks = suite(CheckConfig())
    assert inspect([replace(thing, values=Counting(thing.values))], checks) == inspect([thing], checks)


def test_partners_are_read_once_each() -> None:
    low = subject("2t", seed=1)
    high = replace(low, name="mx2t", values=Counting(low.values + np.float32(1)))
    low = replace(low, name="mn2t", values=Counting(low.values))
    high = replace(high, partner=low)
    found = {(f.variable, f.check): f for f in inspect([high, low], suite(CheckConfig()))}
    assert found["mx2t", "order"].sentence == "mx2t: lies nowhere below mn2t in 27 fields."
    assert len(high.values.read) == len(low.values.read) == 27  # type: ignore[attr-defined]


def test_a_maximum_below_the_minimum_is_named() -> None:
    low = subject("2t", seed=1)
    spoiled = low.values.copy()
    spoiled[2, 1, 0, 3:6] -= 5
    high = replace(low, name="mx2t", values=spoiled, partner=low)
    order = next(f for f in inspect([high, low], suite(CheckConfig())) if (f.check, f.variable) == ("order", "mx2t"))
    assert order.sentence == "mx2t at +12 h, member 1: 144 points lie below 2t, most by 5 K."
    assert [c.key for c in order.cells] == ["012-m01"]


def test_statistics_are_numpys(tmp_path) -> None:
    thing = subject("sst", shape=(20, 30))
    watch = Statistics(thing)
    inspect([thing], [], [[watch]])
    found = watch.result()
    first = thing.values[:, 0, 0].reshape(len(thing.lead_time), -1)
    means = np.nanmean(thing.values.reshape(*thing.present.shape, -1), axis=-1, dtype="float64").mean(axis=1)
    np.testing.assert_allclose(found.statistics[..., 0], means, rtol=1e-6)
    np.testing.assert_allclose(found.extent[[0, 2]], [np.nanmin(thing.values), np.nanmax(thing.values)])
    assert found.counts.sum() == np.isfinite(thing.values).sum()
    assert found.digests.shape == (9, 1)
    assert len(np.unique(found.digests)) == 9
    assert np.isfinite(first).any()
    again = Summary.from_bytes(found.to_bytes())
    assert again.to_bytes() == found.to_bytes()
    np.testing.assert_array_equal(again.pattern, found.pattern)
