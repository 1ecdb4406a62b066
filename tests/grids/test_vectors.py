"""Grid-relative vectors made earth-relative: CDO's numbers, NCEP's formula, and the laws of a rotation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.grids import mapping, vectors
from tasks.grids.from_cf import from_file
from tasks.grids.grid import Grid, from_coordinates
from tasks.grids.named import from_name
from tasks.lake.errors import UsageError

from .oracle import GOLDEN, grid, variables


def projected(attributes: dict, x: np.ndarray, y: np.ndarray) -> Grid:
    lat, lon = mapping.geographic(attributes, *np.meshgrid(x, y))
    return Grid("curvilinear", lat, lon, x=x, y=y, mapping=attributes)


NAM = from_name("ncep-211")
STEREO = {
    "grid_mapping_name": "polar_stereographic", "straight_vertical_longitude_from_pole": 10.0,
    "latitude_of_projection_origin": 90.0, "standard_parallel": 60.0, "earth_radius": 6371229.0,
}  # fmt: skip


def test_a_rotated_pole_as_cdo_turns_it() -> None:
    made = from_file(GOLDEN / "cdo_rotated_wind.nc", "u")
    u, v, east, north = variables("cdo_rotated_wind", "u", "v", "u_earth", "v_earth")
    mine = vectors.earth_relative(u, v, vectors.angle(made))
    assert np.abs(u - east).max() > 1
    np.testing.assert_allclose(mine[0], east, atol=1e-12)
    np.testing.assert_allclose(mine[1], north, atol=1e-12)


def test_a_lambert_grid_as_ncep_turns_it() -> None:
    """NCEP's formula for HRRR and RAP: turn by sin(latitude of tangency) times the longitude from the meridian."""
    off = (NAM.longitude - 265 + 180) % 360 - 180
    turn = np.sin(np.radians(25)) * np.radians(off)
    u, v = np.full(NAM.shape, 7.0), np.full(NAM.shape, -2.0)
    east, north = vectors.earth_relative(u, v, vectors.angle(NAM))
    np.testing.assert_allclose(east, np.cos(turn) * u + np.sin(turn) * v, atol=1e-8)
    np.testing.assert_allclose(north, -np.sin(turn) * u + np.cos(turn) * v, atol=1e-8)


def test_a_polar_stereographic_grid_turns_with_the_longitude() -> None:
    made = projected(STEREO, np.linspace(-3e6, 3e6, 8), np.linspace(-3e6, 3e6, 8))
    difference = vectors.angle(made) + np.radians(made.longitude - 10)
    np.testing.assert_allclose(np.cos(difference), 1, atol=1e-12)


@pytest.mark.parametrize("made", [NAM, projected(STEREO, np.linspace(1e6, 3e6, 81), np.linspace(1e6, 3e6, 81))])
def test_neighbours_tell_the_same_as_the_projection(made: Grid) -> None:
    loose = Grid("curvilinear", made.latitude, made.longitude)
    difference = (vectors.angle(loose) - vectors.angle(made))[:, 1:-1]
    np.testing.assert_allclose(np.sin(difference), 0, atol=2e-3)


@given(st.floats(-4, 4), st.floats(-50, 50), st.floats(-50, 50))
def test_a_turn_keeps_the_speed_and_can_be_undone(turn: float, u: float, v: float) -> None:
    angle = np.full((2, 3), turn)
    east, north = vectors.earth_relative(np.full((4, 2, 3), u), np.full((4, 2, 3), v), angle)
    np.testing.assert_allclose(np.hypot(east, north), np.hypot(u, v), atol=1e-12)
    back = vectors.earth_relative(east, north, -angle)
    np.testing.assert_allclose(back[0], u, atol=1e-12)
    np.testing.assert_allclose(back[1], v, atol=1e-12)


def test_in_place_and_in_single_precision() -> None:
    random = np.random.default_rng(0)
    u, v = random.random((3, *NAM.shape), dtype="float32"), random.random((3, *NAM.shape), dtype="float32")
    angle = vectors.angle(NAM)
    east, north = vectors.earth_relative(u, v, angle)
    assert east.dtype == np.float32
    assert vectors.earth_relative(u, v, angle, out=(u, v))[0] is u
    np.testing.assert_array_equal(u, east)
    np.testing.assert_array_equal(v, north)


@pytest.mark.parametrize("made", [grid("g2"), from_name("O32")], ids=["rectilinear", "reduced"])
def test_rows_along_the_equator_need_no_turn(made: Grid) -> None:
    assert not vectors.angle(made).any()


def test_a_gap_in_one_component_is_a_gap_in_both() -> None:
    u, v = np.array([1.0, np.nan]), np.array([2.0, 3.0])
    east, north = vectors.earth_relative(u, v, np.array([0.3, 0.3]))
    assert np.isnan(east).tolist() == np.isnan(north).tolist() == [False, True]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="different grids"):
        vectors.earth_relative(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(UsageError, match="grid of points"):
        vectors.angle(Grid("unstructured", np.array([1.0, 2]), np.array([3.0, 4])))
    with pytest.raises(UsageError, match="single column"):
        vectors.angle(from_coordinates(np.array([[1.0], [2.0]]), np.array([[3.0], [3.0]])))
