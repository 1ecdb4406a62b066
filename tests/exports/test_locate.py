"""Cells for points, held against ecCodes and brute force."""

import eccodes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.exports.fields import Horizontal, horizontal
from tasks.exports.locate import bilinear, great_circle_km, nearest
from tests.exports.runs import make_run

LAMBERT = horizontal(make_run("lambert"))
LATITUDES, LONGITUDES = st.floats(-90, 90), st.floats(-180, 360)


def global_grid(west: float) -> Horizontal:
    return Horizontal("latitude", "longitude", np.arange(90, -90.1, -7.5), west + np.arange(0, 360, 7.5))


def brute_force_km(grid: Horizontal, lat: float, lon: float) -> float:
    """Distance to the nearest cell by the spherical law of cosines, over all cells."""
    lats, lons = (
        np.meshgrid(grid.latitude, grid.longitude, indexing="ij") if grid.regular else (grid.latitude, grid.longitude)
    )
    a, b, d = np.radians(lats), np.radians(lat), np.radians(lons - lon)
    return float(6371.229 * np.arccos(np.clip(np.sin(a) * np.sin(b) + np.cos(a) * np.cos(b) * np.cos(d), -1, 1)).min())


@settings(deadline=None)
@given(LATITUDES, LONGITUDES, st.sampled_from([-180.0, 0.0, 3.75]))
def test_nearest_cell_of_a_global_grid_is_the_nearest_of_all(lat, lon, west):
    grid = global_grid(west)
    places, inside = nearest(grid, np.array([lat]), np.array([lon]))
    found = great_circle_km(lat, lon, grid.latitude[places.rows[0, 0]], grid.longitude[places.columns[0, 0]])
    assert inside.all()
    assert found == pytest.approx(brute_force_km(grid, lat, lon), abs=0.2)


def test_near_a_pole_the_nearest_cell_may_lie_on_another_row():
    grid = Horizontal("latitude", "longitude", np.array([80.0, 60.0]), np.array([0.0, 90.0, 180.0, 270.0]))
    places, _ = nearest(grid, np.array([69.0]), np.array([45.0]))
    assert grid.latitude[places.rows[0, 0]] == 80
    assert great_circle_km(69, 45, 80, 0) < great_circle_km(69, 45, 60, 0)


def test_nearest_agrees_with_eccodes():
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    for key, value in {
        "Ni": 16, "Nj": 31, "latitudeOfFirstGridPointInDegrees": 60, "longitudeOfFirstGridPointInDegrees": 0,
        "latitudeOfLastGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 30,
        "iDirectionIncrementInDegrees": 2, "jDirectionIncrementInDegrees": 2, "bitsPerValue": 24,
    }.items():  # fmt: skip
        eccodes.codes_set(handle, key, value)
    values = np.arange(31 * 16, dtype=float)
    eccodes.codes_set_values(handle, values)
    grid = Horizontal("latitude", "longitude", np.arange(60, -0.1, -2.0), np.arange(0, 30.1, 2.0))
    wanted = np.random.default_rng(1).uniform([0, 0], [60, 30], size=(50, 2))
    places, inside = nearest(grid, wanted[:, 0], wanted[:, 1])
    assert inside.all()
    for (lat, lon), row, column in zip(wanted, places.rows[:, 0], places.columns[:, 0], strict=True):
        theirs = eccodes.codes_grib_find_nearest(handle, lat, lon)[0]
        assert values.reshape(31, 16)[row, column] == pytest.approx(theirs.value, abs=0.01)
        assert great_circle_km(lat, lon, grid.latitude[row], grid.longitude[column]) == pytest.approx(
            theirs.distance, rel=1e-3
        )
    eccodes.codes_release(handle)


@settings(max_examples=30, deadline=None)  # every call builds the search tree
@given(st.floats(33, 44), st.floats(-108, -88), st.sampled_from([0, 360]))
def test_curvilinear_nearest_is_the_nearest_of_all(lat, lon, turn):
    grid = LAMBERT
    places, inside = nearest(grid, np.array([lat]), np.array([lon + turn]))
    at = places.rows[0, 0], places.columns[0, 0]
    assert inside.all()
    assert great_circle_km(lat, lon, grid.latitude[at], grid.longitude[at]) == pytest.approx(
        brute_force_km(grid, lat, lon), abs=0.2
    )


@pytest.mark.parametrize(
    ("kind", "lat", "lon", "on"),
    [
        ("regional", 60.2, 0, True), ("regional", 60.3, 0, False), ("regional", 50, 20.2, True),
        ("regional", 50, 20.3, False), ("regional", 50, 350, True), ("regional", 50, 349, False),
        ("lambert", 38.5, -97.5, True), ("lambert", 38.5, 97.5, False), ("lambert", 20, -97.5, False),
        ("global", 90, 0, True), ("global-360", -90, -0.1, True), ("global", 0, 359.9, True),
    ],
)  # fmt: skip
def test_points_beyond_half_a_cell_are_off_the_grid(kind, lat, lon, on):
    assert nearest(horizontal(make_run(kind)), np.array([lat]), np.array([lon]))[1].tolist() == [on]
    if kind != "lambert":
        assert bilinear(horizontal(make_run(kind)), np.array([lat]), np.array([lon]))[1].tolist() == [on]


@settings(deadline=None)
@given(st.floats(40, 60), st.floats(-10, 20), st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([0, 360]))
def test_bilinear_reproduces_a_plane(lat, lon, along_lat, along_lon, turn):
    grid = Horizontal("latitude", "longitude", np.arange(60, 39.9, -0.5), np.arange(-10, 20.1, 0.5))
    plane = along_lat * grid.latitude[:, None] + along_lon * grid.longitude[None, :]
    places, inside = bilinear(grid, np.array([lat]), np.array([lon + turn if lon + turn <= 360 else lon]))
    assert inside.all()
    value = (plane[places.rows, places.columns] * places.weights).sum()
    assert value == pytest.approx(along_lat * lat + along_lon * lon, abs=1e-6)


@settings(deadline=None)
@given(LATITUDES, LONGITUDES, st.sampled_from([-180.0, 0.0, 3.75]))
def test_bilinear_is_periodic_and_its_weights_add_up(lat, lon, west):
    grid = global_grid(west)
    field = np.cos(np.radians(grid.longitude))[None, :] * np.ones((25, 1))
    places, _ = bilinear(grid, np.array([lat]), np.array([lon]))
    assert places.weights.sum() == pytest.approx(1)
    value = (field[places.rows, places.columns] * places.weights).sum()
    assert value == pytest.approx(np.cos(np.radians(lon)), abs=0.01)
