"""Longer intervals and grids: the right operator, the right interval, values that another program gives."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tasks.lake.errors import UsageError
from tasks.stations.catalogue import Station
from tasks.stations.gridding import netcdf, weights
from tasks.stations.recipe import Resample, StationGrid
from tasks.stations.resample import resampled
from tasks.stations.schema import NAMES, silver_schema

DAILY = Resample(name="daily", to="1d")


def silver(hours: int, **columns: Any) -> pl.DataFrame:
    """Silver rows from 2023-03-01T01 on; all flags are good, columns that are not given are null."""
    start = np.datetime64("2023-03-01T01", "us")
    times = pl.Series(start + np.arange(hours) * np.timedelta64(3_600_000_000, "us")).dt.replace_time_zone("UTC")
    flags = columns.pop("flags", {})
    data = {"timestamp": times, "station_id": ["a"] * hours} | {n: columns.get(n, [None] * hours) for n in NAMES}
    made = pl.DataFrame(data).with_columns(
        latitude=pl.lit(52.0), longitude=pl.lit(5.0), height=pl.lit(0.0), quality_score=pl.lit(1.0),
        quality_flags=pl.struct([pl.Series(n, flags.get(n, [1] * hours), dtype=pl.UInt8) for n in NAMES]),
    )  # fmt: skip
    return made.select(pl.col(n).cast(t) for n, t in silver_schema().items())


def test_a_day_is_the_hours_that_end_in_it() -> None:
    """Stamps mark ends: 01:00 to 24:00, against pandas with its right-closed intervals."""
    rng = np.random.default_rng(2)
    hours = 24 * 5
    values = {
        n: rng.normal(10, 3, hours) for n in ("temperature", "precipitation", "wind_gust", "temperature_minimum_10cm")
    }
    found = resampled(silver(hours, **values), DAILY, 60)
    table = pd.DataFrame(values, index=pd.date_range("2023-03-01T01:00", periods=hours, freq="h", tz="UTC"))
    expected = table.resample("1D", closed="right", label="right").agg(
        {"temperature": "mean", "precipitation": "sum", "wind_gust": "max", "temperature_minimum_10cm": "min"}
    )
    expected = expected[expected["temperature"].notna()]
    assert found["timestamp"].dt.strftime("%Y-%m-%dT%H").to_list() == [f"2023-03-0{d}T00" for d in range(2, 7)]
    for name in expected:
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-12)
    assert found["rows"].to_list() == [24] * 5


def test_winds_are_averaged_as_vectors() -> None:
    directions = [350.0, 10.0] * 12 + [90.0] * 12 + [None] * 12 + [0.0 + 180 * (n % 2) for n in range(24)]
    speeds = [5.0] * 24 + [5.0] * 12 + [0.0] * 12 + [4.0] * 24
    found = resampled(silver(72, wind_direction=directions, wind_speed=speeds), DAILY, 60)
    north, east, none = found["wind_direction"].to_list()
    assert min(north, 360 - north) == pytest.approx(0, abs=1e-9)
    # Half a day of calm has no direction, but takes part.
    assert east == pytest.approx(90)
    assert none is None
    assert found["wind_speed"].to_list() == pytest.approx([5, 2.5, 4])


def test_too_little_makes_no_value() -> None:
    temperature = [10.0] * 18 + [None] * 6 + [10.0] * 17 + [None] * 7
    assert resampled(silver(48, temperature=temperature), DAILY, 60)["temperature"].to_list() == [10, None]
    failed = {"temperature": [4] * 10 + [1] * 14}
    assert resampled(silver(24, temperature=[10.0] * 24, flags=failed), DAILY, 60)["temperature"].to_list() == [None]
    half = Resample(name="h", to="1d", complete=0.5, without=(4,))
    mixed = [50.0] * 10 + [10.0] * 14
    assert resampled(silver(24, temperature=mixed, flags=failed), half, 60)["temperature"].to_list() == [10]


STATIONS = [Station("a", "a", 4.5, 52.5), Station("b", "b", 5.5, 52.5), Station("c", "c", 5.0, 51.5)]


def grid(**more: Any) -> StationGrid:
    return StationGrid(name="nl", spacing=0.5, bbox=(4, 51, 6, 53), variables=("temperature",), **more)


def test_weights_of_stations() -> None:
    made = weights(STATIONS, grid(radius=300, stations=3))
    assert made.row_sums == pytest.approx(1)
    assert made.matrix.min() >= 0
    near = weights(STATIONS, grid(radius=300, method="nearest"))
    # Cell centres run from the north west; station a lies on the corner of four cells, all of them nearest to it.
    fields = (near.matrix @ np.array([1.0, 2.0, 3.0])).reshape(near.target_shape)
    assert fields.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 3, 3], [3, 3, 3, 3]]
    alone = weights(STATIONS, grid(radius=40))
    assert alone.empty.sum() > 0
    with pytest.raises(UsageError, match="no station within 1 km"):
        weights(STATIONS, grid(radius=1))


def test_fields_in_a_file(tmp_path: Any) -> None:
    import xarray as xr

    times = np.array(["2023-01-01T01", "2023-01-01T02", "2023-01-01T03"], "datetime64[s]")
    values = np.array([[10.0, 10, 10], [5, np.nan, 5], [np.nan, np.nan, np.nan]])
    data = netcdf(grid(radius=300), STATIONS, times, {"temperature": values}, {"attribution": "x"})
    (tmp_path / "f.nc").write_bytes(data)
    with xr.open_dataset(tmp_path / "f.nc") as opened:
        field = opened["temperature"]
        assert field.dims == ("time", "latitude", "longitude")
        assert field.attrs["units"] == "degC"
        np.testing.assert_allclose(field[0], 10)
        # A station that is silent is left out; with none left there is nothing.
        np.testing.assert_allclose(field[1], 5)
        assert bool(field[2].isnull().all())
        np.testing.assert_array_equal(opened["time"].values, times.astype("datetime64[ns]"))
