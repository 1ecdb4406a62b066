"""A whole item: values and coordinates at every level against xarray alone, validators, readers, tar, STAC item."""

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
import zarr
from matplotlib.image import imread

from tasks.grids.geozarr_validators import EOPF_GEOZARR, conventions, eopf, toolkit

from . import eopf as products
from .converting import RECIPE, convert, files, run, store
from .test_overviews import expected

R10, R20, R60 = products.REFLECTANCE


def levels_of(root: zarr.Group, group: str) -> list[zarr.Group]:
    """The levels that the multiscales metadata of a group names, finest first."""
    layout = root[group].attrs["multiscales"]["layout"]
    return [root[f"{group}/{row['asset']}"] for row in layout]


@pytest.mark.parametrize(
    ("group", "name", "method", "nodata"),
    [(R10, "b02", "mean", 0), (R20, "b8a", "mean", 0), (R60, "b09", "mean", 0), (products.SCL, "scl", "mode", 0)],
)
def test_pixels_and_coordinates_at_every_level(
    converted: Path, product: products.Product, group: str, name: str, method, nodata: float
) -> None:
    root = zarr.open_group(store(converted), mode="r")
    values = product.raw(f"{group}/{name}")
    resolution = 10 * 366 / values.shape[0]
    x, y = product.raw(f"{group}/x").astype("f8"), product.raw(f"{group}/y").astype("f8")
    for number, level in enumerate(levels_of(root, group)):
        if number:
            values = expected(values, 2, method, nodata)
            # The centre of a cell of 2 x 2 lies half a fine pixel from the first centre, whatever comes after it.
            x, y = x[::2] + resolution / 2, y[::2] - resolution / 2
            resolution *= 2
        np.testing.assert_array_equal(level[name][:], values)
        assert level[name].dtype == values.dtype
        np.testing.assert_array_equal(level["x"][:], x)
        np.testing.assert_array_equal(level["y"][:], y)
        a, b, c, d, e, f = level.attrs["spatial:transform"]
        assert (a, b, d, e) == (resolution, 0, 0, -resolution)
        assert (c + a / 2, f + e / 2) == (x[0], y[0])
        assert level.attrs["spatial:shape"] == list(values.shape)
    assert min(values.shape) >= 40


def test_levels_end_at_the_smallest_side_and_are_exact_doubles(converted: Path) -> None:
    root = zarr.open_group(store(converted), mode="r")
    sizes = {g: [row["spatial:shape"][0] for row in root[g].attrs["multiscales"]["layout"]] for g in (R10, R20, R60)}
    assert sizes == {R10: [366, 183, 92, 46], R20: [183, 92, 46], R60: [61]}
    for row in root[R10].attrs["multiscales"]["layout"][1:]:
        assert row["transform"] == {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}


def test_decoded_values_are_those_of_xarray(product: products.Product, tmp_path: Path) -> None:
    found = convert(tmp_path / "lake", product.item, layout__values="decoded")
    source = xr.open_dataset(product.store, group=R10, engine="zarr", consolidated=True)
    result = xr.open_dataset(found, group=f"{R10}/0", engine="zarr")
    raw = product.raw(f"{R10}/b04")
    for name in ("b02", "b04"):
        np.testing.assert_array_equal(result[name], source[name].astype("f4"))
    assert result["b04"].dtype == "float32"
    assert int(np.isnan(result["b04"]).sum()) == int((raw == 0).sum()) > 0
    cells = source["b04"].coarsen(x=2, y=2)
    count = source["b04"].notnull().coarsen(x=2, y=2).reduce(np.sum)
    second = xr.open_dataset(found, group=f"{R10}/1", engine="zarr")
    np.testing.assert_allclose(second["b04"], cells.reduce(np.nansum) / count.where(count > 0), rtol=2e-7)
    classes = xr.open_dataset(found, group=f"{products.SCL}/0", engine="zarr", mask_and_scale=False)
    assert classes["scl"].dtype == "uint8"


def test_readers_see_values_crs_and_place(converted: Path, product: products.Product) -> None:
    source = xr.open_dataset(product.store, group=R10, engine="zarr", consolidated=True)
    result = xr.open_dataset(store(converted), group=f"{R10}/0", engine="zarr", decode_coords="all")
    np.testing.assert_array_equal(result["b08"], source["b08"])
    assert result.rio.crs.to_epsg() == 32632
    assert result.rio.bounds() == (699960.0, 4700040.0 - 3660, 699960.0 + 3660, 4700040.0)
    tree = xr.open_datatree(store(converted), engine="zarr")
    assert f"/{R20}/2" in tree.groups


def test_two_validators_accept_it(converted: Path) -> None:
    found = store(converted)
    documents = {k: v for k, v in files(found).items() if k.endswith("zarr.json")}
    groups = {k: v for k, v in documents.items() if json.loads(v)["node_type"] == "group"}
    assert conventions(groups) == []
    assert toolkit(found) == []


