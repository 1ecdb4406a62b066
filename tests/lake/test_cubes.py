"""Cubes on a local folder and on S3: runs come in side by side, are published in one step, and none is lost."""

import multiprocessing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
import zarr

from tasks.lake import open_cube
from tasks.lake.cube_storage import storage
from tasks.lake.cubes import Cube
from tasks.lake.errors import NotFound, UsageError
from tasks.lake.lake import Lake, open_lake
from tasks.lake.objects import Objects
from tasks.lake.reading import cube_path

from .toy_cube import LEADS, SHAPE, START, TEMPLATE, assemble, chunk, field, name, publish, write

PATH = "cubes/toy/refined-1"


@pytest.fixture
def cube(store_url: str) -> Cube:
    cube = Cube(Objects(store_url), PATH)
    cube.objects.make()
    cube.ensure(TEMPLATE)
    return cube


@pytest.fixture
def local(tmp_path) -> Cube:
    cube = Cube(Objects(str(tmp_path / "lake")), PATH)
    cube.ensure(TEMPLATE)
    return cube


def anew(cube: Cube) -> Cube:
    """The same cube as another process sees it."""
    return Cube(Objects(cube.objects.url), cube.path)


def values(cube: Cube, index: int, ref: str = "main") -> np.ndarray:
    return anew(cube).group(ref)["t2m"][index]


# -- one run -------------------------------------------------------------------------------------------


def test_a_run_from_fork_to_main(cube: Cube) -> None:
    fork = write(cube, 2, 280.0)
    assert not cube.has(cube.identity, chunk(2))
    assemble(cube, 2, fork)
    np.testing.assert_array_equal(values(cube, 2, f"run/{name(2)}"), field(280.0))
    # Assembled for checks, and nobody who reads main sees any of it.
    assert anew(cube).open().sizes["init_time"] == 0
    assert anew(cube).group()["t2m"].shape == (0, *SHAPE)
    assert not cube.has(cube.identity, chunk(2))
    assert cube.tip(f"run/{name(2)}")[1] == {"run": name(2)}

    snapshot = publish(cube, 2, fork)
    assert cube.tip("main") == (snapshot, {"run": name(2)})
    np.testing.assert_array_equal(values(cube, 2), field(280.0))
    for seen in (cube, anew(cube)):
        assert seen.has(seen.identity, chunk(2))
        assert not seen.has(seen.identity, chunk(1))
        assert not seen.has("another cube's", chunk(2))
    cube.drop_branch(name(2))
    cube.drop_branch(name(2))
    assert cube.tip(f"run/{name(2)}") is None
    np.testing.assert_array_equal(values(cube, 2), field(280.0))


def test_publishing_again_changes_no_value(cube: Cube) -> None:
    fork = write(cube, 1, 280.0)
    publish(cube, 1, fork)
    before = anew(cube).open().load()
    publish(cube, 1, fork)
    assert anew(cube).open().load().identical(before)


def test_a_run_made_again_replaces_the_old_one(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, 1.0), hours=6)
    publish(cube, 0, write(cube, 0, 2.0), "flagged")
    np.testing.assert_array_equal(values(cube, 0), field(2.0))
    seen = anew(cube).open()
    assert seen["status"].values.tolist() == [2]
    assert seen["ingested_forecast_length"].values[0] == np.timedelta64(12, "h")


def test_values_that_are_all_missing_are_written_all_the_same(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, np.full(SHAPE, np.nan, "float32")))
    assert cube.has(cube.identity, chunk(0))


# -- several runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 3), (3, 0)])
def test_runs_begun_from_the_same_main_are_published_in_any_order(cube: Cube, order: tuple[int, int]) -> None:
    forks = {index: write(cube, index, 100.0 + index) for index in (0, 3)}
    for index in (0, 3):
        assemble(cube, index, forks[index])
    for index in order:
        publish(cube, index, forks[index])
    for index in (0, 3):
        np.testing.assert_array_equal(values(cube, index), field(100.0 + index))
    assert anew(cube).open()["init_time"].values.tolist() == _times(0, 3)


