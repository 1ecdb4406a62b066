"""Derived variables against tables, against each other, and against CDO's own arithmetic."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.checks.conversion import conversion
from tasks.forecasts.derived import dew_point, relative_humidity, saturation_pressure, wind_direction, wind_speed
from tasks.lake.errors import UsageError

from .cdo import cdo, golden, needs_cdo, write

KELVIN = st.floats(200, 330, width=32)
WIND = st.floats(-120, 120, width=32)


@pytest.mark.parametrize(
    ("u", "v", "degrees"), [(0, -5, 0), (-5, 0, 90), (0, 5, 180), (5, 0, 270), (-3, -3, 45), (-1e-30, -1, 0)]
)
def test_the_wind_is_called_after_where_it_comes_from(u: float, v: float, degrees: float):
    found = wind_direction(np.array([u], "float32"), np.array([v], "float32"))
    np.testing.assert_allclose(found, degrees, atol=1e-4)
    assert found.dtype == np.float32


def test_calm_air_has_no_direction():
    assert np.isnan(wind_direction(np.zeros(1, "float32"), np.zeros(1, "float32")))


@given(u=WIND, v=WIND)
def test_speed_and_direction_give_the_components_back(u: float, v: float):
    east, north = np.array([u], "float32"), np.array([v], "float32")
    speed, direction = wind_speed(east, north), wind_direction(east, north)
    if np.isnan(direction):
        assert u == v == 0
        return
    assert 0 <= direction < 360
    np.testing.assert_allclose(-speed * np.sin(np.radians(direction)), u, atol=2e-4)
    np.testing.assert_allclose(-speed * np.cos(np.radians(direction)), v, atol=2e-4)


@pytest.mark.parametrize(
    ("celsius", "hectopascal"),
    # Saturation over water: Smithsonian Meteorological Tables (1951), table 94 (Goff-Gratch), supercooled below zero.
    [(-40, 0.1891), (-20, 1.2540), (-10, 2.8627), (0, 6.1078), (10, 12.272), (20, 23.373), (30, 42.430), (40, 73.777)],
)
def test_saturation_pressure_is_that_of_the_tables(celsius: float, hectopascal: float):
    found = saturation_pressure(np.array([celsius + 273.15])) / 100
    np.testing.assert_allclose(found, hectopascal, rtol=3e-3 if celsius >= -20 else 2e-2)


@given(t=KELVIN, below=st.floats(0, 45, width=32))
def test_humidity_and_dew_point_are_inverse(t: float, below: float):
    temperature, dew = np.array([t], "float32"), np.array([t - below], "float32")
    humidity = relative_humidity(temperature, dew)
    assert 0 <= humidity <= 100
    if humidity >= 0.2:
        np.testing.assert_allclose(dew_point(temperature, humidity), dew, atol=5e-3)


def test_saturated_supersaturated_and_dry_air():
    t = np.full(4, 280, "float32")
    np.testing.assert_array_equal(relative_humidity(t[:2], np.array([280, 280.4], "float32")), [100, 100])
    td = dew_point(t, np.array([100, 104, 0, -1], "float32"))
    np.testing.assert_allclose(td[:2], 280, atol=1e-3)
    assert np.isfinite(td[2:]).all()
    assert (td[2:] < 210).all()


def test_missing_values_stay_missing():
    t = np.array([280, np.nan, 280], "float32")
    d = np.array([270, 270, np.nan], "float32")
    for function in (wind_speed, wind_direction, relative_humidity, dew_point):
        assert np.isnan(function(t, d)).tolist() == [False, True, True]


def test_against_arithmetic_that_cdo_did():
    kept = golden("derived")
    np.testing.assert_allclose(wind_speed(kept["u"], kept["v"]), kept["ws"], rtol=1e-6)
    np.testing.assert_allclose(wind_direction(kept["u"], kept["v"]), kept["wd"] % 360, atol=1e-4)
    np.testing.assert_allclose(relative_humidity(kept["t"], kept["d"]), np.minimum(kept["rh"], 100), rtol=1e-5)


@needs_cdo
def test_against_cdo_arithmetic(tmp_path: Path):
    rng = np.random.default_rng(1)
    u, v = rng.normal(0, 10, (2, 3, 10, 12)).astype("float32")
    t = rng.uniform(240, 310, (3, 10, 12)).astype("float32")
    d = t - rng.uniform(0, 20, t.shape).astype("float32")
    file = write(tmp_path / "in.nc", {"u": u, "v": v, "t": t, "d": d}, np.arange(10.0), np.arange(12.0))
    es = "exp(17.502*({0}-273.16)/({0}-32.19))"
    expressions = [
        "ws=sqrt(u*u+v*v)",
        "wd=270-atan2(v,u)*57.29577951308232",
        f"rh=100*{es.format('d')}/{es.format('t')}",
    ]
    expected = cdo(["-expr," + ";".join(expressions)], [file], tmp_path / "out.nc")
    np.testing.assert_allclose(wind_speed(u, v), expected["ws"], rtol=1e-6)
    np.testing.assert_allclose(wind_direction(u, v), expected["wd"] % 360, atol=1e-4)
    np.testing.assert_allclose(relative_humidity(t, d), np.minimum(expected["rh"], 100), rtol=1e-5)


@pytest.mark.parametrize(
    ("units", "to", "factor", "offset"),
    [
        ("m", "mm", 1000, 0),
        ("K", "degC", 1, -273.15),
        ("m s**-1", "km h-1", 3.6, 0),
        ("m s-1", "mm h-1", 3.6e6, 0),
        ("kg m**-2 s**-1", "mm h-1", 3600, 0),
        ("m of water equivalent", "kg m-2", 1000, 0),
        ("J m**-2 s-1", "W m-2", 1, 0),
        ("%", "1", 0.01, 0),
        ("Pa", "hPa", 0.01, 0),
        ("gpm", "m", 1, 0),
        ("m s**-1", "m s-1", 1, 0),
    ],
)
def test_units(units: str, to: str, factor: float, offset: float):
    np.testing.assert_allclose(conversion(units, to), (factor, offset), rtol=1e-12)


@pytest.mark.parametrize(
    ("units", "to", "sentence"),
    [("m", "K", "'m' cannot be converted to 'K'"), ("m", "furlongs per fortnite", "is no unit that is known")],
)
def test_units_that_do_not_fit_are_refused(units: str, to: str, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        conversion(units, to)
