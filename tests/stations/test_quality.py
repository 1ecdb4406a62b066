"""Quality control: each family finds what it is for, and nothing in sound data."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks.checks.verdict import State
from tasks.lake import recipe as recipes
from tasks.lake.errors import CorruptInput
from tasks.stations import prepare
from tasks.stations.catalogue import Station
from tasks.stations.neighbours import distance, medians, nearest
from tasks.stations.quality import UNJUDGED, assess, flagged
from tasks.stations.schema import FAIL, GOOD, MISSING, NOT_EVALUATED, SUSPECT, silver_schema
from tasks.stations.validate import examined, split
from tasks.stations.verdict import verdict

from .edr_server import PARAMETERS, places, weather

RECIPE: Any = recipes.load("knmi-hourly")
HOURS = 240
START = np.datetime64("2023-03-01T00:00:00", "s")
PLACE = places(1)[0]
HERE = Station(PLACE.id, PLACE.name, PLACE.longitude, PLACE.latitude, 1.0)


def provider(**changes: dict[int, float | None] | list[float | None]) -> pl.DataFrame:
    """Sound data of ten days by the provider's names, with values changed at rows."""
    times = START + np.arange(HOURS) * np.timedelta64(3600, "s")
    columns = {"timestamp": pl.Series(times.astype("datetime64[us]")).dt.replace_time_zone("UTC")}
    for name in PARAMETERS:
        values = [float(v) for v in weather(PLACE, name, times)]
        change = changes.get(name, {})
        for row, value in change.items() if isinstance(change, dict) else enumerate(change):
            values[row] = value  # type: ignore[call-overload]
        columns[name] = pl.Series(values, dtype=pl.Float64)
    return pl.DataFrame(columns)


def prepared(table: pl.DataFrame, recipe: Any = RECIPE) -> pl.DataFrame:
    """As validate does it."""
    return prepare.prepared(table, recipe.columns, recipe.step)


def flags(table: pl.DataFrame, column: str) -> dict[int, int]:
    """Row -> flag of what is not good."""
    ready = prepared(table, RECIPE)
    found = flagged(ready, assess(ready, RECIPE.checks, 60))["quality_flags"].struct.field(column)
    return {row: flag for row, flag in enumerate(found.to_list()) if flag != GOOD}


def test_sound_data_is_good() -> None:
    result, judged = examined(prepared(provider()), [], RECIPE, HERE)
    assert result["quality_score"].min() == 1.0
    assert set(result["quality_flags"].struct.field("temperature")) == {GOOD}
    assert (judged.state, judged.score, judged.missing) == (State.ACCEPTED, 1.0, 0.0)
    assert dict(result.schema) == silver_schema()


def test_gross_range() -> None:
    found = flags(provider(T={10: 60.0, 20: -30.0}), "temperature")
    assert found[10] == FAIL
    # -30 is possible but hardly ever; here it is a spike besides.
    ready = prepared(provider(T={20: -30.0}), RECIPE)
    assert assess(ready, RECIPE.checks, 60)["range:temperature"][20] == SUSPECT


def test_a_spike_fails_and_its_neighbours_do_not() -> None:
    base = float(weather(PLACE, "P", START + np.array([50]) * np.timedelta64(3600, "s"))[0])
    assert flags(provider(P={50: base + 8}), "pressure") == {50: FAIL}


@pytest.mark.parametrize(("hours", "change"), [(1, 4.2), (2, 7.5), (3, 9.5)])
def test_a_step_is_suspect(hours: int, change: float) -> None:
    """A change that stays: over one, two, three hours, each just above the WMO tolerance."""
    flat = [10.0 + 0.1 * (n % 2) for n in range(HOURS)]
    ramp = [change * min(1.0, max(0.0, (n - 100) / hours)) for n in range(HOURS)]
    values: list[float | None] = [a + b for a, b in zip(flat, ramp, strict=True)]
    found = flags(provider(T=values, TD=[v - 5 if v else None for v in values]), "temperature")
    assert 100 + hours in found
    assert set(found.values()) == {SUSPECT}
    smaller: list[float | None] = [a + 0.8 * b for a, b in zip(flat, ramp, strict=True)]
    assert flags(provider(T=smaller, TD=[v - 5 if v else None for v in smaller]), "temperature") == {}


def test_a_flat_line() -> None:
    table = provider(P=dict.fromkeys(range(100, 113), 1015.0) | dict.fromkeys(range(150, 175), 1016.0))
    ready = prepared(table, RECIPE)
    found = assess(ready, RECIPE.checks, 60)["flat:pressure"].tolist()
    assert found[100:113] == [SUSPECT] * 13
    assert found[150:175] == [FAIL] * 25
    assert set(found[:100] + found[113:150]) == {GOOD}
    # Calm for two days is weather; and so is a month without rain, which no rule looks at.
    assert (
        flags(provider(FH=dict.fromkeys(range(100, 150), 0.0), FF=dict.fromkeys(range(100, 150), 0.0)), "wind_speed")
        == {}
    )


def test_internal_consistency() -> None:
    wet = next(n for n, v in enumerate(provider()["RH"]) if v == 0)
    assert flags(provider(TD={30: 25.0}), "temperature")[30] == FAIL
    assert flags(provider(FF={30: 40.0}), "wind_gust") == {30: FAIL}
    for change in ({"DR": {wet: 0.5}}, {"RH": {wet: 2.0}}):
        assert flags(provider(**change), "precipitation") == {wet: SUSPECT}
    night = next(n for n, v in enumerate(provider()["Q"]) if v == 0)
    assert flags(provider(SQ={night: 0.5}), "radiation") == {night: SUSPECT}


