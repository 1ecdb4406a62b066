"""References of a run opened by xarray, as a user would: the values that ecCodes reads from the files."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

from tasks.forecasts import references
from tasks.forecasts.references.icechunk_virtual import VirtualCube
from tasks.forecasts.references.reading import open_member, open_virtual
from tasks.forecasts.references.run import virtual_path
from tasks.lake.errors import UsageError
from tasks.lake.lake import Lake
from tasks.lake.objects import Objects
from tasks.lake.phase import Context

from ...servers import Archive, S3Server
from .archives import MEMBERS, NAMES, RUN, SCOPE, STEPS, Field, context_of, demo_recipe, fields, manifests, write_demo

BOTH = ("kerchunk", "icechunk")
CHANGED = r"chang|modif|updated|condition"

pytestmark = pytest.mark.filterwarnings(
    # kerchunk's and zarr's own: kerchunk opens Zarr v2 stores, whose metadata zarr 3 calls unstable in places.
    "ignore::DeprecationWarning:kerchunk.*"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def truth(archive: Path) -> list[Field]:
    found = list(fields(archive))
    assert len(found) == len(STEPS) * 4 * 8
    return [f for f in found if f.member in MEMBERS]


@pytest.fixture(scope="module")
def written(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Context[Any]:
    context = context_of(tmp_path_factory.mktemp("lake"), demo_recipe(archive.as_uri()))
    references.write(context, SCOPE, manifests(context), BOTH)
    return context


def folder_of(context: Context[Any]) -> Path:
    return Path(context.lake.objects.location.prefix)


def member_file(context: Context[Any], member: int) -> Path:
    name = "control" if member == 0 else f"ens_{member:02d}"
    return folder_of(context) / f"references/demo/{SCOPE}/2026112000z-{name}.parquet"


def same_as_files(dataset: xr.Dataset, truth: list[Field], init: str = SCOPE) -> int:
    """Compare every field of a run; how many there were."""
    run = dataset.sel(init_time=init)
    for field in truth:
        variable = run[NAMES.get(field.short_name, field.short_name)]
        place: dict[str, Any] = {"lead_time": np.timedelta64(field.step, "h"), "member": field.member}
        if "level" in variable.dims:
            place["level"] = field.level
        np.testing.assert_array_equal(variable.sel(place).values, field.values)
    return len(truth)


def test_every_field_of_every_member_by_kerchunk(written: Context[Any], truth: list[Field]):
    for member in MEMBERS:
        tree = open_member(str(member_file(written, member)))
        leaves = {node.path.split("/")[1]: node for node in tree.leaves}
        mine = [f for f in truth if f.member == member]
        for field in mine:
            name = NAMES.get(field.short_name, field.short_name)
            variable = leaves[name].dataset[name]
            place: dict[str, Any] = {"step": np.timedelta64(field.step, "h")}
            if "isobaricInhPa" in variable.dims:
                place["isobaricInhPa"] = field.level
            np.testing.assert_array_equal(variable.sel(place).values, field.values)
        assert len(mine) == 24
        assert int(leaves["t2m"].dataset["number"]) == member


def test_every_field_of_every_member_by_icechunk(written: Context[Any], truth: list[Field]):
    dataset = open_virtual(str(folder_of(written)), "demo")
    assert same_as_files(dataset, truth) == 72
    assert dataset.sizes == {"init_time": 1, "lead_time": 3, "member": 3, "level": 3, "latitude": 91, "longitude": 180}


def test_the_coordinates_are_those_of_the_run_and_the_grid(written: Context[Any]):
    group = open_member(str(member_file(written, 1)))["t/instant/isobaricInhPa"].dataset
    dataset = open_virtual(str(folder_of(written)), "demo")
    init = np.datetime64("2026-11-20T00", "ns")
    valid = init + np.array(STEPS) * np.timedelta64(1, "h")
    assert group["time"].values == init
    np.testing.assert_array_equal(group["valid_time"].values, valid)
    np.testing.assert_array_equal(group["step"].values, np.array(STEPS, "timedelta64[h]"))
    np.testing.assert_array_equal(group["isobaricInhPa"].values, [850, 500, 250])
    np.testing.assert_array_equal(dataset["valid_time"].values[0], valid)
    np.testing.assert_array_equal(dataset["member"].values, MEMBERS)
    for found in (group, dataset):
        np.testing.assert_array_equal(found["latitude"].values, np.linspace(90, -90, 91))
        np.testing.assert_array_equal(found["longitude"].values, np.arange(-180.0, 180.0, 2.0))
        assert found["t"].attrs["units"] == "K"
        assert "keep_bits" not in found["t"].attrs
    assert int(dataset["ingested_forecast_length"].values[0] / np.timedelta64(1, "h")) == 6


def test_a_file_has_the_published_form(written: Context[Any]):
    table = pq.read_table(member_file(written, 2))
    assert [(f.name, str(f.type)) for f in table.schema] == [("key", "string"), ("value", "binary")]
    rows = dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert len(rows) == len(table)
    for key in (
        ".zgroup", "t2m/.zgroup", "t2m/instant/heightAboveGround/t2m/.zarray",
        "t2m/instant/heightAboveGround/t2m/2.0.0",
        "t/instant/isobaricInhPa/t/0.1.0.0", "tp/accum/surface/tp/.zattrs", "step_000/2t/sfc/ens02/0.0.0",
        "step_006/t/pl/500/ens02/0.0.0",
    ):  # fmt: skip
        assert key in rows, key
    assert rows["t2m/instant/heightAboveGround/t2m/2.0.0"] == rows["step_006/2t/sfc/ens02/0.0.0"]
    assert sorted(p.name for p in member_file(written, 2).parent.iterdir()) == [
        "2026112000z-control.parquet", "2026112000z-ens_01.parquet", "2026112000z-ens_02.parquet",
    ]  # fmt: skip


def commits(context: Context[Any]) -> list[str]:
    cube = VirtualCube(context.lake.objects, virtual_path("demo"))
    return [s.message for s in cube.repository.ancestry(branch="main")]


def test_the_same_again_changes_nothing(written: Context[Any]):
    before = {p: p.read_bytes() for p in member_file(written, 0).parent.iterdir()}
    history = commits(written)
    first = references.write(written, SCOPE, manifests(written), BOTH)
    assert {p: p.read_bytes() for p in before} == before
    assert commits(written) == history
    assert references.write(written, SCOPE, list(manifests(written))[::-1], BOTH) == first
    assert written.lake.missing(o.uri for o in first) == set()
    assert len(first) == 4


def test_no_form_writes_nothing(archive: Path, tmp_path: Path):
    context = context_of(tmp_path, demo_recipe(archive.as_uri()))
    assert references.write(context, SCOPE, manifests(context), ()) == ()
    assert context.lake.objects.listing("references") == []


def test_a_step_that_is_gone_leaves_no_reference_behind(archive: Path, tmp_path: Path, truth: list[Field]):
    context = context_of(tmp_path, demo_recipe(archive.as_uri()))
    tables = list(manifests(context))
    references.write(context, SCOPE, tables, BOTH)
    references.write(context, SCOPE, tables[:2], BOTH)
    dataset = open_virtual(str(tmp_path), "demo")
    assert same_as_files(dataset, [f for f in truth if f.step < 6]) == 48
    assert np.isnan(dataset["t2m"].isel(lead_time=2).values).all()
    group = open_member(str(member_file(context, 0)))["t2m/instant/heightAboveGround"].dataset
    assert np.isnan(group["t2m"].isel(step=2).values).all()
    # And completed later.
    references.write(context, SCOPE, tables, BOTH)
    assert same_as_files(open_virtual(str(tmp_path), "demo"), truth) == 72


# -- objects that change -----------------------------------------------------------------------------------------


def test_a_republished_file_is_refused(tmp_path: Path, archive: Path):
    own = tmp_path / "own"
    for path in archive.rglob("*.*"):
        copy = own / path.relative_to(archive)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        hour_ago = time.time() - 3600
        os.utime(copy, (hour_ago, hour_ago))
    context = context_of(tmp_path / "lake", demo_recipe(own.as_uri()))
    references.write(context, SCOPE, manifests(context), ["icechunk"])
    read_and_republish(context, lambda path: os.utime(own / path))


def test_a_republished_object_is_refused_behind_http(
    archive: Path, tmp_path: Path, http_archive: Callable[..., Archive], truth: list[Field]
):
    own = tmp_path / "own"
    for path in archive.rglob("*.*"):
        (own / path.relative_to(archive)).parent.mkdir(parents=True, exist_ok=True)
        (own / path.relative_to(archive)).write_bytes(path.read_bytes())
    served = http_archive(own)
    context = context_of(tmp_path / "lake", demo_recipe(served.url))
    references.write(context, SCOPE, manifests(context), BOTH)
    assert same_as_files(open_virtual(str(tmp_path / "lake"), "demo"), truth) == 72
    group = open_member(str(member_file(context, 1)))["t2m/instant/heightAboveGround"].dataset
    wanted = next(f.values for f in truth if (f.step, f.member, f.short_name) == (3, 1, "2t"))
    np.testing.assert_array_equal(group["t2m"].isel(step=1).values, wanted)
    read_and_republish(context, lambda path: (own / path).write_bytes((own / path).read_bytes() + b"more"))


def read_and_republish(context: Context[Any], republish: Callable[[str], object]) -> None:
    """Step 3 can be read; once its file is another, that is an error, and step 0 can still be read."""
    lake = str(folder_of(context))
    before = open_virtual(lake, "demo")["t2m"].isel(init_time=0, member=0)
    assert np.isfinite(before.isel(lead_time=1).values).all()
    republish("20261120/00z/demo/2p0/enfo/20261120000000-3h-enfo-ef.grib2")
    after = open_virtual(lake, "demo")["t2m"].isel(init_time=0, member=0)
    with pytest.raises(icechunk.IcechunkError, match=CHANGED):
        _ = after.isel(lead_time=1).values
    assert np.isfinite(after.isel(lead_time=0).values).all()


def test_s3_with_its_etags(archive: Path, s3: S3Server, truth: list[Field], tmp_path: Path):
    root = s3.lake("archive")
    store = Objects(root)
    for path in archive.rglob("*.*"):
        store.put(path.relative_to(archive).as_posix(), path.read_bytes())
    lake = s3.lake()
    context = context_of(lake, demo_recipe(root))
    outputs = references.write(context, SCOPE, manifests(context), BOTH)
    assert context.lake.missing(o.uri for o in outputs) == set()
    assert same_as_files(open_virtual(lake, "demo"), truth) == 72
    place = f"{lake.partition('?')[0]}/references/demo/{SCOPE}/2026112000z-ens_01.parquet?{lake.partition('?')[2]}"
    options = {"endpoint_url": s3.endpoint, "key": "testing", "secret": "testing"}
    tree = open_member(place, remote_options=options)
    wanted = next(f.values for f in truth if (f.step, f.member, f.short_name) == (3, 1, "2t"))
    np.testing.assert_array_equal(tree["t2m/instant/heightAboveGround/t2m"].isel(step=1).values, wanted)
    key = "20261120/00z/demo/2p0/enfo/20261120000000-3h-enfo-ef.grib2"
    store.put(key, store.get(key) + b"more")
    after = open_virtual(lake, "demo")["t2m"].isel(init_time=0, member=0)
    with pytest.raises(icechunk.IcechunkError, match=CHANGED):
        _ = after.isel(lead_time=1).values


# -- where things lie --------------------------------------------------------------------------------------------


def test_copies_in_the_lake_are_referred_to(archive: Path, tmp_path: Path, truth: list[Field]):
    """A manifest of copies has keys of the lake, and digests of messages for etags."""
    from tasks.forecasts import manifest

    context = context_of(tmp_path / "my lake", demo_recipe(archive.as_uri()))

    def copied() -> Iterator[Any]:
        for table in manifests(context):
            url = table["url"][0].as_py()
            key = f"raw/demo/{url.rpartition('/')[2]}"
            context.lake.objects.put(key, Path(archive, url.removeprefix(archive.as_uri() + "/")).read_bytes())
            etags = [f"xxh3:{n}" for n in range(len(table))]
            yield manifest.with_column(manifest.with_column(table, "url", [key] * len(table)), "etag", etags)

    tables = list(copied())
    references.write(context, SCOPE, tables, BOTH)
    assert same_as_files(open_virtual(str(tmp_path / "my lake"), "demo"), truth) == 72
    tree = open_member(str(member_file(context, 2)))
    assert np.isfinite(tree["tp/accum/surface/tp"].values).all()
    history = commits(context)
    references.write(context, SCOPE, tables, BOTH)
    assert commits(context) == history


def test_the_place_of_a_run_depends_on_the_run_alone(archive: Path, tmp_path: Path, truth: list[Field]):
    later = RUN + timedelta(hours=18)
    folder = write_demo(tmp_path / "archive", later)
    write_demo(folder)
    context = context_of(tmp_path / "lake", demo_recipe(folder.as_uri()))
    references.write(context, "2026-11-20T18", manifests(context, later), ["icechunk"])
    references.write(context, SCOPE, manifests(context), ["icechunk"])
    dataset = open_virtual(str(tmp_path / "lake"), "demo")
    inits = [np.datetime64("2026-11-20T00", "ns"), np.datetime64("2026-11-20T18", "ns")]
    np.testing.assert_array_equal(dataset["init_time"].values, inits)
    assert same_as_files(dataset, truth) == 72
    late = [f for f in fields(folder / "20261120/18z") if f.member in MEMBERS]
    assert same_as_files(dataset, late, "2026-11-20T18") == 72
    everything = xr.open_zarr(
        VirtualCube(context.lake.objects, virtual_path("demo")).store(), consolidated=False, chunks=None
    )
    assert everything.sizes["init_time"] == 4


@pytest.mark.parametrize("where", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_two_runs_written_at_once(
    archive: Path, where: str, tmp_path: Path, request: pytest.FixtureRequest, truth: list[Field]
):
    lake = str(tmp_path / "lake") if where == "folder" else request.getfixturevalue("s3").lake()
    runs = [RUN + timedelta(hours=6 * n) for n in range(4)]
    folder = tmp_path / "archive"
    for run in runs:
        write_demo(folder, run)
    recipe = demo_recipe(folder.as_uri())
    context = context_of(lake, recipe)
    tables = {run: list(manifests(context, run)) for run in runs}
    start, failures = threading.Barrier(len(runs)), []

    def work(run: datetime) -> None:
        try:
            own = Context(Lake(lake), recipe)
            start.wait()
            references.write(own, f"{run:%Y-%m-%dT%H}", tables[run], ["icechunk"])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    dataset = open_virtual(lake, "demo")
    assert [str(t)[:13] for t in dataset["init_time"].values] == [f"{r:%Y-%m-%dT%H}" for r in runs]
    assert same_as_files(dataset, truth) == 72
    assert sum("references of" in message for message in commits(context)) == 4


def test_another_layout_is_refused_with_its_way_out(archive: Path, tmp_path: Path):
    context = context_of(tmp_path, demo_recipe(archive.as_uri()))
    references.write(context, SCOPE, manifests(context), ["icechunk"])
    recipe = demo_recipe(archive.as_uri())
    fewer = recipe.model_copy(update={"select": recipe.select.model_copy(update={"members": (0, 1)})})
    other = Context(context.lake, fewer)
    with pytest.raises(UsageError, match=r"another layout .*remove it"):
        references.write(other, SCOPE, manifests(other), ["icechunk"])


def test_nothing_to_open_is_said(tmp_path: Path):
    context_of(tmp_path, demo_recipe("file:///nowhere"))
    with pytest.raises(UsageError, match="no virtual references of demo"):
        open_virtual(str(tmp_path), "demo")
