"""The exporter ``netcdf``: read back with netCDF4 and with xarray."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

from tasks.exports.exporter import exporters
from tasks.lake.errors import UsageError
from tests.exports.runs import make_run


def export(run, folder, **fields):
    (path,) = exporters.build({"type": "netcdf", "name": "part"} | fields).render(run, folder)
    return path


@pytest.mark.parametrize("kind", ["global", "global-360", "regional", "lambert"])
@pytest.mark.parametrize("members", [0, 2])
def test_values_come_back_equal(tmp_path, kind, members):
    run = make_run(kind, members=members)
    with netCDF4.Dataset(export(run, tmp_path)) as back:
        back.set_auto_mask(False)
        for name in ("t2m", "t", "tp"):
            names = tuple("time" if d == "lead_time" else d for d in run[name].dims)
            assert set(back[name].dimensions) == set(names)
            order = [names.index(d) for d in back[name].dimensions]
            np.testing.assert_array_equal(
                back[name][:], run[name].transpose(*[run[name].dims[i] for i in order]).values
            )
        np.testing.assert_array_equal(back["longitude"][:], run["longitude"])


def test_cf_metadata(tmp_path):
    with netCDF4.Dataset(export(make_run("global"), tmp_path)) as back:
        assert back.Conventions == "CF-1.11"
        assert back.title == "Made-up model"
        assert back.attribution == "public domain"
        assert "history" not in back.ncattrs()
        assert back["t"].dimensions == ("time", "member", "level", "latitude", "longitude")
        assert back["tp"].cell_methods == "time: sum"
        assert back["tp"].grid_mapping == "spatial_ref"
        assert back["tp"].coordinates == "init_time lead_time"
        assert back["spatial_ref"].grid_mapping_name == "latitude_longitude"
        assert back["tp"].filters()["zlib"]
        assert (
            netCDF4.num2date(back["time"][1], back["time"].units, back["time"].calendar).isoformat()
            == "2026-11-20T06:00:00"
        )
        assert back["lead_time"][:].tolist() == [0, 6, 12]
        assert back["level"].units == "hPa"


def test_xarray_decodes_the_times(tmp_path):
    with xr.open_dataset(export(make_run("lambert", members=0), tmp_path), decode_timedelta=False) as back:
        assert back["time"].values[2] == np.datetime64("2026-11-20T12")
        assert back["init_time"].values == np.datetime64("2026-11-20T00")
        assert {"latitude", "longitude"} <= set(back["msl"].coords)


@pytest.mark.parametrize("kind", ["global", "global-360"])
def test_box_across_the_date_line(tmp_path, kind):
    run = make_run(kind)
    with netCDF4.Dataset(export(run, tmp_path, bbox=[170, -10, -170, 10], variables=["t2m"])) as back:
        assert back["longitude"][:].tolist() == list(range(170, 191, 2))
        assert back["latitude"][:].tolist() == list(range(10, -11, -2))
        assert set(back.variables) >= {"t2m"}
        assert "tp" not in back.variables
        where = [(v + 180) % 360 - 180 if kind == "global" else v for v in range(170, 191, 2)]
        expected = run["t2m"].sel(latitude=slice(10, -10), longitude=where).transpose("lead_time", "member", ...)
        np.testing.assert_array_equal(back["t2m"][:], expected)


def test_box_of_the_whole_turn_reorders(tmp_path):
    with netCDF4.Dataset(export(make_run("global-360"), tmp_path, bbox=[-180, -90, 180, 90])) as back:
        assert back["longitude"][:].tolist() == list(range(-180, 180, 2))
        assert back["t2m"].shape[-2:] == (91, 180)


def test_box_on_a_curvilinear_grid_keeps_a_rectangle(tmp_path):
    run = make_run("lambert")
    with netCDF4.Dataset(export(run, tmp_path, bbox=[260, 36, 265, 40], variables=["msl"])) as back:
        lat, lon = back["latitude"][:], back["longitude"][:]
        assert (lat.min(), lat.max()) == (pytest.approx(36, abs=0.7), pytest.approx(40, abs=0.7))
        assert (lon.min(), lon.max()) == (pytest.approx(260, abs=1), pytest.approx(265, abs=1))
        inside = (run.latitude >= 36) & (run.latitude <= 40) & (run.longitude >= -100) & (run.longitude <= -95)
        assert int(((lat >= 36) & (lat <= 40) & (lon >= 260) & (lon <= 265)).sum()) == int(inside.sum())
        assert back["x"].shape == lat.shape[1:]
        x, y = back["x"][0], back["y"][0]
        np.testing.assert_array_equal(back["msl"][0, 0, 0, 0], run["msl"][0, 0].sel(x=x, y=y))


def test_steps(tmp_path):
    with netCDF4.Dataset(export(make_run(), tmp_path, steps=[12, 0])) as back:
        assert back["lead_time"][:].tolist() == [0, 12]
        assert back["t2m"].shape[0] == 2
    with pytest.raises(UsageError, match="no lead time 5 h; it has: 0, 6, 12"):
        export(make_run(), tmp_path, steps=[5])


def test_empty_box_names_both(tmp_path):
    with pytest.raises(UsageError, match=r"expected latitude 40 to 60.*found west 100"):
        export(make_run("regional"), tmp_path, bbox=[100, 0, 120, 10])
    assert not list(tmp_path.iterdir())
