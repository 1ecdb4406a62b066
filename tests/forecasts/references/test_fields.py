"""Fields that are not plain: several in a message, bitmaps, other scans and packings; every real file."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pyarrow as pa
import pytest
import zarr

from tasks.forecasts import references
from tasks.forecasts.decode import decode
from tasks.forecasts.references.codec import GribCodec
from tasks.forecasts.references.reading import open_member, open_virtual
from tasks.forecasts.scan import scan_manifest
from tasks.lake import recipe as recipes
from tasks.lake.errors import CorruptInput, UsageError
from tasks.lake.phase import Context

from ..encoding import SHAPE, encode, field, join, reference, sections
from ..test_real_files import CASES, decoded, recipe_of, rows_of
from .archives import RUN, SCOPE, context_of, manifests

PACKINGS = ("grid_simple", "grid_ccsds", "grid_complex_spatial_differencing", "grid_ieee", "grid_jpeg")


def wind(**keys: object) -> tuple[bytes, bytes]:
    """U and V as messages of their own."""
    when = {"dataDate": 20261120, "dataTime": 0, "typeOfLevel": "heightAboveGround", "level": 10} | keys
    return encode(field(1), shortName="10u", **when), encode(field(2), shortName="10v", **when)


def context(folder: Path, files: dict[int, bytes], **variable: object) -> Context[Any]:
    """A single run of one file a step, which is scanned."""
    for step, data in files.items():
        (folder / f"run-{step}.grib2").write_bytes(data)
    document = {
        "name": "small", "kind": "forecast", "runs": {"start": RUN, "every": 6},
        "source": {"type": "folder", "root": folder.as_uri(), "pattern": "run-{step}.grib2", "steps": list(files)},
        "select": {"steps": list(files), "variables": [{"name": n, "param": n} for n in ("10u", "10v")]},
    }  # fmt: skip
    for entry in document["select"]["variables"]:
        entry["name"] = {"10u": "u10", "10v": "v10"}.get(entry["name"], entry["name"])
        entry |= variable
    return context_of(folder / "lake", recipes.parse(document))


@pytest.fixture
def of_two(tmp_path: Path) -> tuple[Context[Any], bytes, bytes]:
    u, v = wind()
    parts, second = sections(u), sections(v)
    both = join(u, [parts[n] for n in (1, 3, 4, 5, 6, 7)] + [second[n] for n in (4, 5, 6, 7)])
    return context(tmp_path, {0: both}), u, v


def test_the_second_field_of_a_message_is_its_own(of_two: tuple[Context[Any], bytes, bytes], tmp_path: Path):
    made, u, v = of_two
    references.write(made, SCOPE, manifests(made), ["icechunk"])
    dataset = open_virtual(str(tmp_path / "lake"), "small").isel(init_time=0, lead_time=0)
    for name, message in (("u10", u), ("v10", v)):
        np.testing.assert_array_equal(dataset[name].values, reference(message).reshape(SHAPE).astype("float32"))


def test_kerchunk_refuses_the_second_field_of_a_message(of_two: tuple[Context[Any], bytes, bytes]):
    made, _, _ = of_two
    with pytest.raises(UsageError, match=r"v10, which is field 2 of its messages; take 'references: \[icechunk\]'"):
        references.write(made, SCOPE, manifests(made), ["icechunk", "kerchunk"])
    assert made.lake.objects.listing("references") == []


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_and_bitmap_in_both_forms(packing: str, tmp_path: Path):
    missing = np.zeros(SHAPE, bool)
    missing[1, 2] = missing[4] = True
    u, v = wind(packingType=packing)
    holes = encode(field(2), missing=missing, shortName="10v", dataDate=20261120, dataTime=0, packingType=packing,
                   typeOfLevel="heightAboveGround", level=10)  # fmt: skip
    made = context(tmp_path, {0: u + holes})
    references.write(made, SCOPE, manifests(made), ["icechunk", "kerchunk"])
    dataset = open_virtual(str(tmp_path / "lake"), "small").isel(init_time=0, lead_time=0)
    tree = open_member(str(tmp_path / f"lake/references/small/{SCOPE}/2026112000z.parquet"))
    wanted = np.where(missing, np.nan, reference(v).reshape(SHAPE)).astype("float32")
    for found in (dataset["v10"], tree["v10/instant/heightAboveGround/v10"].isel(step=0)):
        np.testing.assert_array_equal(np.isnan(found.values), missing)
        np.testing.assert_allclose(found.values, wanted, rtol=1e-4)
    for found in (dataset["u10"], tree["u10/instant/heightAboveGround/u10"].isel(step=0)):
        np.testing.assert_array_equal(found.values, reference(u).reshape(SHAPE).astype("float32"))


@pytest.mark.parametrize("key", ["alternativeRowScanning", "jPointsAreConsecutive"])
def test_other_scans_are_right_or_refused(key: str, tmp_path: Path):
    messages = wind(**{key: 1})
    made = context(tmp_path, {0: b"".join(messages)})
    with pytest.raises(UsageError, match="scanning mode"):
        references.write(made, SCOPE, manifests(made), ["kerchunk"])
    references.write(made, SCOPE, manifests(made), ["icechunk"])
    dataset = open_virtual(str(tmp_path / "lake"), "small").isel(init_time=0, lead_time=0)
    for name, message in zip(("u10", "v10"), messages, strict=True):
        values = reference(message).astype("float32")
        if key == "jPointsAreConsecutive":
            wanted = values.reshape(SHAPE[::-1]).T
        else:
            wanted = values.reshape(SHAPE).copy()
            wanted[1::2] = wanted[1::2, ::-1]
        np.testing.assert_array_equal(dataset[name].values, wanted)


def test_rows_from_the_south_keep_their_latitudes(tmp_path: Path):
    south = {"jScansPositively": 1, "latitudeOfFirstGridPointInDegrees": -80, "latitudeOfLastGridPointInDegrees": 80}
    messages = wind(**south)
    made = context(tmp_path, {0: b"".join(messages)})
    references.write(made, SCOPE, manifests(made), ["icechunk", "kerchunk"])
    dataset = open_virtual(str(tmp_path / "lake"), "small").isel(init_time=0, lead_time=0)
    tree = open_member(str(tmp_path / f"lake/references/small/{SCOPE}/2026112000z.parquet"))
    latitudes = reference(messages[0], "latitudes")
    for found in (dataset["u10"], tree["u10/instant/heightAboveGround"].dataset["u10"].isel(step=0)):
        np.testing.assert_array_equal(found["latitude"].values, latitudes.reshape(SHAPE)[:, 0])
        np.testing.assert_array_equal(found.values, reference(messages[0]).reshape(SHAPE).astype("float32"))


def test_fields_told_apart_by_their_window_have_keys_of_their_own(tmp_path: Path):
    import pyarrow.parquet as pq

    common = {"dataDate": 20261120, "dataTime": 0, "shortName": "tp", "stepType": "accum", "endStep": 6}
    run_total, bucket = (encode(field(n), **common, startStep=start) for n, start in ((1, 0), (2, 3)))
    document = {
        "name": "small", "kind": "forecast", "runs": {"start": RUN, "every": 6},
        "source": {"type": "folder", "root": tmp_path.as_uri(), "pattern": "run-{step}.grib2", "steps": [6]},
        "select": {"steps": [6], "variables": [{"name": "total", "param": "tp"}, {"name": "bucket", "param": "tp"}]},
    }  # fmt: skip
    (tmp_path / "run-6.grib2").write_bytes(run_total + bucket)
    made = context_of(tmp_path / "lake", recipes.parse(document))
    table = scan_manifest(run_total + bucket, "run-6.grib2", run=RUN)
    names = pa.array(["total", "bucket"]).dictionary_encode()
    whole = table.add_column(0, "variable", names)
    where = pa.array([f"{tmp_path.as_uri()}/run-6.grib2"] * 2).dictionary_encode()
    whole = whole.set_column(whole.schema.get_field_index("url"), "url", where)
    references.write(made, SCOPE, [whole], ["kerchunk"])
    keys = pq.read_table(tmp_path / f"lake/references/small/{SCOPE}/2026112000z.parquet")["key"].to_pylist()
    assert [k for k in keys if k.startswith("step_")] == [
        "step_006/tp:total/surface/0.0.0",
        "step_006/tp:bucket/surface/0.0.0",
    ]


# -- the codec alone ---------------------------------------------------------------------------------------------


def test_the_codec_is_written_and_read_back():
    codec = GribCodec(sub=1)
    assert codec.to_dict() == {"name": "weatherlake.grib", "configuration": {"sub": 1}}
    assert GribCodec.from_dict(codec.to_dict()) == codec
    assert GribCodec.from_dict({"name": "weatherlake.grib"}) == GribCodec()


@pytest.mark.parametrize("pipeline", ["BatchedCodecPipeline", "FusedCodecPipeline"])
def test_the_codec_in_a_plain_store(pipeline: str):
    message = encode(field(), packingType="grid_ccsds")
    with zarr.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{pipeline}"}):
        array = zarr.create_array({}, shape=SHAPE, chunks=SHAPE, dtype="f4", serializer=GribCodec(), compressors=None)
        write_chunk(array, message)
        np.testing.assert_array_equal(array[:], decode(message))
        write_chunk(array, message[:-20])
        with pytest.raises(CorruptInput, match="truncated"):
            _ = array[:]
        with pytest.raises(NotImplementedError, match="writes none"):
            array[:] = 1.0


def test_a_message_of_another_grid_is_an_error():
    array = zarr.create_array({}, shape=(4, 8), chunks=(4, 8), dtype="f4", serializer=GribCodec(), compressors=None)
    write_chunk(array, encode(field()))
    with pytest.raises(CorruptInput, match=r"another grid than its array: expected \(4, 8\), found \(5, 8\)"):
        _ = array[:]


def write_chunk(array: Any, message: bytes) -> None:
    """Put a message where the only chunk of an array belongs."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    buffer = default_buffer_prototype().buffer.from_bytes(message)
    sync(array.store.set("c/0/0", buffer))


