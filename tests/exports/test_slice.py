"""The exporter ``slice``: whole shards copied, blocks in bounded memory, windows of runs."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from pydantic import ValidationError

from tasks.exports import blocks
from tasks.exports.exporter import exporters
from tasks.exports.placing import CHECKSUMS, is_product, place
from tasks.forecasts.export import taken
from tasks.forecasts.export_source import RunSource
from tasks.lake import open_cube
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError
from tasks.lake.lake import Lake
from tasks.lake.phase import Context
from tests.exports.runs import MadeRuns, make_run

from .conftest import RUNS


@pytest.fixture(scope="module")
def context(lake: Path, recipe_file: Path) -> Context:
    return Context(Lake(str(lake)), recipes.load(str(recipe_file)))


def sliced(context: Context, folder: Path, **fields: object) -> xr.Dataset:
    exporter = exporters.build({"type": "slice", "name": "s", "runs": "1d", "format": "zarr"} | fields)
    exporter.write(RunSource(context, RUNS[1], exporter, taken(context, RUNS[1], exporter)), folder)
    return xr.open_zarr(folder / "s.zarr", chunks=None, decode_timedelta=False)


@pytest.mark.parametrize(("zone", "members"), [("refined", None), ("refined", [1]), ("coarse", None)])
def test_whole_shards_are_copied_byte_for_byte(context: Context, lake: Path, tmp_path: Path, zone: str, members):
    found = sliced(context, tmp_path, zone=zone, members=members)
    cube = open_cube(str(lake), "small", zone).load()
    cube = cube if members is None else cube.sel(member=members)
    for name in found.data_vars:
        if name in cube.data_vars:
            np.testing.assert_array_equal(found[name].values, cube[name].values)
    assert [str(t)[:13] for t in found["init_time"].values] == list(RUNS)
    there = zarr.open_group(tmp_path / "s.zarr", mode="r")["t2m"]
    plain = exporters.build({"type": "netcdf", "name": "x", "zone": zone})
    stored = RunSource(context, RUNS[1], plain).stored()[0]["t2m"]
    assert (there.chunks, there.shards) == (stored.chunks, stored.shards)
    assert there.metadata.codecs == stored.metadata.codecs


def test_members_and_levels_come_in_the_order_asked_for(context: Context, lake: Path, tmp_path: Path):
    found = sliced(context, tmp_path, members=[1, 0], levels=[500, 850], variables=["t"])
    wanted = open_cube(str(lake), "small", "refined")["t"].sel(member=[1, 0], level=[500, 850])
    np.testing.assert_array_equal(found["t"].values, wanted.values)
    assert (found["member"].values.tolist(), found["level"].values.tolist()) == ([1, 0], [500, 850])
    (tmp_path / "more").mkdir()
    plain = sliced(context, tmp_path / "more", members=[1, 0], variables=["t2m"])
    wanted = open_cube(str(lake), "small", "refined")["t2m"].sel(member=[1, 0])
    np.testing.assert_array_equal(plain["t2m"].values, wanted.values)


def test_a_copy_decodes_nothing(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Were a block read, it would come from `blocks.read`."""
    monkeypatch.setattr(blocks, "read", lambda *_: pytest.fail("a block was decoded"))
    assert sliced(context, tmp_path / "whole")["t2m"].shape == (2, 3, 2, 91, 180)
    with pytest.raises(pytest.fail.Exception, match="decoded"):
        sliced(context, tmp_path / "part", steps=[6])


def test_the_window_takes_what_is_published(context: Context):
    for span, wanted in ((None, RUNS[1:]), ("6h", RUNS[1:]), ("7h", RUNS), ("30d", RUNS)):
        exporter = exporters.build({"type": "slice", "name": "s", "runs": span})
        assert taken(context, RUNS[1], exporter) == list(wanted)
    with pytest.raises(UsageError, match="2026-11-20T12 of small is not published"):
        taken(context, "2026-11-20T12", exporters.build({"type": "slice", "name": "s", "runs": "7d"}))
    with pytest.raises(ValidationError, match="runs"):
        exporters.build({"type": "slice", "name": "s", "runs": "a week"})


def chunked(time: int, y: int, x: int) -> xr.DataArray:
    array = xr.DataArray(np.zeros((2, 40, 3, 100, 200), "f4"), dims=("init_time", "lead_time", "member", "y", "x"))
    array.encoding = {
        "chunks": (1, time, 1, y, x), "preferred_chunks": dict(zip(array.dims, (1, 40, 1, 100, 200), strict=True))
    }  # fmt: skip
    return array


@pytest.mark.parametrize(("stored", "shape"), [
    ((1, 100, 200), (1, 10, 1, 100, 200)),  # maps: some of them at a time
    ((40, 10, 10), (1, 40, 1, 20, 200)),  # series: rows of them
])  # fmt: skip
def test_blocks_are_cut_where_the_store_is(stored: tuple[int, int, int], shape: tuple[int, ...]):
    array = chunked(*stored)
    most = 10 * 100 * 200 * 4
    found = blocks.block_shape(array, most)
    assert found == shape
    seen = np.zeros(array.shape, int)
    for index, values in blocks.read(array, found):
        assert values.nbytes <= most
        seen[index] += 1
    assert (seen == 1).all()


def test_an_earlier_product_leaves_nothing_behind(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()

    def files(**content: str):
        def render(folder: Path) -> list[Path]:
            paths = []
            for name, text in content.items():
                path = folder / name.replace("_", "/").replace("ZARR", "a.zarr/zarr.json")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                paths.append(path)
            return paths

        return render

    first = place(lake, "exports/x", files(one="1", a_two="2", ZARR="root"))
    assert [o.uri for o in first] == [f"exports/x/{n}" for n in ("a/two", "one", "a.zarr/zarr.json", CHECKSUMS)]
    assert [is_product(o.uri) for o in first] == [True, True, True, False]
    assert not is_product("exports/x/a.zarr/t2m/c/0")
    place(lake, "exports/x", files(one="other"))
    assert [m.key for m in lake.objects.listing("exports/x")] == [f"exports/x/{CHECKSUMS}", "exports/x/one"]
    assert lake.objects.get("exports/x/one") == b"other"


def test_a_slice_of_a_made_run_by_members_and_levels(tmp_path: Path):
    run = make_run("regional")
    exporter = exporters.build(
        {"type": "slice", "name": "s", "format": "zarr", "variables": ["t"], "members": [2, 0], "levels": [500]}
    )
    exporter.write(MadeRuns([run]), tmp_path)
    found = xr.open_zarr(tmp_path / "s.zarr", chunks=None)
    wanted = run["t"].sel(member=[2, 0], level=[500]).transpose("lead_time", "member", "level", ...)
    np.testing.assert_array_equal(found["t"].values[0], wanted.values)
    with pytest.raises(UsageError, match="none of the variables has the dimension level"):
        exporters.build({"type": "slice", "name": "s", "variables": ["t2m"], "levels": [500]}).write(
            MadeRuns([run]), tmp_path
        )