def test_eopf_geozarr_accepts_it(converted: Path, eopf_geozarr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EOPF_GEOZARR, eopf_geozarr)
    assert eopf(store(converted)) == []


def test_eopf_geozarr_is_listened_to(
    converted: Path, eopf_geozarr: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EOPF_GEOZARR, eopf_geozarr)
    documents = {k: v for k, v in files(store(converted)).items() if k.endswith("zarr.json")}
    root = json.loads(documents["zarr.json"])
    del root["attributes"]["spatial:bbox"]
    for key, data in documents.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(data if key != "zarr.json" else json.dumps(root).encode())
    assert "spatial:bbox" in " ".join(eopf(tmp_path))


def test_validators_find_what_is_wrong(converted: Path) -> None:
    root = json.loads((store(converted) / "zarr.json").read_bytes())
    root["attributes"]["spatial:bbox"] = [1, 2]
    assert "spatial:bbox" in conventions({"zarr.json": json.dumps(root).encode()})[0]


def test_the_tar_unpacks_to_the_same_store_and_its_list_fits(converted: Path, tmp_path: Path) -> None:
    (tar,) = converted.glob(f"exports/{RECIPE}/*/*.tar")
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path, filter="data")
    found = store(converted)
    assert files(tmp_path / found.name) == files(found)
    (listed,) = tmp_path.glob("*.sha256")
    done = subprocess.run(["sha256sum", "-c", "--quiet", listed.name], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert len(listed.read_text().splitlines()) == len(files(found))


def test_the_stac_item_is_valid_and_leads_to_source_and_result(converted: Path, product: products.Product) -> None:
    (path,) = converted.glob(f"exports/{RECIPE}/{product.id}/{product.id}.json")
    item = pystac.Item.from_file(str(path))
    assert item.assets["geozarr"].href == store(converted).as_uri()
    assert item.assets["measurements-reflectance-r10m"].extra_fields["proj:shape"] == [366, 366]
    assert item.properties["proj:code"] == "EPSG:32632"
    assert item.properties["eo:cloud_cover"] == 0.003839
    assert [link.target for link in item.links if link.rel == "derived_from"] == [str(product.item)]
    tar = item.assets["archive"]
    digest = hashlib.sha256(Path(tar.href.removeprefix("file://")).read_bytes()).hexdigest()
    assert tar.extra_fields["file:checksum"] == f"1220{digest}"
    picture = imread(item.assets["quicklook"].href.removeprefix("file://"))
    assert picture.shape == (61, 61, 4)
    without = product.raw(f"{R60}/b04") == 0
    np.testing.assert_array_equal(picture[..., 3] == 0, without)


def test_nothing_is_done_twice(converted: Path, product: products.Product) -> None:
    before = {p: p.stat().st_mtime_ns for p in converted.rglob("*") if p.is_file()}
    convert(converted, product.item)
    after = {p: p.stat().st_mtime_ns for p in converted.rglob("*") if p.is_file()}
    assert {p for p in after if after[p] != before.get(p)} - {converted / "ledger/.probe"} == set()


def test_masks_classes_probabilities_and_colours(product: products.Product, tmp_path: Path) -> None:
    groups = ["/quality/mask/r20m", "conditions/mask/detector_footprint/r20m/", "quality/probability/r20m",
              "quality/l2a_quicklook/r20m", "quality/atmosphere/r20m"]  # fmt: skip
    found = convert(tmp_path / "lake", product.item, select__groups=groups, outputs__quicklook=[])
    root = zarr.open_group(found, mode="r")
    for path, method, nodata in [
        ("quality/mask/r20m/{}/b05", "flags", None),
        ("conditions/mask/detector_footprint/r20m/{}/b05", "mode", 0),
        ("quality/probability/r20m/{}/cld", "mean", None),
        ("quality/atmosphere/r20m/{}/wvp", "mean", 0),
    ]:
        raw = product.raw(path.format("").replace("//", "/"))
        np.testing.assert_array_equal(root[path.format(1)][:], expected(raw, 2, method, nodata))
        assert root[path.format(1)].dtype == raw.dtype
    colours = product.raw("quality/l2a_quicklook/r20m/tci")
    np.testing.assert_array_equal(root["quality/l2a_quicklook/r20m/1/tci"][2], expected(colours[2], 2, "mean", None))
    np.testing.assert_array_equal(root["quality/l2a_quicklook/r20m/1/band"][:], [1, 2, 3])
    assert toolkit(found) == []
    assert xr.open_dataset(found, group="quality/atmosphere/r20m/0", engine="zarr")["aot"].encoding["scale_factor"]


def test_the_ladder(product: products.Product, tmp_path: Path) -> None:
    found = convert(
        tmp_path / "lake", product.item, overviews__scheme="ladder", overviews__min_dimension=5, outputs__cog=False
    )
    root = zarr.open_group(found, mode="r")
    layout = root["measurements/reflectance"].attrs["multiscales"]["layout"]
    assert [(r["asset"], r["spatial:shape"][0]) for r in layout] == [
        ("r10m", 366), ("r20m", 183), ("r60m", 61), ("r120m", 31), ("r360m", 11), ("r720m", 6),
    ]  # fmt: skip
    assert [r.get("transform", {}).get("scale", [1])[0] for r in layout] == [1, 2, 3, 2, 3, 2]
    group = root["measurements/reflectance"]
    # b08 is at 10 m alone; b02 at 20 m is the product's own.
    b08 = expected(product.raw(f"{R10}/b08"), 2, "mean", 0)
    np.testing.assert_array_equal(group["r20m/b08"][:], b08)
    np.testing.assert_array_equal(group["r60m/b08"][:], expected(b08, 3, "mean", 0))
    np.testing.assert_array_equal(group["r20m/b02"][:], product.raw(f"{R20}/b02"))
    np.testing.assert_array_equal(group["r120m/b09"][:], expected(product.raw(f"{R60}/b09"), 2, "mean", 0))
    assert toolkit(found) == []


def test_cogs(product: products.Product, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    convert(lake, product.item, outputs__cog=True, select__groups=[R10], outputs__quicklook=[])
    (path,) = lake.glob("exports/*/*/measurements/reflectance/r10m/b02.tif")
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), product.raw(f"{R10}/b02"))
        assert (file.crs.to_epsg(), file.nodata, file.scales, file.offsets) == (32632, 0, (0.0001,), (-0.1,))
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert tuple(file.transform)[:6] == (10, 0, 699960, 0, -10, 4700040)


