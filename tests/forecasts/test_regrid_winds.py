"""Winds along the axes of a projected grid: turned before anything is made of them, on a real NAM file."""

import shutil
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pytest

from tasks.executor import Threads
from tasks.forecasts.regrid_target import request_of
from tasks.forecasts.template import load
from tasks.forecasts.winds import partners, relative_to_grid, turned
from tasks.grids.apply import apply
from tasks.grids.store import read
from tasks.lake import open_cube
from tasks.lake.errors import ExitCode, UsageError
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.lake.recipe import parse
from tasks.plan import Options
from tasks.runner import run_phase

RUN = "2018-09-17T00"


def document(folder: Path, *names: str) -> dict[str, Any]:
    params = {"u10": "UGRD", "v10": "VGRD", "t2m": "TMP"}
    variables = [
        {"name": n, "param": params[n], "level_type": "heightAboveGround", "levels": [2 if n == "t2m" else 10]}
        for n in names
    ]
    return {
        "name": "nam", "kind": "forecast",
        "source": {
            "type": "folder", "root": folder.as_uri(), "pattern": "nam.t{init:%H}z.grib2", "index": "noaa",
            "steps": [0],
        },
        "runs": {"start": "2018-09-17T00:00:00Z", "every": 6, "default": RUN},
        "select": {"variables": variables},
        "grids": [{"name": "us", "spacing": 0.5, "bbox": [-110, 25, -80, 48], "method": "bilinear"}],
        "products": [
            {"type": "wind_speed", "name": "ws", "u": "u10", "v": "v10"},
            {"type": "wind_direction", "name": "wd", "u": "u10", "v": "v10"},
        ] if "v10" in names else [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def nam(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file under the names the recipe looks for."""
    folder = tmp_path_factory.mktemp("nam")
    source = shared / "data" / "hrrr_nam" / "nam.t00z.awp21100.tm00.grib2"
    shutil.copy(source, folder / "nam.t00z.grib2")
    shutil.copy(f"{source}.derived.idx", folder / "nam.t00z.grib2.idx")
    return folder


def pipeline(lake: Path, recipe: dict[str, Any], *phases: str) -> Context[Any]:
    context: Context[Any] = Context(Lake(str(lake)), parse(recipe))
    threads = Threads(2)
    try:
        for phase in phases:
            report = run_phase(context.lake, context.recipe, phase, Window(), Options(), threads)
            assert report.exit_code is ExitCode.DONE, (phase, report.problems)
    finally:
        threads.close()
    return context


@pytest.mark.real
def test_a_lambert_run_has_its_winds_towards_east_and_north(nam: Path, tmp_path: Path):
    """Against the rotation as NCEP writes it for its Lambert grids: by sin(25 deg) times the longitude from 95 W."""
    lake = tmp_path / "lake"
    at = pipeline(lake, document(nam, "t2m", "u10", "v10"), "ingest", "refine", "validate", "regrid")
    template = load(at)
    assert turned(template, at.recipe) == (("u10", "v10"),)
    source = open_cube(str(lake), "nam").isel(init_time=0).load()
    found = open_cube(str(lake), "nam", "us").isel(init_time=0).load()
    weights = read(at.lake.url, request_of(template, at.recipe, at.recipe.grids[0]).key)
    a = np.sin(np.radians(25)) * np.radians((source["longitude"].values + 95 + 180) % 360 - 180)
    u, v = (source[n].values[0].astype("float64") for n in ("u10", "v10"))
    east, north = u * np.cos(a) + v * np.sin(a), v * np.cos(a) - u * np.sin(a)
    assert np.abs(east - u).max() > 2
    np.testing.assert_allclose(found["u10"][0], apply(weights, east), atol=2e-4)
    np.testing.assert_allclose(found["v10"][0], apply(weights, north), atol=2e-4)
    # Speed does not depend on the axes; direction does.
    np.testing.assert_allclose(found["ws"][0], apply(weights, np.hypot(u, v)), atol=1e-4)
    toward = (270 - np.degrees(np.arctan2(found["v10"][0], found["u10"][0]))) % 360
    np.testing.assert_allclose(found["wd"][0], toward, atol=1e-3)
    assert found["t2m"].notnull().all()


@pytest.mark.real
def test_half_a_wind_is_refused(nam: Path, tmp_path: Path):
    recipe = document(nam, "u10")
    with pytest.raises(UsageError, match="u10 lies along the axes of its grid and cannot be turned alone; select"):
        pipeline(tmp_path / "lake", recipe, "ingest", "refine", "validate", "regrid")


def test_the_flag_is_read_from_the_message():
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    try:
        for flag in (0, 1):
            eccodes.codes_set(handle, "uvRelativeToGrid", flag)
            assert relative_to_grid(eccodes.codes_get_message(handle)) is bool(flag)
    finally:
        eccodes.codes_release(handle)


def test_a_component_brings_its_partner():
    assert partners(["u10", "t2m"], [("u10", "v10"), ("u", "v")]) == ("u10", "t2m", "v10")
