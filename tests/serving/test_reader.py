"""The reader beside xarray on the same cube: every value the same, on every grid, from every store."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from tasks.exports import points as exporter
from tasks.exports.fields import horizontal
from tasks.exports.locate import bilinear, great_circle_km, nearest
from tasks.lake.errors import CorruptInput, NotFound, UsageError
from tasks.lake.lake import Lake
from tasks.serving.cache import Cache
from tasks.serving.following import Following
from tasks.serving.reader import Box, Cells, Outer, at_places, cost, read
from tasks.serving.snapshot import Snapshot, open_snapshot

from ..exports.runs import Kind, make_run
from ..lake import toy_cube
from ..s3_archive import counts, serving
from .published import add, name, publish

KINDS: tuple[Kind, ...] = ("global", "global-360", "regional", "lambert")
RNG = np.random.default_rng(3)


def opened(cube) -> Snapshot:
    return open_snapshot(cube, Cache(10**7))


@pytest.fixture(scope="module", params=KINDS)
def cube(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A published cube of two runs on every grid."""
    return publish(Lake(str(tmp_path_factory.mktemp(request.param))), request.param, runs=(0, 1))[0]


def places_on(grid, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Points on the grid, any branch of longitude, none halfway between two cells."""
    lat = RNG.uniform(grid.latitude.min(), grid.latitude.max(), count)
    lon = RNG.uniform(grid.longitude.min(), grid.longitude.max(), count)
    if grid.global_longitude:
        lon = RNG.uniform(-180, 360, count)
        lat[:4], lon[:4] = (90, -90, 89.7, 0.3), (0.2, 359.7, -179.8, -0.4)
    if not grid.regular:
        row, column = RNG.integers(1, 38, count), RNG.integers(1, 58, count)
        lat, lon = grid.latitude[row, column] + 0.03, grid.longitude[row, column] - 0.05
    return lat, lon


def test_nearest_points_are_what_xarray_selects(cube) -> None:
    snapshot, dataset = opened(cube), cube.open()
    lat, lon = places_on(snapshot.grid)
    found, inside = nearest(snapshot.grid, lat, lon)
    assert inside.all()
    at = Cells(found.rows.ravel(), found.columns.ravel())
    for run in snapshot.runs:
        values = read(snapshot, run, list(snapshot.variables), at)
        for key, array in values.items():
            variable = dataset[key].sel(init_time=run.init)
            if snapshot.grid.regular:
                first = float(dataset["longitude"].min())
                turned = np.mod(lon - first, 360) + first
                # The seam is 2 degrees wide, and xarray knows nothing of it.
                turned = np.where(snapshot.grid.global_longitude & (turned > first + 359), first, turned)
                where = {"latitude": xr.DataArray(lat, dims="p"), "longitude": xr.DataArray(turned, dims="p")}
                expected = variable.sel(where, method="nearest")
            else:
                far = great_circle_km(
                    lat[:, None], lon[:, None], snapshot.grid.latitude.ravel(), snapshot.grid.longitude.ravel()
                )
                row, column = np.unravel_index(far.argmin(axis=1), snapshot.grid.latitude.shape)
                expected = variable.isel(y=xr.DataArray(row, dims="p"), x=xr.DataArray(column, dims="p"))
            np.testing.assert_array_equal(array, expected.transpose(*array_dims(snapshot, key), "p").values, key)
            assert np.isnan(array).any() == (key == "tp")


def array_dims(snapshot: Snapshot, key: str) -> tuple[str, ...]:
    return snapshot.variables[key].layout.dims[:-2]


@pytest.mark.parametrize("kind", ["global", "regional"])
def test_bilinear_points_are_those_of_the_exporter(tmp_path: Path, kind: Kind) -> None:
    cube, _ = publish(Lake(str(tmp_path)), kind)
    snapshot, run = opened(cube), cube.open().isel(init_time=0)
    lat, lon = places_on(snapshot.grid)
    where, _ = bilinear(snapshot.grid, lat, lon)
    raw = read(snapshot, snapshot.newest, ["t2m", "tp"], Cells(where.rows.ravel(), where.columns.ravel()))
    for key, values in raw.items():
        expected = exporter.read(run[key], horizontal(run), where)
        np.testing.assert_array_equal(at_places(values, where), expected)


def test_a_box_is_what_xarray_selects_also_across_the_seam(cube) -> None:
    snapshot, dataset = opened(cube), cube.open()
    shape = dataset["t2m"].shape[-2:]
    rows = np.arange(3, shape[0] - 5)
    for columns in (np.arange(7, 30), np.r_[shape[1] - 9 : shape[1], 0:13], np.array([5, 4, 20, 3])):
        found = read(snapshot, snapshot.newest, list(snapshot.variables), Box(rows, columns))
        y, x = dataset["t2m"].dims[-2:]
        for key, array in found.items():
            expected = dataset[key].isel({"init_time": -1, y: rows, x: columns})
            np.testing.assert_array_equal(array, expected.transpose(*array_dims(snapshot, key), y, x).values)


def test_lead_times_members_and_levels_are_chosen(cube) -> None:
    snapshot, dataset = opened(cube), cube.open().isel(init_time=-1)
    outer = Outer({"lead_time": np.array([2, 0]), "member": np.array([1]), "level": np.array([1])})
    y, x = dataset["t"].dims[-2:]
    expected = dataset["t"].isel({"lead_time": [2, 0], "member": [1], "level": [1], y: [9, 30], x: [17, 2]})
    found = read(snapshot, snapshot.newest, ["t", "t2m"], Box(np.array([9, 30]), np.array([17, 2])), outer)
    np.testing.assert_array_equal(found["t"], expected.transpose("lead_time", "member", "level", y, x).values)
    assert found["t2m"].shape == (2, 1, 2, 2)
    one = cost(snapshot.variables["t"], Cells(np.array([9]), np.array([17])), outer)
    all_levels = cost(snapshot.variables["t"], Cells(np.array([9]), np.array([17])), Outer())
    assert (one.chunks, all_levels.chunks, one.values) == (1, 2, 2)


def test_a_chunk_that_was_read_is_kept_as_long_as_there_is_room(cube) -> None:
    snapshot, cache = opened(cube), Cache(10**6)
    at = Cells(np.array([12]), np.array([12]))
    first = read(snapshot, snapshot.newest, ["t2m"], at, cache=cache)["t2m"]
    second = read(snapshot, snapshot.newest, ["t2m"], at, cache=cache)["t2m"]
    np.testing.assert_array_equal(first, second)
    assert (cache.hits, cache.misses) == (1, 1)
    rows, columns = (a.ravel() for a in np.meshgrid(np.arange(0, 40, 4), np.arange(0, 40, 4)))
    for i in range(len(rows)):
        read(
            snapshot, snapshot.newest, list(snapshot.variables), Cells(rows[i : i + 1], columns[i : i + 1]), cache=cache
        )
        assert cache.used <= 10**6


def test_the_reader_finds_the_same_bytes_as_icechunk(cube) -> None:
    """Icechunk's own reader is the other program."""
    import asyncio

    from zarr.core.buffer import default_buffer_prototype

    snapshot = opened(cube)
    compared = 0
    for variable in snapshot.variables.values():
        for shard in snapshot.shards(variable, snapshot.newest).values():
            whole = asyncio.run(cube.store().get(shard.chunk, default_buffer_prototype()))
            assert whole is not None
            assert snapshot.read(shard, 0, shard.length) == whole.to_bytes()
            assert shard.key is not None, "not read from the store itself"
            compared += 1
    assert compared > 4


def test_chunks_that_are_kept_in_the_manifest_are_read_through_icechunk(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.prepare()
    cube = lake.cube("cubes/toy/grid/toy.icechunk")
    cube.ensure(toy_cube.TEMPLATE)
    toy_cube.publish(cube, 0, toy_cube.write(cube, 0, 250.0))
    snapshot = opened(cube)
    [shard] = snapshot.shards(snapshot.variables["t2m"], snapshot.newest).values()
    assert shard.key is None
    found = read(snapshot, snapshot.newest, ["t2m"], Box(np.arange(5), np.arange(8)))["t2m"]
    np.testing.assert_array_equal(found, toy_cube.field(250.0))


def test_an_array_without_shards_is_read_too(tmp_path: Path) -> None:
    cube, _ = publish(Lake(str(tmp_path)), "regional", block=1)
    session = cube.repository.writable_session("main")
    group = zarr.open_group(session.store, mode="r+")
    values = np.asarray(group["t2m"])
    names, attrs = list(group["t2m"].metadata.dimension_names), dict(group["t2m"].attrs)
    made = group.create_array(
        "plain", shape=values.shape, chunks=(1, 3, 3, 16, 16), dtype="float32", dimension_names=names, attributes=attrs
    )
    made[...] = values
    session.commit("an array without shards")
    snapshot = opened(cube)
    found = read(snapshot, snapshot.newest, ["plain"], Box(np.arange(41), np.arange(61)))["plain"]
    np.testing.assert_array_equal(found, values[0])


def test_what_was_never_written_is_missing(tmp_path: Path) -> None:
    cube, _ = publish(Lake(str(tmp_path)), "regional", levels=(), members=0)
    session = cube.repository.writable_session("main")
    array: Any = zarr.open_group(session.store, mode="r+")["t2m"]
    # Chunks that hold nothing but the fill value are not written by zarr: first none is there, then one of a shard.
    array[0] = np.nan
    array[0, :, :8, :8] = 1.0
    session.commit("a corner")
    snapshot = opened(cube)
    there = snapshot.shards(snapshot.variables["t2m"], snapshot.newest)
    assert (0, 0, 0) in there
    assert (0, 1, 1) not in there
    found = read(snapshot, snapshot.newest, ["t2m"], Cells(np.array([5, 12, 30]), np.array([5, 12, 30])))
    np.testing.assert_array_equal(found["t2m"], [[1.0, np.nan, np.nan]] * 3)


def test_runs_that_are_absent_are_not_there(tmp_path: Path) -> None:
    cube, _ = publish(Lake(str(tmp_path)), "regional", runs=(0, 3))
    snapshot = opened(cube)
    assert [r.name for r in snapshot.runs] == [name(0), name(3)]
    with pytest.raises(NotFound, match="no run 2026-11-20T12"):
        snapshot.run(name(1))
    with pytest.raises(UsageError, match="no variable 'x'"):
        read(snapshot, snapshot.newest, ["x"], Cells(np.array([0]), np.array([0])))


@pytest.mark.parametrize("part", ["index", "chunk"])
def test_broken_bytes_are_said_and_not_served(tmp_path: Path, part: str) -> None:
    cube, _ = publish(Lake(str(tmp_path)), "regional")
    snapshot = opened(cube)
    at = Cells(np.array([3]), np.array([3]))
    shard = next(iter(snapshot.shards(snapshot.variables["t2m"], snapshot.newest).values()))
    path = tmp_path / str(shard.key)
    data = bytearray(path.read_bytes())
    if part == "index":
        data[-10] ^= 255
    else:
        offset, length = snapshot.entries(snapshot.variables["t2m"], snapshot.newest, (0, 0, 0, 0), shard)[0].tolist()
        data[offset : offset + min(length, 16)] = bytes(16)
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptInput):
        read(snapshot, snapshot.newest, ["t2m"], at)


def test_a_snapshot_stays_what_it_is_while_runs_are_published(tmp_path: Path) -> None:
    """Every run has one value everywhere, so a mixture of two would be seen."""
    lake = Lake(str(tmp_path))
    cube, structure = publish(lake, "regional", runs=(), levels=(), members=0)
    flat = make_run("regional", levels=(), members=0, nan=False) * 0
    add(cube, structure, 0, flat)
    following = Following(lake)
    following.look()
    problems: list[str] = []
    seen: set[float] = set()
    done = threading.Event()

    def watch() -> None:
        place = Box(np.arange(41), np.arange(61))
        while not done.is_set():
            snapshot = following.collections["made.grid"].snapshot
            assert snapshot is not None
            values = read(snapshot, snapshot.newest, list(snapshot.variables), place)
            found = {float(v) for array in values.values() for v in np.unique(array)}
            if found != {float(snapshot.newest.index % 3)}:
                problems.append(f"{snapshot.newest.name}: {found}")
            seen.update(found)

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for thread in watchers:
        thread.start()
    old = following.collections["made.grid"].snapshot
    for index in range(1, 6):
        # The newest run once more with other values, and then the next one.
        add(cube, structure, index, flat + index % 3)
        following.look()
    done.set()
    for thread in watchers:
        thread.join()
    assert not problems
    assert seen >= {0.0, 2.0}
    assert old is not None
    assert float(read(old, old.newest, ["t2m"], Cells(np.array([3]), np.array([4])))["t2m"][0, 0]) == 0.0


def test_another_layout_under_the_pointer_is_followed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "regional")
    following = Following(lake, ["made"])
    following.look()
    first = following.collections["made.grid"].snapshot
    following.look()
    assert following.collections["made.grid"].snapshot is first, "nothing changed, and it was opened anew"
    publish(lake, "global", zone="grid")
    publish(lake, "lambert", zone="other")
    following.look()
    second = following.collections["made.grid"].snapshot
    assert second is not None
    assert second.grid.global_longitude
    assert sorted(following.collections) == ["made.grid", "made.other"]
    lake.objects.delete("cubes/made/other.json")
    lake.objects.put("cubes/made/broken.json", b'{"path": "cubes/made/broken/none.icechunk"}')
    following.look()
    assert sorted(following.collections) == ["made.broken", "made.grid"]
    assert "no cube" in str(following.collections["made.broken"].problem)


