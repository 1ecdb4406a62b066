"""Every export read back by a program that is not ours, and held against the cube."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tasks.lake import open_cube

from .conftest import RUNS


@pytest.fixture(scope="module")
def cube(lake: Path) -> xr.Dataset:
    """Both runs, in memory."""
    return open_cube(str(lake), "small", "refined").load()


@pytest.fixture(scope="module")
def run(cube: xr.Dataset) -> xr.Dataset:
    """The run whose exports are read."""
    return cube.sel(init_time=RUNS[1])


def command(*words: object) -> str:
    """What a program of the system prints; the test is skipped where it is not installed."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sha256sum_finds_every_file_as_listed(exported: Path):
    for folder in exported.iterdir():
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert {line.split(": ")[0] for line in done.stdout.splitlines()} == there - {"SHA256SUMS"}


def test_the_slice_of_two_runs_by_netcdf4(exported: Path, cube: xr.Dataset):
    import netCDF4

    with netCDF4.Dataset(exported / "nc" / "nc.nc") as file:
        file.set_auto_mask(False)
        assert file.Conventions == "CF-1.11"
        times = file["init_time"]
        assert [f"{t:%Y-%m-%dT%H}" for t in netCDF4.num2date(times[:], times.units)] == list(RUNS)
        assert file["t2m"].dimensions == ("init_time", "lead_time", "member", "latitude", "longitude")
        assert file["t"].coordinates == "valid_time"
        valid = netCDF4.num2date(file["valid_time"][:], file["valid_time"].units)
        assert f"{valid[1, 2]:%Y-%m-%dT%H}" == "2026-11-20T18"
        for name in ("t2m", "t"):
            there = cube[name].transpose(*file[name].dimensions).values
            np.testing.assert_array_equal(file[name][:], there)


def test_the_run_by_cdo(exported: Path, run: xr.Dataset):
    path = exported / "one" / "one.nc"
    shown = command("cdo", "-s", "showtimestamp", path)
    assert shown.split()[:3] == ["2026-11-20T06:00:00", "2026-11-20T12:00:00", "2026-11-20T18:00:00"]
    field = run["t2m"].isel(member=0, lead_time=1)
    mean = command("cdo", "-s", "outputf,%.6f,1", "-fldmean", "-seltimestep,2", "-selname,t2m", path).split()
    weights = np.cos(np.radians(run["latitude"]))
    assert float(mean[0]) == pytest.approx(float(field.weighted(weights).mean()), abs=0.05)


def test_the_run_by_gdal(exported: Path, run: xr.Dataset):
    import rasterio

    with rasterio.open(f"netcdf:{exported / 'one' / 'one.nc'}:t2m") as file:
        assert file.count == 6
        np.testing.assert_array_equal(file.read(3), run["t2m"].isel(member=0, lead_time=1).values)
        west, north = file.transform.c, file.transform.f
        assert (west, north) == (pytest.approx(-181), pytest.approx(91))


def test_the_plain_store_needs_no_icechunk(exported: Path, cube: xr.Dataset):
    import zarr

    store = exported / "part" / "part.zarr"
    group = zarr.open_group(store, mode="r", use_consolidated=True)
    assert group.metadata.zarr_format == 3
    assert "weatherlake" not in (store / "zarr.json").read_text()
    found = xr.open_zarr(store, chunks=None, decode_timedelta=False)
    assert found.sizes == {"init_time": 2, "member": 1, "lead_time": 2, "latitude": 41, "longitude": 11, "level": 2}
    assert found["longitude"].values.tolist() == list(range(170, 191, 2))
    turned = [(v + 180) % 360 - 180 for v in range(170, 191, 2)]
    wanted = cube.sel(latitude=slice(40, -40), longitude=turned, member=[1]).isel(lead_time=[0, 2])
    for name in ("t2m", "tp", "t"):
        there = wanted[name].transpose(*found[name].dims)
        np.testing.assert_array_equal(found[name].values, there.values)
    assert found["valid_time"].values[1, 1] == np.datetime64("2026-11-20T18")


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray 0.23 with affine 3
def test_the_pyramid_by_geozarr_toolkit_and_rioxarray(exported: Path, run: xr.Dataset):
    import rioxarray  # noqa: F401

    from tasks.grids.geozarr_validators import toolkit

    store = exported / "pyramid" / "pyramid.zarr"
    assert toolkit(store) == []
    finest = xr.open_zarr(store, group="0", chunks=None, decode_coords="all", consolidated=False)
    assert finest.rio.crs.to_epsg() == 4326
    assert finest["t2m"].rio.transform()[:6] == (2.0, 0.0, -181.0, 0.0, -2.0, 91.0)
    there = run["t2m"].transpose("lead_time", "member", "latitude", "longitude").values
    np.testing.assert_array_equal(finest["t2m"].values, there)
    np.testing.assert_array_equal(finest["longitude"], run["longitude"])
    coarser = xr.open_zarr(store, group="1", chunks=None, decode_coords="all", consolidated=False)
    pairs = there[..., :90, :].reshape(3, 2, 45, 2, 90, 2).astype("float64").mean(axis=(3, 5))
    np.testing.assert_allclose(coarser["t2m"].values[..., :45, :], pairs, rtol=1e-6)
    assert coarser["latitude"].values[:2].tolist() == [89.0, 85.0]
    assert coarser["t2m"].rio.transform()[:6] == (4.0, 0.0, -181.0, 0.0, -4.0, 91.0)