def test_a_fork_made_before_another_run_was_published_merges_after_it(cube: Cube) -> None:
    early = write(cube, 1, 1.0)
    publish(cube, 5, write(cube, 5, 5.0))
    assemble(cube, 1, early)
    np.testing.assert_array_equal(values(cube, 1, f"run/{name(1)}"), field(1.0))
    np.testing.assert_array_equal(values(cube, 5, f"run/{name(1)}"), field(5.0))
    publish(cube, 1, early)
    np.testing.assert_array_equal(values(cube, 1), field(1.0))
    np.testing.assert_array_equal(values(cube, 5), field(5.0))


def test_several_forks_make_one_run(cube: Cube) -> None:
    two = replace(TEMPLATE, arrays={**TEMPLATE.arrays, "u10": TEMPLATE.arrays["t2m"]})
    cube.ensure(two)
    cube.begin(name(0), 0)
    forks = []
    for variable, value in (("t2m", 1.0), ("u10", 2.0)):
        with cube.fork(name(0)) as fork:
            fork.group[variable][0] = field(value)
        forks.append(fork.data)
    from tasks.lake.run_axis import RunEntry

    cube.publish(name(0), forks, two, RunEntry(0, "accepted", 12, 12), {})
    np.testing.assert_array_equal(anew(cube).group()["t2m"][0], field(1.0))
    np.testing.assert_array_equal(anew(cube).group()["u10"][0], field(2.0))


def test_a_reader_keeps_what_it_opened(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, 1.0))
    reader = anew(cube).open()
    publish(cube, 0, write(cube, 0, 2.0))
    publish(cube, 1, write(cube, 1, 3.0))
    assert reader.sizes["init_time"] == 1
    np.testing.assert_array_equal(reader["t2m"].values[0], field(1.0))
    assert anew(cube).open().sizes["init_time"] == 2


def _publish_many(url: str, indices: list[int], start) -> None:
    cube = Cube(Objects(url), PATH)
    forks = {index: write(cube, index, float(index)) for index in indices}
    start.wait(60)
    for index, fork in forks.items():
        publish(cube, index, fork)