def test_a_zarr_3_source_without_consolidated_metadata_or_stac_item(product: products.Product, tmp_path: Path) -> None:
    path = tmp_path / "third.zarr"
    for name in (R10, R60):
        data = xr.open_dataset(product.store, group=name, engine="zarr", consolidated=True, mask_and_scale=False)
        data = data.drop_encoding()
        for variable in data.data_vars.values():
            variable.attrs.pop("_eopf_attrs", None)
        encoding = {n: {"chunks": (61, 61), "shards": (183, 183) if name == R10 else None} for n in data.data_vars}
        data.to_zarr(path, group=name, zarr_format=3, encoding=encoding, mode="a", consolidated=False)
    found = convert(tmp_path / "lake", path, select__groups=[R10, R60])
    root = zarr.open_group(found, mode="r")
    np.testing.assert_array_equal(root[f"{R10}/0/b02"][:], product.raw(f"{R10}/b02"))
    assert (tmp_path / f"lake/exports/{RECIPE}/third/third.json").exists()


def test_a_copy_elsewhere_is_complete_and_the_item_names_it(product: products.Product, tmp_path: Path) -> None:
    lake, out = tmp_path / "lake", tmp_path / "out"
    found = convert(lake, product.item, outputs__url=str(out), select__groups=[R60], outputs__tar=False)
    assert files(out / f"{product.id}.zarr") == files(found)
    item = json.loads((lake / f"exports/{RECIPE}/{product.id}/{product.id}.json").read_text())
    assert item["assets"]["geozarr"]["href"] == f"{out}/{product.id}.zarr"


def test_prestaged_objects_are_counted_and_read_from_the_lake(product: products.Product, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    source = tmp_path / product.store.name
    for key, data in files(product.store).items():
        (source / key).parent.mkdir(parents=True, exist_ok=True)
        (source / key).write_bytes(data)
    settings = {"source__items": [str(source)], "source__prestage": True, "select__groups": [R10]}
    settings |= {"outputs__quicklook": [], "overviews__min_dimension": 40}
    reports = run(lake, ("ingest",), **settings)
    assert reports["ingest"].exit_code == 0
    raw = files(lake / "raw" / RECIPE / product.id / R10)
    assert raw == {k: v for k, v in files(source / R10).items() if "/" in k and not k.endswith((".zarray", ".zattrs"))
                   and k.split("/")[0] not in ("x", "y")}  # fmt: skip
    source.rename(tmp_path / "gone")
    (lake / "raw" / RECIPE / product.id / R10 / "b02" / "0.0").write_bytes(b"x")
    reports = run(lake, ("refine",), **settings)
    assert reports["refine"].exit_code == 1
    assert "not what it was at ingest" in reports["refine"].problems[0]
    (lake / "raw" / RECIPE / product.id / R10 / "b02" / "0.0").write_bytes(raw["b02/0.0"])
    recovered = {**settings, "source__items": [str(source)]}
    from tasks.lake.lake import Lake
    from tasks.lake.recipe import load

    recipe = load(RECIPE, {k.replace("__", "."): v for k, v in recovered.items()})
    key = f"ledger/{recipe.name}/refine/{product.id}/{R10}/b02/0.json"
    Lake(str(lake)).objects.delete(key)
    assert run(lake, ("refine",), **recovered)["refine"].exit_code == 0
