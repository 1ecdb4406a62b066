"""Cells as polygons: areas that are known, pairs that are found, and the same weights wherever they are made."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.grids import cells, clip, mapping
from tasks.grids.grid import Grid, from_coordinates
from tasks.grids.named import from_name
from tasks.grids.weights import make
from tasks.lake.errors import UsageError

from .oracle import grid, largest


def square(latitude: float, longitude: float, half: float) -> np.ndarray:
    """A small square around a point, turned by nothing: ``(3, 4, 1)``."""
    made = from_coordinates(
        np.array([latitude]), np.array([longitude]),
        np.array([[latitude - half, latitude + half]]), np.array([[longitude - half, longitude + half]]),
    )  # fmt: skip
    return np.ascontiguousarray(made.corners.transpose(2, 1, 0))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(clip.overlaps(a, clip.edge_planes(b))[0])


def test_an_octant_is_an_eighth_of_the_sphere() -> None:
    octant = np.eye(3)[:, :, None]
    assert clip.areas(octant)[0] == pytest.approx(np.pi / 2, rel=1e-15)
    assert clip.areas(octant[:, ::-1])[0] == pytest.approx(-np.pi / 2, rel=1e-15)


@given(
    st.floats(-80, 80), st.floats(-180, 180), st.floats(0.001, 4), st.floats(0.001, 4),
    st.floats(-5, 5), st.floats(-5, 5),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_overlaps_are_mutual_and_no_larger_than_either(
    latitude: float, longitude: float, half_a: float, half_b: float, north: float, east: float
) -> None:
    a, b = square(latitude, longitude, half_a), square(latitude + north, longitude + east, half_b)
    common = overlap(a, b)
    smaller = min(float(clip.areas(a)[0]), float(clip.areas(b)[0]))
    assert 0 <= common <= smaller * (1 + 1e-9)
    assert common == pytest.approx(overlap(b, a), rel=1e-9, abs=1e-16)
    if max(abs(north), abs(east)) + half_b < half_a * 0.9:
        assert common == pytest.approx(smaller, rel=1e-9)


@given(st.floats(-60, 60), st.floats(0, 360), st.floats(0.01, 3), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_parts_make_the_whole(latitude: float, longitude: float, half: float, share: float) -> None:
    """A square cut by a meridian of another two: what one takes the other leaves."""
    whole = square(latitude, longitude, half)
    edge = longitude - half + 2 * half * share
    parts = [square(latitude, edge + side * 10, 10) for side in (-1, 1)]
    assert sum(overlap(whole, p) for p in parts) == pytest.approx(float(clip.areas(whole)[0]), rel=1e-11)


ROTATED = {
    "grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 35.0,
    "grid_north_pole_longitude": -170.0, "earth_radius": 6371229.0,
}  # fmt: skip


def rotated(x: np.ndarray, y: np.ndarray) -> Grid:
    lat, lon = mapping.geographic(ROTATED, *np.meshgrid(x, y))
    return Grid("curvilinear", lat, lon, x=x, y=y, mapping=ROTATED)


@pytest.mark.parametrize("poles", [False, True])
@pytest.mark.parametrize("target", ["g2", "g5"])
@pytest.mark.parametrize("start", [0.0, -180.0])
def test_a_global_rotated_grid_covers_the_earth(target: str, poles: bool, start: float) -> None:
    """Its seam and its poles lie anywhere; nothing is lost, and both of the earth's poles lie inside a cell."""
    y = np.linspace(-90, 90, 19) if poles else np.arange(-85.0, 90, 10)
    source = rotated(start + np.arange(0.0, 360, 10), y)
    assert source.is_periodic
    assert source.is_global
    assert source.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    there, back = make(source, grid(target), "conservative"), make(grid(target), source, "conservative")
    for made in (there, back):
        for share in (made.frac_a, made.frac_b):
            assert share is not None
            np.testing.assert_allclose(share, 1, atol=1e-11)
        np.testing.assert_allclose(made.row_sums, 1, atol=1e-12)
    smooth = make(source, grid(target), "bilinear")
    np.testing.assert_allclose(smooth.row_sums, 1, atol=1e-12)
    assert np.abs(smooth.matrix @ source.vectors - grid(target).vectors).max() < 0.01


