"""Laws every set of weights obeys, files of weights, and what is refused."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.grids import gaussian
from tasks.grids.apply import apply
from tasks.grids.grid import Grid, from_coordinates, from_spec
from tasks.grids.spec import GridSpec
from tasks.grids.weights import load_weights, make
from tasks.lake.errors import CorruptInput, UsageError

from .oracle import GOLDEN, grid, largest, weights


def octahedral(number: int) -> Grid:
    """The reduced Gaussian grid O<number>: 20 points in the first row, 4 more in each row to the equator."""
    latitude, bounds = gaussian.rows(number)
    half = [20 + 4 * i for i in range(number)]
    sizes = (*half, *half[::-1])
    longitude = np.concatenate([np.arange(n) * 360 / n for n in sizes])
    return Grid("unstructured", np.repeat(latitude, sizes), longitude, given_latitude_bounds=bounds, row_sizes=sizes)


@st.composite
def global_grids(draw: st.DrawFn) -> Grid:
    """Regular global grids: with and without pole points, any first longitude, any order of rows and columns."""
    ny, nx = draw(st.integers(3, 12)), draw(st.integers(4, 16))
    first = draw(st.floats(-180, 360, allow_nan=False).map(lambda v: round(v, 3)))
    poles = draw(st.booleans())
    lat = np.linspace(-90, 90, ny) if poles else -90 + 180 / ny * (np.arange(ny) + 0.5)
    lon = first + 360 / nx * np.arange(nx)
    return from_coordinates(lat[:: draw(st.sampled_from([1, -1]))], lon[:: draw(st.sampled_from([1, -1]))])


@given(global_grids(), global_grids(), st.sampled_from(["conservative", "bilinear", "nearest"]))
@settings(max_examples=80, deadline=None)
def test_a_constant_stays_a_constant(source: Grid, target: Grid, method: str) -> None:
    made = make(source, target, method)
    np.testing.assert_allclose(made.row_sums, 1, atol=1e-12)
    assert made.matrix.data.min() > 0
    assert made.matrix.has_canonical_format


@given(global_grids(), global_grids(), st.sampled_from(["auto", "curvilinear"]))
@settings(max_examples=60, deadline=None)
def test_the_integral_is_conserved(source: Grid, target: Grid, backend: str) -> None:
    made = make(source, target, "conservative", backend=backend)
    field = np.random.default_rng(0).normal(size=source.size)
    assert made.area_a is not None
    assert made.area_b is not None
    before, after = made.area_a @ field, made.area_b @ (made.matrix @ field)
    assert abs(before - after) < 1e-12 * 4 * np.pi
    np.testing.assert_allclose(made.frac_a, 1, atol=1e-11)


@given(global_grids(), global_grids(), st.sampled_from(["conservative", "bilinear"]), st.sampled_from([-360, 360]))
@settings(max_examples=40, deadline=None)
def test_a_turn_of_the_longitudes_changes_nothing(source: Grid, target: Grid, method: str, turn: int) -> None:
    turned = from_coordinates(target.latitude, target.longitude + turn)
    assert largest(make(source, target, method).matrix, make(source, turned, method).matrix) < 1e-9


@given(
    global_grids(), global_grids(), st.sampled_from(["conservative", "bilinear"]),
    st.sampled_from(["source", "-180", "0"]), st.sampled_from(["source", "north-south", "south-north"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_source_changes_nothing(
    source: Grid, target: Grid, method: str, longitude: Any, latitude: Any
) -> None:
    field = np.random.default_rng(0).random(source.shape)
    moved, order = source.reorder(longitude=longitude, latitude=latitude)
    np.testing.assert_allclose(
        apply(make(moved, target, method), order(field)), apply(make(source, target, method), field), atol=1e-6
    )


def test_both_backends_agree_where_a_cell_is_almost_flat() -> None:
    source, target = grid("g1p"), grid("eu05")
    for method, tolerance in (("bilinear", 2e-3), ("conservative", 2e-3)):
        boxes, planes = (make(source, target, method, backend=b) for b in ("rectilinear", "curvilinear"))
        assert 0 < largest(boxes.matrix, planes.matrix) < tolerance


def test_bilinear_keeps_a_plane_in_degrees() -> None:
    source, target = grid("g1p"), grid("eu05")
    lat, lon = np.meshgrid(source.latitude, (source.longitude + 180) % 360 - 180, indexing="ij")
    expected = 2 * target.points[0] - 3 * target.points[1]
    plane = (2 * lat - 3 * lon).ravel()
    np.testing.assert_allclose(make(source, target, "bilinear").matrix @ plane, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("backend", "pole", "expected"),
    [
        ("rectilinear", "mean", 0.5 * 4 + 0.5 * 1.5),
        ("rectilinear", "nearest", 4.0),
        ("rectilinear", "none", np.nan),
        ("curvilinear", "mean", 0.5 * 4 + 0.5 * 1.5),
        ("curvilinear", "none", np.nan),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_the_pole_rules(backend: Any, pole: Any, expected: float, side: int) -> None:
    """Halfway between a last row with a mean of 1.5 and the pole, above the column that has 4."""
    source = from_coordinates(np.arange(-80.0, 81, 20), np.arange(0.0, 360, 45))
    field = np.zeros(source.shape)
    field[-1 if side > 0 else 0] = [0, 1, 4, 3, 2, 1, 1, 0]
    target = from_coordinates(np.array([85.0 * side, 0.0]), np.array([90.0]))
    made = make(source, target, "bilinear", pole=pole, backend=backend)
    assert apply(made, field)[0, 0] == pytest.approx(expected, nan_ok=True)


def test_a_repeated_longitude_does_not_count_twice() -> None:
    once, target = grid("g1p"), grid("g2")
    twice = from_coordinates(once.latitude, np.arange(0.0, 361))
    field = np.random.default_rng(0).random(once.shape)
    doubled = np.concatenate([field, field[:, :1]], axis=1)
    assert twice.areas.sum() == pytest.approx(4 * np.pi, abs=1e-12)
    for method in ("conservative", "bilinear"):
        # Two halves of a great-circle edge are not quite the whole.
        for backend, tolerance in (("rectilinear", 1e-6), ("curvilinear", 1e-4)):
            np.testing.assert_allclose(
                apply(make(twice, target, method, backend=backend), doubled),
                apply(make(once, target, method, backend=backend), field),
                atol=tolerance,
            )


def test_a_reduced_grid_keeps_integral_and_constant() -> None:
    source, target = octahedral(16), grid("g5")
    field = np.cos(np.radians(source.latitude)) + np.sin(2 * np.radians(source.longitude))
    assert source.areas.sum() == pytest.approx(4 * np.pi, abs=1e-12)
    made = make(source, target, "conservative")
    np.testing.assert_allclose(made.row_sums, 1, atol=1e-12)
    assert source.areas @ field == pytest.approx(target.areas.ravel() @ (made.matrix @ field), abs=1e-12)
    smooth = make(source, target, "bilinear")
    np.testing.assert_allclose(smooth.row_sums, 1, atol=1e-12)
    lat, lon = target.points
    exact = np.cos(np.radians(lat)) + np.sin(2 * np.radians(lon))
    inner = np.abs(lat) < 80
    np.testing.assert_allclose((smooth.matrix @ field)[inner], exact[inner], atol=0.03)


def test_a_cell_that_holds_the_pole() -> None:
    """A polar grid whose middle cell has the pole inside covers a global target's polar row without a gap."""
    x = np.linspace(-3e6, 3e6, 31)
    stereo = {
        "grid_mapping_name": "polar_stereographic", "straight_vertical_longitude_from_pole": 10.0,
        "latitude_of_projection_origin": 90.0, "standard_parallel": 60.0, "earth_radius": 6371229.0,
    }  # fmt: skip
    from tasks.grids.mapping import geographic

    lat, lon = geographic(stereo, *np.meshgrid(x, x))
    source = Grid("curvilinear", lat, lon, x=x, y=x, mapping=stereo)
    target = from_coordinates(np.arange(75.0, 90, 2), np.arange(1.0, 360, 2))
    made = make(source, target, "conservative", norm="dstarea")
    np.testing.assert_allclose(made.row_sums, 1, atol=1e-11)
    np.testing.assert_allclose(make(source, target, "bilinear").row_sums, 1, atol=1e-12)
    vectors = make(source, target, "bilinear").matrix @ source.vectors
    np.testing.assert_allclose(vectors, target.vectors, atol=2e-3)


