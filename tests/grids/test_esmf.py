"""The backend that calls ESMF: what it hands over and makes of the answer, and ESMF itself where it is installed."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from tasks.grids import esmf
from tasks.grids.grid import Grid, from_coordinates
from tasks.grids.named import from_name
from tasks.grids.request import Request
from tasks.grids.weights import make
from tasks.lake.errors import UsageError

from .oracle import GOLDEN, grid, largest, variables, weights

installed = pytest.mark.skipif(
    not esmf.is_there(), reason="ESMF is not installed (deployments/environment.yaml); pip has no esmpy"
)


def factors(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ESMF's own answer, as its golden file holds it."""
    with netCDF4.Dataset(GOLDEN / f"{name}.nc") as file:
        row, column, share = (np.asarray(file[n][:]) for n in ("row", "col", "S"))
        return row, column, share


def request(name: str, method: str, **options) -> Request:
    source, target = (grid(n) for n in name.split("_")[1:3])
    return Request(source=source, target=target, method=method, backend="xesmf", **options)


@pytest.mark.parametrize("case", ["g5_g2", "lcc_us05", "g1p_eu05"])
def test_esmfs_factors_become_its_weights(case: str) -> None:
    golden = weights(f"esmf_{case}_conservative")
    mine = esmf.as_weights(
        request(f"esmf_{case}", "conservative", norm="dstarea"), *factors(f"esmf_{case}_conservative")
    )
    assert largest(mine.matrix, golden.matrix) < 1e-14
    assert (mine.convention, mine.norm) == ("great-circles", "dstarea")


def test_normalised_by_the_covered_area_as_esmf_does() -> None:
    golden = weights("esmf_lcc_us05_conservative_normed")
    mine = esmf.as_weights(request("esmf_lcc_us05", "conservative"), *factors("esmf_lcc_us05_conservative"))
    assert largest(mine.matrix, golden.matrix) < 1e-12
    theirs = weights("rwg_lcc_us05_conserve")
    for name in ("area_a", "area_b", "frac_a", "frac_b"):
        np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), atol=1e-12, rtol=1e-11)


def test_other_methods_are_taken_as_they_are() -> None:
    mine = esmf.as_weights(request("esmf_lcc_us05", "bilinear"), *factors("esmf_lcc_us05_bilinear"))
    assert largest(mine.matrix, weights("esmf_lcc_us05_bilinear").matrix) == 0


@pytest.mark.parametrize("name", ["g5", "us05", "lcc"])
@pytest.mark.parametrize("turned", [False, True])
def test_esmf_gets_centres_and_corners(name: str, turned: bool) -> None:
    """The golden grids' own corners, each once, x first and in Fortran order; also when rows run the other way."""
    made = grid(name)
    if turned and made.kind == "curvilinear":
        bounds = [b[::-1] for b in (made.given_latitude_bounds, made.given_longitude_bounds) if b is not None]
        made = from_coordinates(made.latitude[::-1], made.longitude[::-1], *(b[..., [3, 2, 1, 0]] for b in bounds))
    elif turned:
        made, _ = made.reorder(latitude="north-south")
    ny, nx = made.shape
    lon, lat = esmf.centres(made)
    assert lon.shape == lat.shape == (nx, ny)
    assert lon.flags.f_contiguous
    np.testing.assert_array_equal(lat.T.ravel(), made.points[0])
    lon_b, lat_b = esmf.nodes(made)
    assert lon_b.shape == lat_b.shape == (nx + 1, ny + 1)
    given_lat = made.latitude_bounds if made.kind == "rectilinear" else made.given_latitude_bounds
    assert given_lat is not None
    low = (
        given_lat.min(axis=-1) if made.kind == "curvilinear" else np.repeat(given_lat.min(axis=1)[:, None], nx, axis=1)
    )
    found = np.minimum.reduce([lat_b[:-1, :-1], lat_b[1:, :-1], lat_b[1:, 1:], lat_b[:-1, 1:]]).T
    np.testing.assert_allclose(found, low, atol=1e-9)


