"""The table of ranges."""

import numpy as np
import pytest

from tasks.checks.check import Subject
from tasks.checks.extent import globe_share
from tasks.checks.limits import limits, rows, spelled, table, traits

TRAITS = {"sparse", "rising", "masked", "steady", "static", "rough", "circular"}


def named(name: str, units: str, **attributes: object) -> Subject:
    nothing = np.zeros((1, 1, 1, 1, 1), "float32")
    there = np.ones((1, 1, 1), bool)
    axis = np.zeros(1)
    return Subject(name, units, "instant", nothing, there, axis, None, None, axis, axis, attributes)


def test_the_table_is_whole() -> None:
    assert len({row.names for row in table()}) >= 40
    for row in table():
        assert row.minimum < row.maximum, row
        assert row.source, row
        assert row.units == spelled(row.units), row
        assert row.traits <= TRAITS, row
        assert (row.level_from is None) == (row.level_to is None), row


def test_traits_of_a_name_agree_over_its_units() -> None:
    # Only the first row is asked for traits, so that they do not depend on how a provider writes the unit.
    for name in {name for row in table() for name in row.names}:
        assert len({row.traits for row in table() if name in row.names}) == 1, name


@pytest.mark.parametrize(
    ("name", "units", "level", "expected"),
    [
        ("t2m", "K", None, (175, 335)),
        ("2t", "", None, (175, 335)),
        ("msl", "hPa", None, (850, 1100)),
        ("10u", "m s**-1", None, (-120, 120)),
        ("tp", "kg m**-2", None, (-0.01, 5000)),
        ("gh", "gpm", 500.0, (1700, 6500)),
        ("gh", "gpm", None, (-1200, 90000)),
        ("t", "K", 10.0, (130, 335)),
    ],
)
def test_a_row_is_found_by_name_units_and_level(name: str, units: str, level: float | None, expected: tuple) -> None:
    row = limits(named(name, units), level)
    assert row is not None
    assert (row.minimum, row.maximum) == expected


def test_a_unit_that_the_table_does_not_have_gives_no_range() -> None:
    assert limits(named("2t", "degC")) is None
    assert traits(named("2t", "degC")) == frozenset()


def test_the_short_name_and_then_the_standard_name_help() -> None:
    assert rows(named("temp", "K", short_name="2t"))[0].names[0] == "2t"
    assert rows(named("pressure", "Pa", standard_name="air_pressure_at_mean_sea_level"))[0].names[0] == "msl"
    assert traits(named("temp", "K")) is None


def test_share_of_the_globe() -> None:
    assert globe_share(np.array([90.0, -90.0]), np.array([0.0, 360.0])) == pytest.approx(1)
    assert globe_share(np.array([0.0, 30.0]), np.array([0.0, 180.0])) == pytest.approx(0.125)
    assert globe_share(np.empty(0), np.empty(0)) == 0