def test_the_geotiffs_by_gdal_and_rio_cogeo(exported: Path, run: xr.Dataset):
    import rasterio

    cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="rio-cogeo is not installed")
    names = sorted(p.name for p in (exported / "cog").glob("*.tif"))
    assert names == sorted(
        [f"t2m-m0{m}.tif" for m in range(2)] + [f"t-l{n}-m0{m}.tif" for n in (850, 500) for m in range(2)]
    )
    for name in names:
        valid, errors, warnings = cogeo.cog_validate(exported / "cog" / name, strict=True)
        assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(exported / "cog" / "t-l500-m01.tif") as file:
        np.testing.assert_array_equal(file.read(2), run["t"].sel(level=500, member=1).isel(lead_time=2).values)
        assert file.tags(2)["valid_time"] == "2026-11-20T18:00:00Z"
        assert file.units == ("K", "K")
    told = json.loads(command("gdalinfo", "-json", exported / "cog" / "t2m-m00.tif"))
    assert told["cornerCoordinates"]["upperLeft"] == [-181.0, 91.0]
    assert told["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"


def test_the_messages_by_eccodes_and_cdo(exported: Path, run: xr.Dataset, lake: Path):
    import eccodes

    paths = sorted((exported / "grib").glob("*.grib2"))
    assert [p.name for p in paths] == [f"grib-{s:03d}.grib2" for s in (0, 6, 12)]
    copies = b"".join(p.read_bytes() for p in sorted((lake / "raw").rglob("*")) if p.is_file())
    with paths[1].open("rb") as file:
        seen = []
        while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
            name, level, member = (eccodes.codes_get(handle, k) for k in ("shortName", "level", "perturbationNumber"))
            seen.append((name, level, member))
            values = eccodes.codes_get_values(handle).reshape(91, 180)
            longitude = eccodes.codes_get(handle, "longitudeOfFirstGridPointInDegrees")
            field = run["t2m"] if name == "2t" else run["t"].sel(level=500)
            field = field.isel(lead_time=1).sel(member=member)
            np.testing.assert_array_equal(np.roll(values, round((longitude + 180) % 360 / 2), 1).astype("f4"), field)
            assert eccodes.codes_get_message(handle) in copies
            eccodes.codes_release(handle)
    assert seen == [("t", 500, 0), ("t", 500, 1), ("2t", 2, 0), ("2t", 2, 1)]
    assert re.findall(r"\d+", command("cdo", "-s", "ntime", paths[1]))[0] == "1"


def test_the_references_by_kerchunk_and_fsspec(exported: Path, run: xr.Dataset):
    import pyarrow.parquet as pq
    from kerchunk.utils import refs_as_store

    names = sorted(p.name for p in (exported / "refs").glob("*.parquet"))
    assert names == ["2026112006z-control.parquet", "2026112006z-ens_01.parquet"]
    table = pq.read_table(exported / "refs" / names[1])
    rows = zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True)
    refs = {k: json.loads(v) if v[:1] == b"[" else v.decode() for k, v in rows if not k.startswith("step_")}
    tree = xr.open_datatree(refs_as_store(refs), engine="zarr", zarr_format=2, consolidated=False)
    found = tree["t/instant/isobaricInhPa/t"].isel(step=1).sel(isobaricInhPa=500)
    np.testing.assert_array_equal(found.values.astype("f4"), run["t"].sel(level=500, member=1).isel(lead_time=1))