# -- real files --------------------------------------------------------------------------------------------------


AT_ONCE = ("gfs-submessages-idx", "nam-lambert-idx", "ecmwf-ens-index", "gefs", "reduced-gaussian", "rotated")
"""Real files of the fast suite; the others take their time."""


@pytest.mark.real
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in AT_ONCE else pytest.mark.slow) for n in CASES])
def test_real_files_in_both_forms(name: str, shared: Path, tmp_path: Path):
    """What xarray reads through the references is what ecCodes decodes."""
    case = replace(CASES[name], bits=None)
    path = shared / "data" / case.path
    run, rows = rows_of(case, path)
    recipe, chosen = recipe_of(case, path, run, rows)
    made = context_of(tmp_path, recipe)
    scope = f"{run:%Y-%m-%dT%H}"
    tables = list(manifest_of(recipe, chosen, path))
    data = path.read_bytes()
    references.write(made, scope, tables, ["icechunk"])
    dataset = open_virtual(str(tmp_path), "real").sel(init_time=scope)
    for variable, found in chosen.items():
        for row in found:
            place = {"lead_time": row["lead_time"]} | (
                {} if recipe.select.members is None else {"member": row["member"]}
            )
            wanted = decoded(data[row["offset"] : row["offset"] + row["length"]], row["sub"])
            np.testing.assert_array_equal(dataset[variable].sel(place).values, wanted)
    if any(row["sub"] for found in chosen.values() for row in found) or odd_scan(data, rows[0]):
        with pytest.raises(UsageError, match="kerchunk cannot refer"):
            references.write(made, scope, tables, ["kerchunk"])
        return
    references.write(made, scope, tables, ["kerchunk"])
    for member in recipe.select.members or (None,):
        which = "" if member is None else "-control" if member == 0 else f"-ens_{member:02d}"
        tree = open_member(str(tmp_path / f"references/real/{scope}/{run:%Y%m%d%H}z{which}.parquet"))
        leaves = {node.path.split("/")[1]: node.dataset for node in tree.leaves}
        for variable, found in chosen.items():
            for row in (r for r in found if r["member"] == member):
                wanted = decoded(data[row["offset"] : row["offset"] + row["length"]], row["sub"])
                values = leaves[variable][variable].sel(step=row["lead_time"]).values
                np.testing.assert_array_equal(values, wanted)


def manifest_of(recipe: Any, chosen: dict[str, list[dict[str, Any]]], path: Path) -> Iterator[pa.Table]:
    """The rows as a manifest."""
    from tasks.forecasts.manifest import MANIFEST

    rows = [row | {"variable": name} for name, found in chosen.items() for row in found]
    changed = datetime.fromtimestamp(int(path.stat().st_mtime)).astimezone()
    columns = []
    for kind in MANIFEST:
        values = [row.get(kind.name) for row in rows]
        if kind.name == "url":
            values = [path.as_uri()] * len(rows)
        if kind.name == "last_modified":
            values = [changed] * len(rows)
        plain = kind.type.value_type if isinstance(kind.type, pa.DictionaryType) else kind.type
        columns.append(pa.array(values, plain).cast(kind.type))
    yield pa.table(columns, schema=MANIFEST)


def odd_scan(data: bytes, row: dict[str, Any]) -> bool:
    handle = eccodes.codes_new_from_message(data[row["offset"] : row["offset"] + row["length"]])
    try:
        return any(
            eccodes.codes_is_defined(handle, k) and eccodes.codes_get(handle, k, int)
            for k in ("alternativeRowScanning", "jPointsAreConsecutive")
        )
    finally:
        eccodes.codes_release(handle)
