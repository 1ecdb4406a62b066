"""The metadata of a real EOPF product and a real STAC item: what of them is understood, without their pixels."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.grids.georef import find_crs, find_transform
from tasks.lake.objects import Objects
from tasks.scenes.items import of_item
from tasks.scenes.layout import cut
from tasks.scenes.tree import Tree, open_tree
from tasks.scenes.zarr_array import chunk_shape, dtype

from . import eopf

pytestmark = pytest.mark.real

PRODUCT = "S2A_MSIL2A_20251008T100041_N0511_R122_T32TQM_20251008T122613"


def consolidated(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    """``.zmetadata`` entries of a product in pydantic-zarr's form."""
    below = f"{path}/" if path else ""
    out = {f"{below}.zattrs": node["attributes"]}
    if "members" not in node:
        return out | {f"{below}.zarray": {k: v for k, v in node.items() if k != "attributes"}}
    out[f"{below}.zgroup"] = {"zarr_format": 2}
    for name, child in node["members"].items():
        out |= consolidated(child, f"{below}{name}")
    return out


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    document = json.loads((shared / f"data/eopf/s2_examples/{PRODUCT}.json").read_bytes())
    folder = tmp_path_factory.mktemp("real")
    (folder / ".zmetadata").write_text(json.dumps({"metadata": consolidated(document), "zarr_consolidated_format": 1}))
    return open_tree(Objects(str(folder)))


def test_the_grid_of_every_group(real: Tree) -> None:
    for group in (*eopf.REFLECTANCE, eopf.SCL, "quality/atmosphere/r10m", "quality/l2a_quicklook/r60m"):
        bands = [a for a in real.within(group).values() if a.dims[-2:] == ("y", "x")]
        resolution = int(group.rpartition("/")[2][1:-1])
        assert find_crs([b.attributes for b in bands], group) == "EPSG:32632"
        found = find_transform([b.attributes for b in bands], None, None, group)
        assert found == (resolution, 0, 699960, 0, -resolution, 4700040)
        assert {b.shape[-2:] for b in bands} == {(109800 // resolution, 109800 // resolution)}


def test_chunks_are_not_split(real: Tree) -> None:
    for path, array in real.arrays.items():
        if array.dims[-2:] == ("y", "x") and path.startswith(("measurements", "quality", "conditions/mask")):
            found = cut(array.shape[-1], chunk_shape(array.document)[-1], 1024, 6144)
            assert found.block % chunk_shape(array.document)[-1] == 0
            assert found.chunk in (915, 610, 549)


def test_the_synthetic_product_has_the_real_structure(real: Tree, product: eopf.Product) -> None:
    made = open_tree(Objects(str(product.store)))
    # What is left out has no place on a map: angles, weather, and groups that repeat others.
    assert set(made.groups) <= set(real.groups)
    for path, array in made.arrays.items():
        other = real.arrays[path]
        if path.startswith("conditions/geometry"):
            continue
        assert dtype(array.document) == dtype(other.document), path
        assert array.dims == other.dims, path
        assert array.document["fill_value"] == other.document["fill_value"], path
        assert array.document["compressor"] == other.document["compressor"], path
        per_side = other.shape[-1] // chunk_shape(other.document)[-1]
        assert array.shape[-1] // chunk_shape(array.document)[-1] == per_side, path
        for key in ("scale_factor", "add_offset", "fill_value", "flag_masks", "units", "proj:epsg"):
            assert array.attributes.get(key) == other.attributes.get(key), (path, key)
    for group in eopf.REFLECTANCE:
        assert set(made.within(group)) == set(real.within(group))


def test_a_real_stac_item(shared: Path) -> None:
    path = next((shared / "data/eopf_stac").glob("S2A_MSIL2A_20251113*.json"))
    scene = of_item(json.loads(path.read_bytes()), str(path), "product")
    assert scene.id == path.stem
    assert scene.store.endswith(f"/{scene.id}.zarr")
    assert scene.datetime is not None
    assert scene.datetime.isoformat() == "2025-11-13T10:23:11.024000+00:00"
    other = of_item(json.loads(path.read_bytes()), str(path), "no such asset")
    assert other.store == scene.store
