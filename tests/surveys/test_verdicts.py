"""Every sort of granule gets the verdict that is its due, and its own."""

import io
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("rio_tiler", reason="needs the extra 'surveys'")

import pyarrow.parquet as pq
from PIL import Image

from tasks.lake.errors import AccessError
from tasks.lake.lake import Lake
from tasks.lake.objects import Objects
from tests import servers
from tests.servers import archive

from . import granules, login_server
from .conftest import Survey

NOT_DATA = {
    "page.nc": b"<html>sorry</html>",
    "login.nc": b"<!DOCTYPE html><title>Earthdata Login</title>",
    "grib.nc": b"GRIB" + bytes(100),
    "old.hdf": b"\x0e\x03\x13\x01" + bytes(100),
    "none.nc": b"",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("granules")
    granules.grid(folder / "grid.nc")
    granules.grid(folder / "from-greenwich.nc", west=1.0)
    granules.grid(folder / "classic.nc", format="NETCDF3_CLASSIC")
    granules.swath(folder / "swath.nc")
    granules.groups(folder / "groups.nc")
    granules.misaligned(folder / "misaligned.nc")
    granules.empty(folder / "empty.nc")
    granules.bad_times(folder / "times.nc")
    granules.projected(folder / "projected.nc")
    granules.zarr(folder / "grid.zarr")
    granules.picture(folder / "utm.tif")
    granules.picture(folder / "plain.tif", crs=None)
    granules.hungry(folder / "hungry.nc", 350)
    granules.hungry_axis(folder / "hungry-axis.nc", 350)
    (folder / "cut.nc").write_bytes((folder / "grid.nc").read_bytes()[:3000])
    (folder / "picture.nc").write_bytes((folder / "utm.tif").read_bytes())
    for name, data in NOT_DATA.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def served(survey: Survey, made: Path) -> Survey:
    survey.archive.folder = made
    survey.settings["check.memory"] = 300
    return survey


EXPECTED = {
    "grid.nc": "compatible",
    "from-greenwich.nc": "compatible",
    "classic.nc": "compatible",
    "grid.zarr": "compatible",
    "utm.tif": "compatible",
    "swath.nc": "no_xy_dimensions",
    "groups.nc": "group_structure",
    "misaligned.nc": "group_not_aligned_with_parents",
    "empty.nc": "cant_extract_variables",
    "times.nc": "decode_error",
    "projected.nc": "tile_generation_failed",
    "plain.tif": "tile_generation_failed",
    "hungry.nc": "out_of_memory",
    "hungry-axis.nc": "out_of_memory",
    "cut.nc": "cant_open_file",
    "picture.nc": "cant_open_file",
    "page.nc": "cant_open_file",
    "grib.nc": "cant_open_file",
    "none.nc": "cant_open_file",
    "absent.nc": "cant_open_file",
    "login.nc": "forbidden",
    "old.hdf": "unsupported_format",
    "https://127.0.0.1:1/a.zip": "unsupported_format",
}


def test_every_sort_of_granule(served: Survey) -> None:
    wanted = {served.add(i, name): reason for i, (name, reason) in enumerate(EXPECTED.items())}
    wanted[served.add(900, None)] = "failed_to_extract_url"
    wanted[served.add(901, "ftp://127.0.0.1/a.nc")] = "failed_to_extract_url"
    wanted[served.add(902, "grid.nc", granules=0)] = "no_granule_found"
    reports = served.run()
    assert [r.status for r in reports] == ["done"] * 5
    assert served.results() == wanted

    rows = served.rows()
    by_file = {name: rows[f"C{i:07d}-POCLOUD"] for i, name in enumerate(EXPECTED)}
    grid = by_file["grid.nc"]
    assert (grid["format"], grid["backend"], grid["variable"], grid["crs"]) == ("HDF5", "xarray", "sst", "EPSG:4326")
    assert grid["dimensions"] == {"time": 2, "lat": 90, "lon": 180}
    assert (grid["tile"], grid["tile_valid"]) == ("0/0/0", 1.0)
    assert (grid["state"], grid["attempt"], grid["seed"], grid["num_granules"]) == ("done", 1, 1, 3)
    assert grid["concept_id"].startswith("G0000000")
    assert grid["duration"] > 0
    assert {"weatherlake", "gdal", "hdf5", "rio-tiler"} <= grid["versions"].keys()
    assert by_file["classic.nc"]["format"] == "NetCDF-3"
    assert by_file["utm.tif"]["backend"] == "rasterio"
    assert by_file["utm.tif"]["crs"] == "EPSG:32615"
    assert "expected NetCDF, found TIFF" in by_file["picture.nc"]["error_message"]
    assert "science/data" in by_file["groups.nc"]["error_message"]
    assert all(r["error_message"] for r in rows.values() if not r["tiling_compatible"])
    # A map of 0 to 360 degrees shows the same as one of -180 to 180.
    tiles = [f"surveys/cmr-collections/first/tiles/C000000{i}-POCLOUD.png" for i in (0, 2)]
    pictures = [Image.open(io.BytesIO(served.lake.objects.get(key))) for key in tiles]
    assert pictures[0].size == (256, 256)
    assert pictures[0].tobytes() == pictures[1].tobytes()

    table = pq.read_table(io.BytesIO(served.lake.objects.get("exports/cmr-collections/first/survey.parquet")))
    assert table.num_rows == len(wanted)
    assert table["collection_concept_id"].to_pylist() == sorted(wanted)


def test_one_that_hangs_one_that_is_forbidden_and_one_that_is_silent(served: Survey, made: Path) -> None:
    with archive(made, latency=30) as slow, archive(made, error_rate=1, error_status=403) as closed:
        hangs = served.add(1, f"{slow.url}/grid.nc")
        forbidden = served.add(2, f"{closed.url}/grid.nc")
        picture = served.add(3, f"{closed.url}/utm.tif")
        fine = served.add(4, "grid.nc")
        begun = time.monotonic()
        served.run(check__seconds=3)
        assert time.monotonic() - begun < 25
    assert served.results() == {hangs: "timeout", forbidden: "forbidden", picture: "forbidden", fine: "compatible"}
    assert "not done after 3 s" in served.rows()[hangs]["error_message"]


def test_a_server_that_is_down_is_no_verdict_until_it_was_tried_often(served: Survey) -> None:
    down = served.add(1, "http://127.0.0.1:9/grid.nc")
    fine = served.add(2, "grid.nc")
    report = served.run("ingest", "refine", check__attempts=4)[1]
    assert (report.status, int(report.exit_code)) == ("incomplete", 4)
    assert report.partitions["done"] == 1
    record = served.records("refine")[down]
    assert (str(record.status), record.error.error_class, record.error.reason) == ("failed", "transient", "Unreachable")
    assert served.selected("refine", "missing") == served.selected("refine", "failed") == {down}
    # The next attempt is the fourth: that is the verdict.
    assert [r.status for r in served.run(check__attempts=4)][1:3] == ["done", "done"]
    assert served.results() == {down: "cant_open_file", fine: "compatible"}
    assert served.rows()[down]["error_message"].startswith("after 4 attempts: ")
    assert served.rows()[down]["attempt"] == 4


def test_a_verdict_is_taken_again_by_its_reason(served: Survey, made: Path) -> None:
    hungry, swath = served.add(1, "hungry.nc"), served.add(2, "swath.nc")
    served.run()
    assert served.results() == {hungry: "out_of_memory", swath: "no_xy_dimensions"}
    for select in ("missing", "failed", "all"):
        assert served.selected("validate", select) == set()
        assert served.selected("validate", select, reasons=["out_of_memory"]) == {hungry}
        assert served.selected("validate", select, reasons=["timeout"]) == set()
    assert served.selected("validate", reasons=["out_of_memory", "no_xy_dimensions"]) == {hungry, swath}
    # With more memory the one that ran out of it is compatible; the other is left alone.
    reports = served.run(reasons=["out_of_memory"], check__memory=2000)
    assert [r.partitions["done"] for r in reports] == [0, 0, 1, 0, 1]
    assert served.results() == {hungry: "compatible", swath: "no_xy_dimensions"}
    attempts = {k: r.attempt for k, r in served.records("validate").items()}
    assert attempts == {hungry: 2, swath: 1}
    assert served.rows()[hungry]["attempt"] == 2


def test_secrets_stay_out_of_everything(served: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token goes to hosts that may see it, and is in no record, report or error."""
    monkeypatch.setenv("EDL_TOKEN", "sesame-open-sesame")
    login = {"token": "env:EDL_TOKEN", "hosts": ["127.0.0.1"]}
    served.add(1, "grid.nc")
    served.add(2, "absent.nc")
    served.add(3, f"{served.archive.url.replace('127.0.0.1', 'localhost')}/absent.tif")
    seen: list[tuple[str, str | None]] = []
    _listen(monkeypatch, seen)
    served.run(login=login)
    authorised = {authorization for host, authorization in seen if host.startswith("127.0.0.1")}
    assert authorised == {"Bearer sesame-open-sesame"}
    assert {authorization for host, authorization in seen if host.startswith("localhost")} == {None}
    for meta in Lake(served.lake.url).objects.listing():
        assert b"sesame" not in served.lake.objects.get(meta.key), meta.key


def _listen(monkeypatch: pytest.MonkeyPatch, seen: list[tuple[str, str | None]]) -> None:
    """Note Host and Authorization of every request for a granule."""
    lock = threading.Lock()
    answer = servers._Handler._answer

    def noting(self: servers._Handler, *, body: bool) -> None:
        with lock:
            seen.append((self.headers["Host"], self.headers["Authorization"]))
        answer(self, body=body)

    monkeypatch.setattr(servers._Handler, "_answer", noting)


@pytest.mark.real
def test_real_granules(survey: Survey, shared: Path) -> None:
    """A GHRSST analysis and an HLS mask; gdalinfo says the same of the four variables, the sizes and the CRS."""
    survey.archive.folder = shared / "data" / "cmr_files"
    sst = survey.add(1, "20241011120000-ABOM-L4_GHRSST-SSTfnd-GAMSSA_28km-GLOB-v02.0-fv01.0.nc")
    hls = survey.add(2, "HLS.L30.T15UWP.2024283T165135.v2.0.Fmask.tif", center="LPCLOUD")
    survey.run()
    rows = survey.rows()
    assert survey.results() == {sst: "compatible", hls: "compatible"}
    assert rows[sst]["data_variables"] == ["sea_ice_fraction", "analysed_sst", "analysis_error", "mask"]
    assert rows[sst]["dimensions"] == {"time": 1, "lat": 720, "lon": 1440}
    assert (rows[hls]["format"], rows[hls]["crs"]) == ("COG-like TIFF", "EPSG:32615")
    assert rows[hls]["dimensions"] == {"band": 1, "y": 3660, "x": 3660}
    # The middle of T15UWP (92.27 W, 48.25 N) at zoom 8, by the formula of the slippy map.
    assert rows[hls]["tile"] == "8/62/88"


def test_granules_on_s3(served: Survey, s3, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 links with the temporary keys that a login gives: both backends, and no secret in the lake."""
    bucket = s3.bucket()
    store = Objects(f"s3://{bucket}?endpoint={s3.endpoint}&region=us-east-1")
    for path in (made / "grid.nc", made / "utm.tif", *granules_of_zarr(made)):
        store.put(f"data/{path.relative_to(made)}", path.read_bytes())
    names = ("grid.nc", "utm.tif", "grid.zarr", "absent.nc")
    keys = [served.add(i, f"s3://{bucket}/data/{name}") for i, name in enumerate(names)]
    monkeypatch.setenv("EDL_PASSWORD", login_server.PASSWORD)
    served.settings |= {"check.access": "s3", "check.endpoint": s3.endpoint, "check.region": "us-east-1"}
    with login_server.login() as account:
        served.files["s3credentials"] = f"{account.url}/s3credentials"
        who = {"url": account.url, "username": "env:EDL_NAME", "password": "env:EDL_PASSWORD", "hosts": ["127.0.0.1"]}
        monkeypatch.setenv("EDL_NAME", "nobody")
        with pytest.raises(AccessError, match="refuses the user name and password"):
            served.run("ingest", "refine", login=who)
        assert served.records("refine") == {}, "one refusal, before the first check"
        monkeypatch.setenv("EDL_NAME", login_server.NAME)
        served.run(login=who)
        assert account.asked[1:] == [("/api/users/find_or_create_token", 200), ("/s3credentials", 200)]
    found = served.results()
    assert [found[k] for k in keys] == ["compatible", "compatible", "compatible", "cant_open_file"], served.rows()
    for meta in served.lake.objects.listing():
        assert b"sesame" not in served.lake.objects.get(meta.key), meta.key


def granules_of_zarr(made: Path) -> list[Path]:
    return [p for p in (made / "grid.zarr").rglob("*") if p.is_file()]