def test_nearest_leaves_out_what_lies_in_no_cell() -> None:
    made = make(grid("lcc"), grid("us05"), "nearest")
    covered = ~weights("esmf_lcc_us05_conservative").empty
    assert 0.35 < made.empty.mean() < 0.5
    assert (~made.empty & ~covered).sum() <= 12
    assert (made.empty & (weights("rwg_lcc_us05_conserve").frac_b > 0.999)).sum() == 0


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
@pytest.mark.parametrize("source", ["lcc", "us05"])
def test_a_target_wholly_outside_is_refused(source: str, method: str) -> None:
    with pytest.raises(UsageError, match="wholly outside"):
        make(grid(source), grid("eu05"), method)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "cubic"}, "no such regridding method"),
        ({"method": "bilinear", "pole": "all"}, "pole"),
        ({"method": "conservative", "norm": "none"}, "norm"),
        ({"method": "bilinear", "backend": "magic"}, "backend"),
        ({"method": "bilinear", "extrapolate": "creep"}, "extrapolate"),
        ({"method": "bilinear", "source_mask": np.ones((2, 2), bool)}, "source mask does not fit"),
        ({"method": "bilinear", "target_mask": np.ones((90, 180))}, "target mask does not fit"),
        ({"method": "bilinear", "source_mask": np.zeros((36, 72), bool)}, "leaves no cell"),
        ({"method": "bilinear", "backend": "curvilinear", "pole": "nearest"}, "pole rule"),
    ],
)
def test_unknown_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(grid("g5"), grid("g2"), **options)