def test_a_rotated_column_that_comes_twice_counts_once() -> None:
    source = rotated(np.arange(0.0, 361, 10), np.arange(-85.0, 90, 10))
    assert source.areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    smooth = make(source, grid("g5"), "bilinear")
    np.testing.assert_allclose(smooth.row_sums, 1, atol=1e-12)
    last = np.arange(source.shape[1] - 1, source.size, source.shape[1])
    assert smooth.matrix[:, last].nnz == 0


@pytest.mark.parametrize("backend", ["auto", "curvilinear"])
def test_curvilinear_grids_meet_curvilinear_grids(backend: str) -> None:
    """A patch inside a larger one on another projection: what it takes is what the larger one has there."""
    outer, inner = from_name("ncep-211"), grid("lcc")
    made = make(outer, inner, "conservative", backend=backend)
    assert made.frac_b is not None
    np.testing.assert_allclose(made.frac_b, 1, atol=1e-11)
    np.testing.assert_allclose(make(outer, inner, "bilinear", backend=backend).row_sums, 1, atol=1e-12)
    # Only the coordinates, without the projection: found by a search tree.
    loose = Grid("curvilinear", outer.latitude, outer.longitude)
    by_tree, by_axes = (make(source, inner, "bilinear").matrix for source in (loose, outer))
    assert largest(by_tree, by_axes) < 1e-12


def test_all_pairs_that_overlap_are_found() -> None:
    """Against trying every pair, for every kind of cells."""
    source, target = rotated(np.arange(0.0, 360, 30), np.arange(-75.0, 90, 30)), grid("lcc")
    for one, other in ((source, grid("g5")), (source, source), (grid("us05"), target), (target, grid("us05"))):
        ours, theirs = cells.of(one), cells.of(other)
        mine = ours.corners(np.arange(min(one.size, 60)))
        which, number = theirs.around(mine).near(mine)
        found = set(zip(which.tolist(), number.tolist(), strict=True))
        planes = clip.edge_planes(theirs.corners(np.arange(other.size)))
        for polygon in range(mine.shape[2]):
            alone = np.repeat(mine[:, :, [polygon]], other.size, axis=2)
            hit = np.flatnonzero(clip.overlaps(alone, planes) > 1e-16)
            assert {(polygon, int(n)) for n in hit} <= found


def test_no_pair_is_named_twice() -> None:
    ours, theirs = (cells.of(grid(n)) for n in ("g5", "g2"))
    mine = ours.corners(np.arange(grid("g5").size))
    which, number = theirs.near(mine)
    assert np.unique(which * grid("g2").size + number).size == which.size


def test_cells_of_half_a_turn_are_refused() -> None:
    wide = from_coordinates(np.array([-45.0, 45.0]), np.array([90.0, 270.0]))
    with pytest.raises(UsageError, match="half a turn"):
        make(wide, grid("g5"), "conservative", backend="curvilinear")


@pytest.mark.slow
@pytest.mark.parametrize("pair", [("g5", "g2"), ("lcc", "us05"), ("us05", "lcc")])
def test_processes_make_the_same_weights(pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_TILE", 16)
    source, target = (grid(n) for n in pair)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        apart = make(source, target, "conservative", backend="curvilinear", pool=pool)
    assert largest(apart.matrix, make(source, target, "conservative", backend="curvilinear").matrix) == 0


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(cells, "_TILE", 16)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        apart = make(grid("lcc"), grid("us05"), "conservative", pool=client.get_executor())
    assert largest(apart.matrix, make(grid("lcc"), grid("us05"), "conservative").matrix) == 0
