"""Grids: bounds, order, identity, coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS

from tasks.grids import axis, gaussian, mapping
from tasks.grids.grid import Grid, from_coordinates, from_spec
from tasks.grids.spec import GridSpec
from tasks.lake.errors import UsageError

from .oracle import grid, variables

QUARTER = from_coordinates(np.linspace(90, -90, 721), np.arange(1440) * 0.25)


@pytest.mark.parametrize("name", ["g5", "us05"])
def test_bounds_are_midpoints(name: str) -> None:
    lat, lon, lat_bounds, lon_bounds = variables(f"grid_{name}", "lat", "lon", "lat_bnds", "lon_bnds")
    mine = from_coordinates(lat, lon)
    np.testing.assert_allclose(mine.latitude_bounds, lat_bounds, atol=1e-12)
    np.testing.assert_allclose(mine.longitude_bounds, lon_bounds, atol=1e-12)


def test_corners_guessed_from_centres_are_near_the_projections_own() -> None:
    """Of 30 km cells on a Lambert grid: within some 20 m."""
    lat, lon = variables("grid_lcc", "lat", "lon")
    guessed, given_corners = from_coordinates(lat, lon), grid("lcc")
    gap = np.linalg.norm(guessed.corners[:, :, None] - given_corners.corners[:, None], axis=-1).min(axis=2).max()
    assert gap < 20 / 6371229
    np.testing.assert_allclose(guessed.areas, given_corners.areas, rtol=2e-3)


def test_a_spec_fills_its_box() -> None:
    made = from_spec(GridSpec(name="eu", spacing=0.1, bbox=(-15, 30, 25, 60)))
    assert made.shape == (300, 400)
    assert (made.latitude[0], made.latitude[-1]) == (59.95, 30.05)
    assert (made.longitude[0], made.longitude[2], made.longitude[-1]) == (-14.95, -14.75, 24.95)
    assert made.latitude_bounds.max() == 60
    assert made.longitude_bounds.min() == -15
    assert not made.is_periodic
    assert made.areas.sum() == pytest.approx(np.radians(40) * (np.sin(np.radians(60)) - 0.5), rel=1e-12)


def test_a_spec_of_one_cell() -> None:
    made = from_spec(GridSpec(name="one", spacing=90, bbox=(0, 0, 90, 90)))
    assert made.shape == (1, 1)
    assert made.areas[0, 0] == pytest.approx(np.pi / 2)


@given(st.integers(3, 40), st.integers(4, 60), st.floats(-180, 360).map(lambda v: round(v, 2)), st.booleans())
def test_global_areas_sum_to_the_sphere(ny: int, nx: int, first: float, poles: bool) -> None:
    lat = np.linspace(-90, 90, ny) if poles else -90 + 180 / ny * (np.arange(ny) + 0.5)
    made = from_coordinates(lat, first + 360 / nx * np.arange(nx))
    assert made.is_periodic
    assert made.is_global
    assert made.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)


@pytest.mark.parametrize(
    ("longitude", "periodic"),
    [
        (np.arange(0, 360, 0.25), True),
        (np.arange(0, 361, 1.0), True),
        (np.arange(0, 359, 1.0), False),
        (np.linspace(0, 359.833333, 2160), True),
        (np.arange(180, -180, -1.0), True),
        (np.arange(-15, 26, 1.0), False),
        (np.array([10.0]), False),
    ],
)
def test_going_round(longitude: np.ndarray, periodic: bool) -> None:
    assert axis.is_periodic(longitude) is periodic


def test_gaussian_rows_are_symmetric_and_fill_the_sphere() -> None:
    latitude, bounds = gaussian.rows(48)
    np.testing.assert_array_equal(latitude, -latitude[::-1])
    assert (bounds[0, 0], bounds[-1, 1]) == (90, -90)
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])
    assert np.all((latitude < bounds[:, 0]) & (latitude > bounds[:, 1]))


@pytest.mark.parametrize("longitude", ["source", "-180", "0"])
@pytest.mark.parametrize("latitude", ["source", "north-south", "south-north"])
@pytest.mark.parametrize("source", [QUARTER, grid("g2"), grid("g5"), grid("eu05")], ids=["quarter", "g2", "g5", "eu05"])
def test_values_move_with_their_places(source: Grid, longitude, latitude) -> None:
    moved, order = source.reorder(longitude=longitude, latitude=latitude)
    lat, lon = (p.reshape(source.shape) for p in source.points)
    np.testing.assert_array_equal(order(lat).ravel(), moved.points[0])
    np.testing.assert_allclose(np.mod(order(lon).ravel() - moved.points[1] + 180, 360) - 180, 0, atol=1e-9)
    if longitude != "source":
        start = {"-180": -180, "0": 0}[longitude]
        assert (np.diff(moved.longitude) > 0).all()
        assert start <= moved.longitude[0] < start + 360
        assert not source.is_periodic or moved.longitude[-1] < start + 360
    if latitude != "source":
        assert (moved.latitude[0] > moved.latitude[-1]) is np.bool_(latitude == "north-south")
    np.testing.assert_allclose(order(source.areas), moved.areas, atol=1e-14)
    again, back = moved.reorder(longitude=longitude, latitude=latitude)
    assert again == moved
    assert back(lat) is lat


def test_exact_longitudes_stay_exact() -> None:
    moved, _ = QUARTER.reorder(longitude="-180")
    np.testing.assert_array_equal(moved.longitude, -180 + 0.25 * np.arange(1440))


def test_a_repeated_longitude_is_dropped() -> None:
    twice = from_coordinates(np.linspace(90, -90, 19), np.arange(0.0, 361, 10))
    moved, order = twice.reorder(longitude="-180")
    assert moved.shape == (19, 36)
    assert order(np.zeros((2, *twice.shape))).shape == (2, 19, 36)


def test_fields_in_front_keep_their_place() -> None:
    _, order = QUARTER.reorder(longitude="-180", latitude="south-north")
    fields = np.arange(2 * QUARTER.size, dtype="float32").reshape(2, *QUARTER.shape)
    np.testing.assert_array_equal(order(fields)[1], order(fields[1]))


def test_other_kinds_keep_their_order() -> None:
    moved, order = grid("lcc").reorder(longitude="-180")
    field = np.zeros(moved.shape)
    assert order(field) is field
    assert moved.longitude.max() < 0
    with pytest.raises(UsageError, match="latitude axis"):
        grid("lcc").reorder(latitude="north-south")


def test_the_digest_knows_content_not_objects() -> None:
    again = from_coordinates(np.linspace(90, -90, 721), np.arange(1440) * 0.25)
    assert again == QUARTER
    assert hash(again) == hash(QUARTER)
    assert QUARTER.digest == "sha256:" + QUARTER.digest.removeprefix("sha256:")
    others = [
        from_coordinates(np.linspace(-90, 90, 721), np.arange(1440) * 0.25),
        from_coordinates(np.linspace(90, -90, 721), np.arange(1440) * 0.25 - 180),
        from_coordinates(QUARTER.latitude, QUARTER.longitude, longitude_bounds=QUARTER.longitude_bounds),
    ]
    assert len({QUARTER.digest, *(g.digest for g in others)}) == 4
    assert QUARTER.reorder(latitude="south-north")[0] == others[0]


def test_minus_zero_is_zero() -> None:
    plus, minus = np.array([0.0, 1]), np.array([-0.0, 1])
    assert from_coordinates(minus, plus) == from_coordinates(plus, minus)


MAPPINGS = [
    mapping.SPHERE,
    mapping.WGS84,
    {
        "grid_mapping_name": "lambert_conformal_conic", "standard_parallel": [38.5, 38.5], "earth_radius": 6371229.0,
        "longitude_of_central_meridian": 262.5, "latitude_of_projection_origin": 38.5,
    },
    {
        "grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0, "earth_radius": 6371229.0,
    },
]  # fmt: skip


@pytest.mark.parametrize("attributes", MAPPINGS, ids=lambda m: m["grid_mapping_name"])
def test_the_mapping_is_readable_by_other_software(attributes: dict) -> None:
    written = mapping.attributes(attributes)
    crs = CRS.from_wkt(written["crs_wkt"])
    assert crs.to_cf()["grid_mapping_name"] == attributes["grid_mapping_name"]
    assert crs.ellipsoid is not None
    assert crs.ellipsoid.semi_major_metre == attributes.get("earth_radius", attributes.get("semi_major_axis"))


def test_coordinates_of_each_kind() -> None:
    regular = QUARTER.coordinates()
    assert {n: d for n, (d, _, _) in regular.items()} == {
        "latitude": ("latitude",), "longitude": ("longitude",), "spatial_ref": (),
    }  # fmt: skip
    assert regular["latitude"][2]["units"] == "degrees_north"
    x, y = np.arange(4) * 3000.0, np.arange(3) * 3000.0
    lat, lon = mapping.geographic(MAPPINGS[2], *np.meshgrid(x, y))
    projected = Grid("curvilinear", lat, lon, x=x, y=y, mapping=MAPPINGS[2]).coordinates()
    assert {n: d for n, (d, _, _) in projected.items()} == {
        "y": ("y",), "x": ("x",), "latitude": ("y", "x"), "longitude": ("y", "x"), "spatial_ref": (),
    }  # fmt: skip
    assert projected["x"][2]["standard_name"] == "projection_x_coordinate"
    points = Grid("unstructured", np.array([1.0, 2]), np.array([3.0, 4])).coordinates()
    assert {n: d for n, (d, _, _) in points.items()} == {
        "latitude": ("cell",), "longitude": ("cell",), "spatial_ref": (),
    }  # fmt: skip


def test_a_rotated_pole_against_proj() -> None:
    from pyproj import Proj

    rotated = Proj("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +R=6371229")
    x, y = np.meshgrid(np.linspace(-30, 30, 7), np.linspace(-25, 25, 6))
    lon, lat = rotated(np.radians(x), np.radians(y), inverse=True)
    mine = mapping.geographic(MAPPINGS[3], x, y)
    np.testing.assert_allclose(mine[0], lat, atol=1e-9)
    np.testing.assert_allclose(mine[1], lon, atol=1e-9)


@pytest.mark.parametrize(
    ("latitude", "longitude", "words"),
    [
        (np.array([0.0, 100]), np.array([0.0, 1]), "between the poles"),
        (np.array([0.0, 1, 0.5]), np.array([0.0, 1]), "up or down"),
        (np.array([0.0, np.nan]), np.array([0.0, 1]), "finite"),
        (np.array([0.0, 1]), np.zeros((2, 2)), "1-D coordinates"),
        (np.zeros((2, 2)), np.zeros((2, 3)), "differ in shape"),
        (np.array([]), np.array([0.0, 1]), "finite"),
    ],
)
def test_coordinates_that_make_no_grid_are_refused(latitude: np.ndarray, longitude: np.ndarray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_coordinates(latitude, longitude)


def test_bounds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="bounds do not fit"):
        from_coordinates(np.array([0.0, 1]), np.array([0.0, 1]), np.zeros((3, 2)))
