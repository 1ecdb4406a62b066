"""Grids from CF variables: files of other programs, every kind of grid, and what cannot be recognised."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tasks.grids.from_cf import from_dataset, from_file
from tasks.grids.grid import Grid
from tasks.grids.named import from_name
from tasks.lake.errors import CorruptInput, UsageError

from .oracle import GOLDEN, grid

LATITUDE = {"units": "degrees_north"}
LONGITUDE = {"units": "degrees_east"}


@pytest.mark.parametrize("name", ["g5", "lcc", "us05"])
def test_files_of_other_programs(name: str) -> None:
    assert from_file(GOLDEN / f"grid_{name}.nc") == grid(name)
    assert from_file(GOLDEN / f"grid_{name}.nc", "f") == grid(name)


@pytest.mark.parametrize("made", [grid("g2"), from_name("ncep-211"), from_name("O32")], ids=lambda g: g.kind)
def test_what_we_write_we_read(made: Grid, tmp_path: Path) -> None:
    coords = {n: xr.Variable(d, v, a) for n, (d, v, a) in made.coordinates().items()}
    data = xr.Variable(made.dims, np.zeros(made.shape), {"grid_mapping": "spatial_ref"})
    xr.Dataset({"t": data}, coords).to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    for variable in (None, "t"):
        back = from_file(tmp_path / "a.nc", variable)
        assert (back.kind, back.shape) == (made.kind, made.shape)
        np.testing.assert_allclose(back.vectors, made.vectors, atol=1e-12)
        assert back.mapping == made.mapping
        assert made.row_sizes is not None or back == made


def test_kilometres_and_a_rotated_pole() -> None:
    nam = from_name("ncep-211")
    assert nam.x is not None
    assert nam.y is not None
    crs = xr.Variable((), 0, dict(nam.mapping))
    x, y = (
        xr.Variable((n,), v / 1000, {"standard_name": f"projection_{n}_coordinate", "units": "km"})
        for n, v in (("x", nam.x), ("y", nam.y))
    )
    assert from_dataset(xr.Dataset({"crs": crs}, {"x": x, "y": y})) == nam
    rotated = from_file(GOLDEN / "cdo_rotated_wind.nc")
    assert rotated.shape == (11, 11)
    assert rotated.mapping["grid_north_pole_latitude"] == 39.25


def test_names_serve_where_there_are_no_units() -> None:
    made = from_dataset(xr.Dataset(coords={"lat": np.arange(3.0), "lon": np.arange(4.0)}))
    assert made.shape == (3, 4)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (xr.Dataset({"t": ("n", np.zeros(3))}), "no latitudes and longitudes"),
        (
            xr.Dataset(
                coords={"lat": (("a", "b"), np.zeros((2, 2)), LATITUDE), "lon": (("a",), np.zeros(2), LONGITUDE)}
            ),
            "by the dimensions",
        ),
        (
            xr.Dataset(
                {"b": (("lat", "n"), np.zeros((3, 4)))},
                {
                    "lat": ("lat", np.arange(3.0), {**LATITUDE, "bounds": "b"}),
                    "lon": ("lon", np.arange(3.0), LONGITUDE),
                },
            ),
            "bounds b do not fit lat",
        ),
        (
            xr.Dataset(
                {"crs": ((), 0, dict(from_name("ncep-211").mapping))},
                {
                    "x": ("x", np.arange(3.0), {"standard_name": "projection_x_coordinate", "units": "inch"}),
                    "y": ("y", np.arange(3.0), {"standard_name": "projection_y_coordinate", "units": "m"}),
                },
            ),
            "units of x",
        ),
    ],
    ids=["none", "dimensions", "bounds", "units"],
)
def test_what_cannot_be_recognised_is_refused(dataset: xr.Dataset, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_dataset(dataset)


def test_a_wrong_variable_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variable 'q'"):
        from_file(GOLDEN / "grid_g5.nc", "q")
    with pytest.raises(UsageError, match=r"nowhere\.nc"):
        from_file(tmp_path / "nowhere.nc")
    (tmp_path / "text.nc").write_text("not a netCDF file")
    with pytest.raises(CorruptInput, match="cannot be read as netCDF"):
        from_file(tmp_path / "text.nc")
