"""One clear sentence, the right exit code and nothing lost for whatever is wrong with an item, a recipe or a place."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tasks.lake import recipe as recipes
from tasks.lake.errors import CorruptInput, LakeError, RecipeError, UsageError
from tests.flows.running import PLAIN
from tests.flows.running import run as command

from . import eopf
from .converting import RECIPE, convert, files, run, store

R10, R20, R60 = eopf.REFLECTANCE


@pytest.fixture
def copy(product: eopf.Product, tmp_path: Path) -> Path:
    """A copy of the item's store that a test may spoil."""
    return Path(shutil.copytree(product.store, tmp_path / "copy.zarr"))


def ingest(lake: Path, source: object, **settings) -> None:
    report = run(lake, ("ingest",), source__items=[str(source)], **settings)["ingest"]
    if report.problems:
        raise LakeError(report.problems[0])


def spoil(store: Path, change) -> None:
    """Change the consolidated metadata of a store."""
    path = store / ".zmetadata"
    document = json.loads(path.read_bytes())
    change(document["metadata"])
    path.write_text(json.dumps(document))


def test_not_a_zarr(tmp_path: Path) -> None:
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(CorruptInput, match=r"x\.zarr is not a Zarr store: there is no zarr\.json"):
        ingest(tmp_path / "lake", tmp_path / "x.zarr")
    (tmp_path / "x.zarr" / ".zmetadata").write_text("<html>")
    with pytest.raises(CorruptInput, match=r"not a Zarr store: \.zmetadata cannot be read"):
        ingest(tmp_path / "lake", tmp_path / "x.zarr")


def test_not_an_item(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"type": "Collection", "assets": {}}')
    with pytest.raises(UsageError, match="is no STAC item: expected type Feature with assets, found Collection"):
        ingest(tmp_path / "lake", tmp_path / "x.json")
    (tmp_path / "x.json").write_text("<html>")
    with pytest.raises(UsageError, match="neither a STAC item"):
        ingest(tmp_path / "lake", tmp_path / "x.json")
    with pytest.raises(UsageError, match="is not there"):
        ingest(tmp_path / "lake", tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="may not hold a user or a password"):
        ingest(tmp_path / "lake", "https://me:secret@h/x.zarr")


def test_a_missing_group_names_those_that_come_closest(product: eopf.Product, tmp_path: Path) -> None:
    done = command(
        "ingest", RECIPE, "--item", product.item, "--groups", "/measurements/reflectance/r15m", "--lake",
        tmp_path / "lake", *PLAIN,
    )  # fmt: skip
    assert done.code == 2
    assert "group /measurements/reflectance/r15m is not there" in done.err
    for group in (R10, R20, R60):
        assert f"/{group}" in done.err
    assert "Traceback" not in done.err