def gets(endpoint: str, before: dict[str, int]) -> int:
    """Requests for chunks since ``before``."""
    after = counts(endpoint)
    return sum(n - before.get(k, 0) for k, n in after.items() if "/chunks/" in k)


@pytest.mark.parametrize(
    ("rows", "columns", "most"),
    [([20], [30], 4), (list(range(0, 80, 2)) * 12, list(range(0, 180, 2)) * 6, 40)],
    ids=["a point", "many points"],
)
def test_a_warm_read_is_one_trip_for_each_variable(
    tmp_path: Path, rows: list[int], columns: list[int], most: int
) -> None:
    publish(Lake(str(tmp_path / "bucket" / "lake")), "global", levels=(), block=23)
    with serving(tmp_path) as endpoint:
        lake = Lake(f"s3://bucket/lake?endpoint={endpoint}&region=us-east-1&anonymous=true")
        following = Following(lake, ["made"])
        following.look()
        snapshot = following.collections["made.grid"].snapshot
        assert snapshot is not None
        count = min(len(rows), len(columns))
        at = Cells(np.array(rows[:count]), np.array(columns[:count]))
        before = counts(endpoint)
        found = read(snapshot, snapshot.newest, list(snapshot.variables), at)
        assert gets(endpoint, before) <= most
    expected = make_run("global", levels=())
    for key, values in found.items():
        np.testing.assert_array_equal(
            values, expected[key].transpose("lead_time", "member", ...).values[..., at.rows, at.columns]
        )


