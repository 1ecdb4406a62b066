"""Grids by name against real files of those grids, and how a recipe names them."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.grids.from_grib import from_grib
from tasks.grids.grid import from_spec
from tasks.grids.named import from_name
from tasks.grids.spec import GridSpec
from tasks.lake.errors import UsageError

from .oracle import GOLDEN, grid
from .test_from_grib import first_message, sample

FILES = {
    "O32": "grids/O32_global.grib2",
    "N48": "grids/t_n48.grib",
    "hrrr": "hrrr_nam/hrrr.t06z.wrfsfcf01-CFRZR.grib2",
    "ncep-211": "hrrr_nam/nam.t00z.awp21100.tm00.grib2",
    "r1440x721": "gfs/gfs.20240820.t12z.0p25.f044.TMAX.grib2",
}


@pytest.mark.real
@pytest.mark.parametrize("name", FILES)
def test_a_name_is_the_grid_of_the_files(shared: Path, name: str) -> None:
    made, real = from_name(name), from_grib(first_message(shared / "data" / FILES[name]))
    assert (made.kind, made.shape, made.is_global) == (real.kind, real.shape, real.is_global)
    np.testing.assert_allclose(made.vectors, real.vectors, atol=1e-9)
    # An edition 1 message has another sphere.
    assert name == "N48" or made == real


@pytest.mark.parametrize(("name", "message"), [("N32", "reduced_gg_pl_32_grib2"), ("F32", "regular_gg_sfc_grib2")])
def test_gaussian_names_are_eccodes_own(name: str, message: str) -> None:
    made, theirs = from_name(name), from_grib(sample(message))
    assert made.shape == theirs.shape
    np.testing.assert_allclose(made.vectors, theirs.vectors, atol=2e-5)


def test_octahedral_grids_have_ecmwfs_number_of_points() -> None:
    """4 N (N + 9), as ECMWF says of O1280: 6,599,680."""
    assert [from_name(f"O{n}").size for n in (16, 320)] == [4 * n * (n + 9) for n in (16, 320)]


@pytest.mark.parametrize(("name", "first"), [("r36x18", 85.0), ("r36x19", 90.0)])
def test_a_regular_name(name: str, first: float) -> None:
    made = from_name(name)
    assert made.is_global
    assert (made.latitude[0], made.longitude[1]) == (first, 10.0)


@pytest.mark.parametrize("name", ["F0", "N33", "O", "r2x2", "F9999", "europe", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"no grid named|no classic"):
        from_name(name)


def test_a_recipe_names_a_grid_or_a_file() -> None:
    assert from_spec(GridSpec(name="a", grid="O32")) == from_name("O32")
    assert from_spec(GridSpec(name="a", file=str(GOLDEN / "grid_g5.nc"))).shape == grid("g5").shape


@pytest.mark.parametrize("keys", [{"grid": "O32"}, {"file": "/a.nc"}, {"spacing": 1, "bbox": (0, 0, 1, 1)}])
def test_a_recipe_written_out_whole_is_the_same(keys: dict) -> None:
    spec = GridSpec(name="a", **keys)
    assert GridSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "none"),
        ({"grid": "O32", "spacing": 1}, "spacing and grid"),
        ({"grid": "O32", "bbox": (0, 0, 1, 1)}, "bbox goes with spacing"),
        ({"spacing": 7}, "whole number"),
    ],
)
def test_a_recipe_names_one_grid(keys: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GridSpec(name="a", **keys)
