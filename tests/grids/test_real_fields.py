"""Fields of real files regridded: GFS on a region, NAM on a Lambert grid, a rotated pole, a reduced Gaussian grid."""

import shutil
import subprocess
from pathlib import Path

import eccodes
import netCDF4
import numpy as np
import pytest

from tasks.grids import vectors
from tasks.grids.apply import apply
from tasks.grids.from_grib import from_grib
from tasks.grids.grid import Grid, from_spec
from tasks.grids.named import from_name
from tasks.grids.spec import GridSpec
from tasks.grids.weights import load_weights, make

from .test_apply import SKIPPING

pytestmark = pytest.mark.real

EUROPE = from_spec(GridSpec(name="eu", spacing=0.5, bbox=(-15, 30, 25, 60)))
GLOBE = from_spec(GridSpec(name="globe", spacing=5))


def fields(path: Path, count: int = 1) -> tuple[Grid, list[np.ndarray], bytes]:
    """Grid and values of the first messages of a file, and the first message."""
    values, messages = [], []
    with path.open("rb") as file:
        for _ in range(count):
            handle = eccodes.codes_grib_new_from_file(file)
            messages.append(eccodes.codes_get_message(handle))
            values.append(eccodes.codes_get_values(handle))
            eccodes.codes_release(handle)
    made = from_grib(messages[0])
    return made, [v.reshape(made.shape) for v in values], messages[0]


def test_a_region_of_gfs(shared: Path) -> None:
    source, (field,), _ = fields(shared / "data/gfs/gfs.20240820.t12z.0p25.f044.TMAX.grib2")
    mean, smooth = (apply(make(source, EUROPE, m), field) for m in ("conservative", "bilinear"))
    # The target's centres are points of the source.
    rows, columns = (90 - EUROPE.latitude) * 4, np.mod(EUROPE.longitude, 360) * 4
    np.testing.assert_allclose(smooth, field[np.ix_(rows.astype(int), columns.astype(int))], rtol=1e-6)
    assert np.abs(mean - smooth).mean() < 0.5
    assert field.min() <= mean.min() <= mean.max() <= field.max()


def test_the_lambert_patch_of_nam(shared: Path) -> None:
    source, (field,), _ = fields(shared / "data/hrrr_nam/nam.t00z.awp21100.tm00.grib2")
    target = from_spec(GridSpec(name="us", spacing=0.5, bbox=(-140, 10, -50, 60)))
    for method, reach in (("conservative", 1.5 * 81e3), ("bilinear", 1e3)):
        made = make(source, target, method)
        there = ~made.empty
        assert 0.75 < there.mean() < 0.85
        # Where a target lies, its sources lie around it, cells of 81 km.
        off = np.linalg.norm((made.matrix @ source.vectors - target.vectors)[there], axis=1)
        assert off.max() < reach / 6.37e6
        regridded = apply(made, field)
        assert np.isnan(regridded).ravel().tolist() == made.empty.tolist()
        assert field.min() - 0.01 <= np.nanmin(regridded) <= np.nanmax(regridded) <= field.max() + 0.01


def test_the_winds_of_a_rotated_grid(shared: Path) -> None:
    source, (u, v), _ = fields(shared / "data/grids/rotated_wind_20x20.grib", 2)
    assert source.is_global
    east, north = vectors.earth_relative(u, v, vectors.angle(source))
    np.testing.assert_allclose(np.hypot(east, north), np.hypot(u, v), atol=1e-9)
    made = make(source, GLOBE, "conservative")
    assert not made.empty.any()
    assert made.area_a is not None
    assert made.area_b is not None
    for component in (east, north):
        before, after = made.area_a @ component.ravel(), made.area_b @ (made.matrix @ component.ravel())
        assert after == pytest.approx(before, abs=1e-12 * np.abs(component).max() * 4 * np.pi)


@pytest.mark.parametrize("name", ["O32_global.grib2", "t_n48.grib"])
def test_reduced_gaussian_grids(shared: Path, name: str) -> None:
    source, (field,), _ = fields(shared / "data/grids" / name)
    made = make(source, GLOBE, "conservative")
    assert made.area_a is not None
    assert made.area_b is not None
    before, after = made.area_a @ field.ravel(), made.area_b @ (made.matrix @ field.ravel())
    assert after == pytest.approx(before, rel=1e-12)
    back = make(GLOBE, source, "conservative")
    np.testing.assert_allclose(back.row_sums, 1, atol=1e-12)
    assert np.abs(apply(made, field) - apply(make(source, GLOBE, "bilinear"), field)).mean() < 1.5


@pytest.mark.skipif(shutil.which("cdo") is None, reason="cdo is not installed")
@pytest.mark.parametrize(
    ("name", "operator", "method", "tolerance"),
    [
        ("gfs/gfs.t06z.pgrb2.10p0.f010.grib2", "remapcon", "conservative", 1e-9),
        ("grids/pl_regular_ll.grib", "remapcon", "conservative", 1e-9),
        ("grids/rotated_wind_20x20.grib", "remapnn", "nearest", 0),
    ],
)
def test_as_cdo_regrids_the_file(
    shared: Path, tmp_path: Path, name: str, operator: str, method: str, tolerance: float
) -> None:
    source, (field,), message = fields(shared / "data" / name)
    (tmp_path / "one.grib").write_bytes(message)
    command = ["cdo", "-s", "-b", "F64", "-f", "nc", f"{operator},r72x36", "one.grib", "out.nc"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with netCDF4.Dataset(tmp_path / "out.nc") as file:
        (theirs,) = (np.asarray(v[:]).reshape(36, 72) for v in file.variables.values() if v.ndim >= 3)
        if file["lat"][0] < 0:
            theirs = theirs[::-1]
    out = np.empty((36, 72))
    apply(make(source, from_name("r72x36"), method), field, out=out)
    np.testing.assert_allclose(out, theirs, atol=tolerance * np.abs(field).max(), rtol=0)


@pytest.mark.parametrize("rule", SKIPPING)
@pytest.mark.parametrize("case", ["g1p_eu05_bilinear", "g1p_eu05_conservative", "g5_g2_bilinear", "g5_g2_conservative"])
def test_gaps_are_xesmfs_on_every_case(shared: Path, case: str, rule: str) -> None:
    """Values, and the same cells without one."""
    folder = shared / "oracle"
    made = load_weights((folder / f"esmf/{case}.nc").read_bytes())
    with netCDF4.Dataset(folder / f"grids/{case.split('_')[0]}.nc") as file:
        field = np.ma.filled(file["fm"][:].astype("float64"), np.nan)
    with netCDF4.Dataset(folder / f"esmf/{case}.nc") as file:
        golden = np.ma.filled(file[f"fm_{rule}"][:].astype("float64"), np.nan)
    mine = apply(made, field, **SKIPPING[rule])
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(golden))
    np.testing.assert_allclose(mine, golden, rtol=5e-6, atol=1e-6)
