"""The catalogue of a lake with exports: read by pystac, listed by the command, right after a change."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from flows import listing
from tests.flows.running import PLAIN, run

from .conftest import RUNS


@pytest.fixture(scope="module")
def catalog(lake: Path):
    pystac = pytest.importorskip("pystac", reason="pystac is not installed")
    return pystac.Catalog.from_file(str(lake / "catalogue" / "catalog.json"))


def one(catalog, name: str):
    return next(catalog.get_items(name, recursive=True))


def test_every_run_of_each_cube_has_an_item(catalog):
    assert {i.id for i in catalog.get_items(recursive=True)} == {
        f"{zone}-{scope}" for zone in ("refined", "coarse") for scope in RUNS
    }
    for item in catalog.get_items(recursive=True):
        extensions = item.stac_extensions
        # The core's schemas come with pystac; those of extensions would have to be fetched.
        item.stac_extensions = []
        item.validate()
        item.stac_extensions = extensions
        assert {e.split("/")[3] for e in extensions} == {"datacube", "file", "forecast"}


def test_the_datacube_says_what_the_cube_has(catalog):
    item = one(catalog, f"refined-{RUNS[1]}")
    cube = item.ext.cube
    assert set(cube.variables) == {"t2m", "tp", "t"}
    assert cube.variables["t"].dimensions == ["init_time", "lead_time", "member", "level", "latitude", "longitude"]
    dimensions = {n: d.to_dict() for n, d in cube.dimensions.items()}
    assert dimensions["lead_time"]["values"] == [0, 6, 12]
    assert dimensions["level"]["values"] == [850, 500]
    assert dimensions["latitude"]["extent"] == [-90, 90]
    assert (dimensions["longitude"]["step"], dimensions["longitude"]["reference_system"]) == (2, 4326)
    assert item.properties["end_datetime"] == "2026-11-20T18:00:00Z"


def test_assets_are_there_with_their_checksums(catalog, lake: Path):
    item = one(catalog, f"refined-{RUNS[1]}")
    named = {
        "cube",
        "report",
        "verdict",
        "nc",
        "part",
        "part/SHA256SUMS",
        "grib/grib-006.grib2",
        "refs/virtual.icechunk",
    }
    assert named <= set(item.assets)
    checked = 0
    for asset in item.assets.values():
        place = Path(asset.get_absolute_href()).resolve()
        assert place.is_relative_to(lake.resolve())
        assert place.exists(), asset.href
        if checksum := asset.extra_fields.get("file:checksum"):
            assert checksum == "1220" + sha256(place.read_bytes()).hexdigest()
            assert asset.extra_fields["file:size"] == place.stat().st_size
            checked += 1
    assert checked > 10
    assert "csv" not in item.assets
    assert "csv" in one(catalog, f"coarse-{RUNS[1]}").assets


def test_the_snapshot_opens_the_cube_as_it_was_published(catalog):
    import icechunk
    import xarray as xr

    asset = one(catalog, f"refined-{RUNS[0]}").assets["cube"]
    storage = icechunk.local_filesystem_storage(asset.get_absolute_href())
    session = icechunk.Repository.open(storage).readonly_session(snapshot_id=asset.extra_fields["weatherlake:snapshot"])
    found = xr.open_zarr(session.store, consolidated=False, chunks=None)
    assert str(found["init_time"].values[0])[:13] == RUNS[0]


def test_the_list_names_what_is_there(lake: Path, capsys: pytest.CaptureFixture[str]):
    ran = run("export", "--list", "small", "--lake", lake, "--json")
    assert ran.code == 0, ran.err
    items = ran.json["items"]
    assert [i["id"] for i in items] == sorted(f"{z}-{s}" for z in ("refined", "coarse") for s in RUNS)
    for item in items:
        for asset in item["assets"]:
            assert (lake / asset["place"]).exists(), asset
    assert listing.main(["--list", "--lake", str(lake)]) == 0
    assert "coarse-2026-11-20T06" in capsys.readouterr().out
    assert listing.main(["--list", "nosuch", "--lake", str(lake), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == []
    assert listing.main(["--list", "--lake", str(lake / "nowhere")]) == 2
    assert "there is no lake" in capsys.readouterr().err


def test_a_lost_item_and_a_changed_title_are_entered_again(lake: Path, recipe_file: Path, tmp_path: Path):
    copy = Path(shutil.copytree(lake, tmp_path / "lake"))
    item = copy / "catalogue" / "small" / f"refined-{RUNS[1]}.json"
    before = item.read_bytes()
    again = run("export", recipe_file, "--lake", copy, "--json", *PLAIN).json
    assert again["status"] == "nothing to do"
    item.unlink()
    ran = run("export", recipe_file, "--lake", copy, "--json", *PLAIN)
    assert (ran.code, ran.json["partitions"]["done"]) == (0, 0)
    assert item.read_bytes() == before