def test_a_group_without_arrays(product: eopf.Product, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no arrays of its own"):
        ingest(tmp_path / "lake", product.store, select__groups=["measurements/reflectance"])


def test_no_crs(tmp_path: Path) -> None:
    product = eopf.write(tmp_path, 366, groups=(R60,), epsg=None)
    with pytest.raises(LakeError, match=r"has no CRS: neither proj:code, proj:epsg"):
        ingest(tmp_path / "lake", product.store, select__groups=[R60])


def test_a_crs_that_is_none(copy: Path, tmp_path: Path) -> None:
    spoil(copy, lambda m: m[f"{R60}/b01/.zattrs"].update({"proj:epsg": 999999, "proj:code": "EPSG:999999"}))
    with pytest.raises(LakeError, match="proj:code is no CRS"):
        ingest(tmp_path / "lake", copy, select__groups=[R60])


def test_transform_and_coordinates_disagree(copy: Path, tmp_path: Path) -> None:
    moved = [60.0, 0.0, 700000.0, 0.0, -60.0, 4700040.0, 0.0, 0.0, 1.0]
    spoil(copy, lambda m: m[f"{R60}/b01/.zattrs"].update({"proj:transform": moved}))
    with pytest.raises(LakeError, match="transform and coordinate x disagree"):
        ingest(tmp_path / "lake", copy, select__groups=[R60])


def test_a_broken_chunk(copy: Path, tmp_path: Path) -> None:
    path = copy / R60 / "b01" / "0.0"
    path.write_bytes(path.read_bytes()[:100])
    settings = {"source__items": [str(copy)], "select__groups": [R60], "outputs__quicklook": []}
    reports = run(tmp_path / "lake", ("ingest", "refine"), **settings)
    assert reports["refine"].exit_code == 1
    assert f"/{R60}/b01 of copy cannot be decoded" in reports["refine"].problems[0]
    assert not list((tmp_path / "lake").glob("scenes/**/b01/c/0/0"))


def test_output_exists_with_other_content(product: eopf.Product, tmp_path: Path) -> None:
    out = tmp_path / "out" / f"{product.id}.zarr"
    out.mkdir(parents=True)
    (out / "zarr.json").write_text("{}")
    settings = {"source__items": [str(product.item)], "select__groups": [R60], "outputs__url": str(tmp_path / "out")}
    reports = run(tmp_path / "lake", **settings)
    assert reports["export"].exit_code == 1
    assert "holds other content (zarr.json); name another place, or empty it" in reports["export"].problems[0]
    assert files(out) == {"zarr.json": b"{}"}


def test_an_output_that_was_begun_is_completed(product: eopf.Product, tmp_path: Path) -> None:
    lake, out = tmp_path / "lake", tmp_path / "out" / f"{product.id}.zarr"
    found = convert(lake, product.item, select__groups=[R60])
    key = f"{R60}/0/b09/c/0/0"
    (out / key).parent.mkdir(parents=True)
    (out / key).write_bytes((found / key).read_bytes())
    convert(lake, product.item, select__groups=[R60], outputs__url=str(tmp_path / "out"))
    assert files(out) == files(found)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs a place nobody may write to")
def test_no_write_permission(product: eopf.Product, tmp_path: Path) -> None:
    settings = {"source__items": [str(product.item)], "select__groups": [R60], "outputs__tar": False}
    report = run(tmp_path / "lake", **settings, outputs__url="/proc/nowhere")["export"]
    assert report.exit_code == 1
    assert "/proc/nowhere" in report.problems[0]
    done = command("pipeline", RECIPE, "--item", product.item, "--lake", "/proc/lake", *PLAIN)
    assert done.code == 1
    assert "/proc/lake" in done.err
    assert "Traceback" not in done.err


def test_an_object_damaged_after_it_was_written_is_found(product: eopf.Product, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    settings = {"source__items": [str(product.item)], "select__groups": [R60], "outputs__quicklook": []}
    run(lake, ("ingest", "refine"), **settings)
    path = next(lake.glob(f"scenes/*/*/*/*.zarr/{R60}/0/b09/c/0/0"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    report = run(lake, ("validate",), **settings)["validate"]
    assert report.exit_code == 3
    assert "is not what was recorded" in report.problems[0]
    with pytest.raises(UsageError, match="was held back"):
        run(lake, ("regrid",), **settings)


def test_a_scene_without_data_is_held_back(tmp_path: Path) -> None:
    product = eopf.write(tmp_path, 366, groups=(R60,), edge=9.0)
    settings = {"source__items": [str(product.item)], "select__groups": [R60]}
    reports = run(tmp_path / "lake", **settings)
    assert reports["validate"].exit_code == 3
    assert "100.0% of the pixels are without data" in reports["validate"].problems[0]
    assert "regrid" not in reports


def test_a_metadata_document_that_the_validators_refuse_makes_no_store(
    product: eopf.Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.grids import geozarr

    lake = tmp_path / "lake"
    monkeypatch.setattr(geozarr, "crs_attributes", lambda georef: {"proj:code": "no code"})
    settings = {"source__items": [str(product.item)], "select__groups": [R60], "outputs__tar": False}
    report = run(lake, **settings)["export"]
    assert report.exit_code == 1
    assert "is no GeoZarr, zarr-cm says" in report.problems[0]
    assert not (store(lake) / "zarr.json").exists()


def test_options_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="named after their resolution"):
        recipes.load(RECIPE, {"overviews.scheme": "ladder", "select.groups": ["measurements/all"]})
    with pytest.raises(RecipeError, match="one variable or three"):
        recipes.load(RECIPE, {"outputs.quicklook": ["a/b", "c/d"]})
    with pytest.raises(RecipeError, match="flag_above lies above accept_above"):
        recipes.load(RECIPE, {"checks.flag_above": 0.99})


def test_a_quicklook_of_a_band_that_is_not_selected(product: eopf.Product, tmp_path: Path) -> None:
    settings = {"source__items": [str(product.item)], "select__groups": [R10]}
    with pytest.raises(UsageError, match="the quick-look has no measurements/reflectance/r60m/b04"):
        run(tmp_path / "lake", **settings)