def test_a_trace_of_rain_is_no_rain_and_no_fault() -> None:
    dry = next(n for n, v in enumerate(provider()["RH"]) if v == 0)
    table = provider(RH={dry: -1.0}, DR={dry: 0.3})
    assert flags(table, "precipitation") == {}
    assert prepared(table, RECIPE)["precipitation"][dry] == 0.0


def test_calm_and_variable_are_no_directions() -> None:
    table = provider(DD={5: 0.0, 6: 990.0, 7: None, 8: 360.0})
    assert flags(table, "wind_direction") == {5: NOT_EVALUATED, 6: NOT_EVALUATED, 7: MISSING}
    assert prepared(table, RECIPE)["wind_direction"][5:9].to_list() == [None, None, None, 360.0]


def test_neighbours_disagree() -> None:
    ready = prepared(provider(), RECIPE)
    others = [prepared(provider(), RECIPE) for _ in range(3)]
    columns = ("temperature", "pressure")
    near = medians(ready["timestamp"], others, RECIPE.checks.neighbours, columns)
    odd = ready.with_columns(
        pl.when(pl.int_range(pl.len()) == 40).then(pl.col("pressure") + 5).otherwise("pressure").alias("pressure")
    )
    found = assess(odd, RECIPE.checks, 60, near)
    assert found["neighbours:pressure"][40] == SUSPECT
    assert (found["neighbours:pressure"] == SUSPECT).sum() == 1
    # One bad neighbour in three changes nothing; two neighbours are too few to judge.
    others[0] = others[0].with_columns(pl.lit(900.0).alias("pressure"))
    near = medians(ready["timestamp"], others, RECIPE.checks.neighbours, columns)
    assert (assess(ready, RECIPE.checks, 60, near)["neighbours:pressure"] == SUSPECT).sum() == 0
    near = medians(ready["timestamp"], others[:2], RECIPE.checks.neighbours, columns)
    assert set(assess(ready, RECIPE.checks, 60, near)["neighbours:pressure"]) == {UNJUDGED}


def test_who_is_a_neighbour() -> None:
    stations = [
        Station("a", "a", 5.0, 52.0, 0.0), Station("near", "", 5.3, 52.0, 0.0), Station("high", "", 5.1, 52.0, 500.0),
        Station("far", "", 8.0, 52.0, 0.0), Station("next", "", 5.0, 52.3, None),
    ]  # fmt: skip
    assert [s.id for s in nearest(stations[0], stations, RECIPE.checks.neighbours)] == ["near", "next"]
    # One degree of latitude on the sphere of 6371 km.
    assert distance(stations[0], Station("", "", 5.0, 53.0)) == pytest.approx(111.195, abs=0.001)


def test_scores_rows_and_acceptance() -> None:
    table = provider(
        T={10: 99.0}, TD={10: 99.0}, U={10: 500.0}, P={10: 500.0}, FH={10: 200.0}, FF={10: 200.0}, FX={10: 900.0}
    )
    result, judged = examined(prepared(table), [], RECIPE, HERE)
    good, bad = split(result, RECIPE, judged)
    assert judged.published
    assert bad["timestamp"].to_list() == [datetime(2023, 3, 1, 10, tzinfo=UTC)]
    assert good.height == HOURS - 1
    # 7 of the row's 16 values fail, and the gust's rule takes its partner with it.
    assert 0.4 < bad["quality_score"][0] < 0.6


def test_a_bad_year_is_held_back() -> None:
    table = provider(T=[99.0 if n % 2 else 5.0 for n in range(HOURS)])
    result, judged = examined(prepared(table), [], RECIPE, HERE)
    assert judged.state == State.QUARANTINED
    assert "temperature range" in " ".join(judged.reasons)
    assert split(result, RECIPE, judged)[0].is_empty()
    sparse = prepared(provider(), RECIPE)
    empty = {n: pl.when(pl.int_range(pl.len()) == 3).then(pl.col(n)) for n in RECIPE.mapped}
    mostly = sparse.with_columns(**empty)
    assert verdict(mostly, assess(mostly, RECIPE.checks, 60), RECIPE.checks).state == State.REJECTED


def test_rows_that_are_not_there_are_expected_all_the_same() -> None:
    table = provider().filter(pl.int_range(pl.len()) % 100 != 50)
    ready = prepared(table, RECIPE)
    assert ready.height == HOURS
    assert flags(table, "temperature") == {50: MISSING, 150: MISSING}
    off = table.with_columns(pl.col("timestamp") + timedelta(minutes=7))
    with pytest.raises(CorruptInput, match="between two times: expected multiples of 1:00:00"):
        prepared(off, RECIPE)


def test_factors_make_units() -> None:
    ten: Any = recipes.load("knmi-10min")
    table = pl.DataFrame(
        {"timestamp": [datetime(2024, 1, 1, tzinfo=UTC)], "rg": [6.0], "dr": [600.0], "ss": [10.0], "qg": [100.0]}
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    row = prepared(table, ten).row(0, named=True)
    # 6 mm/h for ten minutes; 600 s; 10 min; 100 W/m2 for 600 s = 60 kJ/m2 = 6 J/cm2.
    assert row["precipitation"] == pytest.approx(1.0)
    assert row["precipitation_duration"] == pytest.approx(1 / 6)
    assert row["sunshine_duration"] == pytest.approx(1 / 6)
    assert row["radiation"] == pytest.approx(6.0)