def test_the_virtual_repository_by_icechunk(lake: Path, cube: xr.Dataset):
    from tasks.forecasts.references.reading import open_virtual

    found = open_virtual(str(lake), "small")
    assert [str(t)[:13] for t in found["init_time"].values] == list(RUNS)
    np.testing.assert_array_equal(
        found["tp"].isel(init_time=1, lead_time=2, member=0).values, cube["tp"].isel(init_time=1, lead_time=2, member=0)
    )


def test_the_samples_by_zarr_and_numpy(exported: Path, cube: xr.Dataset):
    import zarr

    group = zarr.open_group(exported / "samples" / "samples.zarr", mode="r")
    data = group["data"]
    assert (data.shape, data.chunks) == ((6, 2, 4, 91, 180), (1, 1, 4, 91, 180))
    channels = group["channel"][:].tolist()
    assert channels == ["t_850", "t_500", "t2m", "tp"]
    values = data[:]
    sample = cube["t"].isel(init_time=1, lead_time=1, member=0).sel(level=500)
    np.testing.assert_array_equal(values[4, 0, channels.index("t_500")], sample)
    for n in range(4):
        every = values[:, :, n].astype("float64")
        assert group["count"][n] == np.isfinite(every).sum()
        for name, wanted in (
            ("mean", np.nanmean(every)), ("standard_deviation", np.nanstd(every)),
            ("minimum", np.nanmin(every)), ("maximum", np.nanmax(every)),
        ):  # fmt: skip
            assert group[name][n] == pytest.approx(wanted, rel=1e-10)
    assert group["lead_time"][:].tolist() == [0, 6, 12, 0, 6, 12]


def test_the_loop_by_pillow(exported: Path):
    from PIL import Image

    with Image.open(exported / "loop" / "loop.gif") as picture:
        assert (picture.format, picture.n_frames, picture.info["loop"]) == ("GIF", 3, 0)
        frames = []
        for n in range(3):
            picture.seek(n)
            frames.append(np.asarray(picture.convert("RGB")))
        assert picture.info["duration"] == 1000
    assert not np.array_equal(frames[0], frames[1])
    # The colour bar, and so the range, is that of all.
    np.testing.assert_array_equal(frames[0][-90:], frames[2][-90:])


def nearest(run: xr.Dataset, latitude: float, longitude: float) -> xr.Dataset:
    return run.sel(latitude=latitude, longitude=longitude, method="nearest")


def test_the_points_by_duckdb(exported: Path, run: xr.Dataset):
    import duckdb

    path = exported / "parquet" / "parquet.parquet"
    rows = duckdb.sql(
        f"select point, member, lead_time, valid_time at time zone 'UTC', t2m, t_500 from '{path}' "
        "where lead_time = 12 order by all"
    ).fetchall()
    assert [r[:3] for r in rows] == [(p, m, 12.0) for p in ("De Bilt", "Suva") for m in (0, 1)]
    assert f"{rows[0][3]:%Y-%m-%dT%H}" == "2026-11-20T18"
    at = nearest(run, 52.1, 5.18).isel(lead_time=2)
    for member in (0, 1):
        assert rows[member][4] == np.float32(np.float64(at["t2m"].sel(member=member)) - 273.15)
        assert rows[member][5] == float(at["t"].sel(member=member, level=500))
    units = duckdb.sql(f"select value from parquet_kv_metadata('{path}') where key = 'units'").fetchall()
    assert json.loads(units[0][0])["t2m"] == "degC"
    lines = duckdb.sql(f"from read_csv('{exported / 'csv' / 'csv.csv'}')").fetchall()
    assert len(lines) == 2 * 2 * 3


def test_the_points_by_covjson_pydantic(exported: Path, run: xr.Dataset):
    from covjson_pydantic.coverage import CoverageCollection

    found = CoverageCollection.model_validate_json((exported / "covjson" / "covjson.covjson").read_bytes())
    assert len(found.coverages) == 4
    assert set(found.parameters.root) == {"t2m", "t_850", "t_500"}
    assert found.parameters.root["t2m"].unit.symbol == "degC"
    last = found.coverages[3]
    assert last.domain.axes.t.values[0].isoformat() == "2026-11-20T06:00:00+00:00"
    at = nearest(run, -18.1, 178.4).sel(member=1)
    assert last.domain.axes.x.values == [float(at["longitude"])]
    assert [np.float32(v) for v in last.ranges["t_850"].values] == at["t"].sel(level=850).values.tolist()
    assert not any(math.isnan(v) for v in last.ranges["t2m"].values)