def test_a_backend_says_what_it_lacks() -> None:
    with pytest.raises(UsageError, match="'rectilinear' has no conservative"):
        make(grid("lcc"), grid("us05"), "conservative", backend="rectilinear")
    points = Grid("unstructured", np.array([40.0, 50.0]), np.array([0.0, 10.0]))
    with pytest.raises(UsageError, match="points"):
        make(points, grid("eu05"), "bilinear")


def test_weights_of_another_grid_are_refused() -> None:
    made = make(grid("g5"), grid("g2"), "bilinear")
    made.check(grid("g5"), grid("g2"))
    with pytest.raises(UsageError, match="another target grid"):
        made.check(grid("g5"), grid("eu05"))


@pytest.mark.parametrize("name", ["cdo_g5_g2_con", "rwg_lcc_us05_conserve"])
def test_files_of_other_programs_know_their_grids(name: str) -> None:
    """By the centres they hold, as they have no digest of ours."""
    source, target = (grid(n) for n in name.split("_")[1:3])
    theirs = weights(name)
    theirs.check(source, target)
    with pytest.raises(UsageError, match="another source grid"):
        theirs.check(target, target)
    if target.kind == "rectilinear":
        down = target.latitude[0] > target.latitude[-1]
        flipped, _ = target.reorder(latitude="south-north" if down else "north-south")
        with pytest.raises(UsageError, match="another order of its cells: expected cell 0 at"):
            theirs.check(source, flipped)


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
def test_a_file_holds_everything(method: str) -> None:
    made = make(grid("g5"), from_spec(GridSpec(name="a", spacing=2.5, bbox=(-30, 30, 30, 60))), method)
    data = made.save()
    back = load_weights(data)
    assert largest(made.matrix, back.matrix) == 0
    for name in ("source_shape", "target_shape", "method", "convention", "norm", "source", "target", "options"):
        assert getattr(back, name) == getattr(made, name)
    if method == "conservative":
        for name in ("area_a", "area_b", "frac_a", "frac_b"):
            np.testing.assert_array_equal(getattr(back, name), getattr(made, name))


def test_a_file_does_not_depend_on_the_time() -> None:
    made = make(grid("g5"), grid("g2"), "conservative")
    first = made.save()
    time.sleep(1.1)
    assert make(grid("g5"), grid("g2"), "conservative").save() == first


def test_what_is_no_weight_file_is_refused() -> None:
    with pytest.raises(CorruptInput, match="no netCDF"):
        load_weights(b"no file at all")
    with pytest.raises(CorruptInput, match="holds no weights"):
        load_weights((GOLDEN / "grid_us05.nc").read_bytes())


def test_files_of_other_programs() -> None:
    cdo, esmf = weights("cdo_g5_g2_con"), weights("rwg_lcc_us05_conserve")
    assert (cdo.method, cdo.norm, cdo.convention) == ("conservative", "fracarea", "")
    assert (cdo.source_shape, cdo.target_shape) == ((36, 72), (90, 180))
    assert (esmf.method, esmf.norm) == ("conservative", "dstarea")
    assert (esmf.source_shape, esmf.target_shape) == ((30, 40), (24, 34))