def test_on_s3_as_in_a_folder(store_url: str) -> None:
    cube, _ = publish(Lake(store_url), "regional", runs=(0, 1))
    snapshot, dataset = opened(cube), cube.open()
    found = read(snapshot, snapshot.newest, ["t2m", "t"], Box(np.arange(0, 41), np.arange(10, 50)))
    for key, values in found.items():
        expected = dataset[key].isel(init_time=-1, longitude=slice(10, 50))
        np.testing.assert_array_equal(values, expected.transpose(*array_dims(snapshot, key), ...).values)


def test_following_sees_the_recipes_of_a_lake(store_url: str) -> None:
    lake = Lake(store_url)
    publish(lake, "regional")
    publish(lake, "regional", recipe="other")
    following = Following(lake)
    following.look()
    assert sorted(following.collections) == ["made.grid", "other.grid"]


def test_a_thread_follows_until_it_is_told_to_stop(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    publish(lake, "regional")
    following = Following(lake)
    thread = following.stay(3600)
    following.wake()
    wait(lambda: following.collections)
    following.stop()
    thread.join(10)
    assert not thread.is_alive()


def wait(until: Callable[[], object]) -> None:
    """Until something is true, at most ten seconds."""
    pause = threading.Event()
    for _ in range(1000):
        if until():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")