def test_a_column_that_comes_twice_is_left_out_and_put_back() -> None:
    twice = from_coordinates(np.linspace(-80, 80, 9), np.arange(0.0, 361, 10))
    lon, _ = esmf.centres(twice)
    assert lon.shape == (36, 9)
    asked = Request(source=twice, target=grid("g2"), method="bilinear")
    made = esmf.as_weights(asked, np.array([1, 2]), np.array([36, 37]), np.ones(2))
    np.testing.assert_array_equal(made.matrix.indices, [35, 37])


def test_bounds_with_gaps_are_refused() -> None:
    centres = np.arange(5.0, 30, 10)
    apart = np.stack([centres - 4, centres + 4], axis=1)
    with pytest.raises(UsageError, match="share their edges"):
        esmf.nodes(from_coordinates(centres, centres, apart, apart))


@pytest.mark.parametrize(
    ("source", "method", "options", "words"),
    [
        (from_name("O32"), "bilinear", {}, "rows and columns"),
        (from_name("O32"), "second-order", {}, "rows and columns"),
        (grid("g5"), "bilinear", {"pole": "nearest"}, "pole rule"),
        (from_name("O32"), "nearest", {"source_mask": np.arange(5248) > 0}, "masks"),
    ],
)
def test_what_esmf_lacks_is_refused(source: Grid, method: str, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(source, grid("g2"), method, backend="xesmf", **options)


@pytest.mark.skipif(esmf.is_there(), reason="ESMF is installed")
@pytest.mark.parametrize(("method", "backend"), [("patch", "auto"), ("second-order", "auto"), ("bilinear", "xesmf")])
def test_without_esmf_one_sentence_says_so(method: str, backend: str) -> None:
    with pytest.raises(UsageError, match=r"not installed here \(deployments/environment.yaml\)"):
        make(grid("g5"), grid("g2"), method, backend=backend)


@installed
@pytest.mark.parametrize(
    ("name", "method", "options", "tolerance"),
    [
        ("esmf_g5_g2_conservative", "conservative", {"norm": "dstarea"}, 1e-11),
        ("esmf_g5_g2_bilinear", "bilinear", {}, 1e-13),
        ("esmf_g1p_eu05_bilinear", "bilinear", {}, 1e-13),
        ("esmf_lcc_us05_conservative", "conservative", {"norm": "dstarea"}, 1e-11),
        ("esmf_lcc_us05_conservative_normed", "conservative", {}, 1e-11),
        ("esmf_lcc_us05_bilinear", "bilinear", {}, 1e-12),
        ("esmf_lcc_us05_nearest_s2d", "nearest", {}, 0),
    ],
)
def test_esmf_makes_the_golden_weights(name: str, method: str, options: dict, tolerance: float) -> None:
    mine = make(*(grid(n) for n in name.split("_")[1:3]), method, backend="xesmf", **options)
    assert largest(mine.matrix, weights(name).matrix) <= tolerance


@installed
@pytest.mark.parametrize("method", ["patch", "second-order"])
def test_methods_that_only_esmf_has(method: str) -> None:
    lat, lon = grid("g5").points
    smooth = np.cos(np.radians(lat)) * np.sin(np.radians(2 * lon))
    errors = {}
    for name in (method, "conservative" if method == "second-order" else "bilinear"):
        made = make(grid("g5"), grid("g2"), name)
        np.testing.assert_allclose(made.row_sums, 1, atol=1e-6)
        lat_b, lon_b = grid("g2").points
        exact = np.cos(np.radians(lat_b)) * np.sin(np.radians(2 * lon_b))
        errors[name] = np.abs(made.matrix @ smooth - exact)[np.abs(lat_b) < 80].max()
    assert errors[method] < min(v for k, v in errors.items() if k != method)


@installed
def test_masks_reach_esmf() -> None:
    (mask,) = variables("grid_g5", "mask")
    mine = make(grid("g5"), grid("g2"), "bilinear", backend="xesmf", source_mask=mask == 1)
    assert largest(mine.matrix, weights("esmf_g5_g2_srcmask_bilinear").matrix) < 1e-13


def test_the_environment_of_conda_names_it() -> None:
    text = (Path(__file__).resolve().parents[2] / "deployments/environment.yaml").read_text()
    assert {"esmpy", "xesmf", "esmf"} <= {w.strip(" -\n").split(">")[0].split("=")[0] for w in text.splitlines()}