def _race(cube: Cube, runs: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    both = [
        spawn.Process(target=_publish_many, args=(cube.objects.url, list(range(odd, runs, 2)), start)) for odd in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
        process.close()
    seen = anew(cube).open()
    assert seen["init_time"].values.tolist() == _times(*range(runs))
    for index in range(runs):
        np.testing.assert_array_equal(seen["t2m"].values[index], field(float(index)))


def test_two_processes_publish_at_once_and_lose_nothing(local: Cube) -> None:
    _race(local, 20)


@pytest.mark.slow
def test_two_processes_publish_at_once_on_s3(s3) -> None:
    cube = Cube(Objects(s3.lake()), PATH)
    cube.ensure(TEMPLATE)
    _race(cube, 8)


def _times(*indices: int) -> list[int]:
    return [int((START + i * timedelta(hours=12)).timestamp()) * 10**9 for i in indices]


# -- structure -----------------------------------------------------------------------------------------


def test_ensure_again_changes_nothing(cube: Cube) -> None:
    identity, tip = cube.identity, cube.tip("main")
    assert identity
    assert anew(cube).ensure(TEMPLATE) == identity
    assert anew(cube).tip("main") == tip


def test_a_variable_may_join_later(cube: Cube) -> None:
    fork = write(cube, 0, 1.0)
    cube.ensure(replace(TEMPLATE, arrays={**TEMPLATE.arrays, "u10": TEMPLATE.arrays["t2m"]}))
    cube.begin(name(0), 0)
    assert "u10" in cube.group(f"run/{name(0)}")
    publish(cube, 0, fork)
    assert np.isnan(anew(cube).group()["u10"][0]).all()


def test_another_layout_is_refused(local: Cube) -> None:
    wider = replace(TEMPLATE.arrays["t2m"], chunks=(3, 5, 8))
    with pytest.raises(UsageError, match=r"t2m of cube .* another layout .*expected .*found"):
        local.ensure(replace(TEMPLATE, arrays={"t2m": wider}))


def test_a_cube_made_anew_is_another(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, 1.0))
    first = cube.identity
    cube.objects.delete_all(PATH)
    assert anew(cube).identity is None
    again = anew(cube)
    assert again.ensure(TEMPLATE) != first
    publish(again, 0, write(again, 0, 1.0))
    assert anew(cube).has(again.identity, chunk(0))
    assert not anew(cube).has(first, chunk(0))
    # Neither does the one who had the old cube open take the new one for it.
    assert not cube.has(first, chunk(0))


def test_what_is_not_there(local: Cube) -> None:
    nothing = Cube(local.objects, "cubes/none")
    assert nothing.identity is None
    assert not nothing.has("x", chunk(0))
    with pytest.raises(NotFound, match=r"there is no cube cubes/none"):
        nothing.open()
    with pytest.raises(NotFound, match="no branch run/never"):
        local.store("run/never")
    assert local.tip("run/never") is None
    with pytest.raises(UsageError, match="none of this cube's"):
        TEMPLATE.index(START + timedelta(hours=6))
    with pytest.raises(UsageError):
        TEMPLATE.index(START - timedelta(hours=12))
    assert TEMPLATE.index(START + timedelta(days=2)) == 4


# -- reading -------------------------------------------------------------------------------------------


def test_xarray_sees_times_as_times(cube: Cube) -> None:
    publish(cube, 2, write(cube, 2, 280.0), "flagged", hours=6)
    published = anew(cube).open()
    assert published.attrs == {"Conventions": "CF-1.11", "title": "toy"}
    assert dict(published.sizes) == {"init_time": 1, "lead_time": 3, "latitude": 5, "longitude": 8}
    assert published["init_time"].values == np.datetime64("2026-11-21T00")
    assert published["lead_time"].values.tolist() == (LEADS * 3600 * 10**9).tolist()
    assert published["lead_time"].dtype == "timedelta64[ns]"
    np.testing.assert_array_equal(
        published["valid_time"].values,
        published["init_time"].values[:, None] + published["lead_time"].values[None, :],
    )
    assert published["t2m"].attrs["units"] == "K"
    np.testing.assert_array_equal(published["t2m"].sel(init_time="2026-11-21T00").values.squeeze(), field(280.0))

    every = anew(cube).open(published_only=False)
    assert every["init_time"].values.tolist() == _times(0, 1, 2)
    assert every["status"].values.tolist() == [0, 0, 2]
    assert np.isnat(every["ingested_forecast_length"].values).tolist() == [True, True, False]
    assert every["ingested_forecast_length"].values[2] == np.timedelta64(6, "h")
    assert every["expected_forecast_length"].values[2] == np.timedelta64(12, "h")
    assert np.isnan(every["t2m"].values[:2]).all()


def test_shards_hold_what_the_template_says(local: Cube) -> None:
    array = local.group()["t2m"]
    assert (array.shape, array.chunks, array.shards) == ((0, *SHAPE), (1, 1, 5, 8), (1, *SHAPE))
    assert array.metadata.dimension_names == ("init_time", "lead_time", "latitude", "longitude")
    assert isinstance(array, zarr.Array)
    assert np.isnan(array.fill_value)


def test_open_cube(local: Cube) -> None:
    url = local.objects.url
    with pytest.raises(UsageError, match="there is no lake at"):
        open_cube(url, "toy")
    Lake(url).prepare()
    with pytest.raises(UsageError, match=r"no zone 'refined' of toy .*nothing of it was published"):
        open_cube(url, "toy")
    publish(local, 0, write(local, 0, 1.0))
    local.objects.put("cubes/toy/refined.json", orjson.dumps({"path": PATH}))
    assert cube_path(open_lake(url), "toy", "refined") == PATH
    np.testing.assert_array_equal(open_cube(url, "toy")["t2m"].values[0], field(1.0))
    with pytest.raises(UsageError, match=r"no zone 'global-4' of toy .*published are: refined"):
        open_cube(url, "toy", "global-4")
    assemble(local, 1, write(local, 1, 2.0))
    seen = open_cube(url, "toy", ref=f"run/{name(1)}")
    assert seen["status"].values.tolist() == [1, 1]
    with pytest.raises(NotFound, match="no branch run/never"):
        open_cube(url, "toy", ref="run/never")


def test_a_cube_whose_maker_has_not_come_to_its_structure_is_not_found(tmp_path: Path) -> None:
    """Another flow may look in between: there is a repository, and nothing in it."""
    import icechunk

    cube = Lake(str(tmp_path)).cube(PATH)
    (tmp_path / PATH).mkdir(parents=True)
    icechunk.Repository.create(storage(cube.objects, cube.path))
    with pytest.raises(NotFound, match="holds nothing yet"):
        cube.group()
    cube.ensure(TEMPLATE)
    assert list(cube.group().array_keys())
