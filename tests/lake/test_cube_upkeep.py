"""Tags, expiry and garbage: what is published can be opened again, and nothing is collected that is still to come."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks.lake.cube_template import ArrayTemplate, CubeTemplate
from tasks.lake.cube_upkeep import Pin, collect, expire, tag, versions
from tasks.lake.cubes import Cube
from tasks.lake.errors import NotFound
from tasks.lake.objects import Objects
from tasks.lake.run_axis import RunEntry

from . import toy_cube
from .toy_cube import LEADS, name

PATH = "cubes/toy/refined-1"
SHAPE = (3, 40, 80)
TEMPLATE = CubeTemplate(
    toy_cube.START,
    timedelta(hours=12),
    (0, 6, 12),
    {"lead_time": (("lead_time",), LEADS, {"units": "hours", "dtype": "timedelta64[ns]"})},
    {"t2m": ArrayTemplate(("lead_time", "latitude", "longitude"), SHAPE, (1, 40, 80), SHAPE, {"units": "K"})},
)
"""Large enough that chunks are objects of their own: small ones lie inside a manifest, and none of them can be lost."""

SOON = timedelta(seconds=1)


@pytest.fixture
def cube(store_url: str) -> Cube:
    return made(store_url)


@pytest.fixture
def local(tmp_path: Path) -> Cube:
    return made(str(tmp_path / "lake"))


def made(url: str) -> Cube:
    cube = Cube(Objects(url), PATH)
    cube.objects.make()
    cube.ensure(TEMPLATE)
    return cube


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype("float32")


def write(cube: Cube, index: int, seed: int) -> bytes:
    cube.begin(name(index), index)
    with cube.fork(name(index)) as fork:
        fork.group["t2m"][index] = values(seed)
    return fork.data


def publish(cube: Cube, index: int, *forks: bytes) -> str:
    entry = RunEntry(index, "accepted", 12, 12)
    snapshot = cube.publish(name(index), list(forks), TEMPLATE, entry, {"run": name(index)})
    cube.drop_branch(name(index))
    return snapshot


def read(cube: Cube, index: int, ref: str = "main") -> np.ndarray:
    return np.asarray(Cube(cube.objects, PATH).group(ref)["t2m"][index])


def now() -> datetime:
    return datetime.now(UTC)


# -- tags ----------------------------------------------------------------------------------------------


def test_every_publication_is_tagged_and_opens_at_its_tag(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, 1))
    publish(cube, 1, write(cube, 1, 2))
    publish(cube, 0, write(cube, 0, 3))
    assert [v.tag for v in versions(cube)] == [f"{name(0)}.1", f"{name(1)}.1", f"{name(0)}.2"]
    np.testing.assert_array_equal(read(cube, 0), values(3))
    np.testing.assert_array_equal(read(cube, 0, f"{name(0)}.1"), values(1))
    np.testing.assert_array_equal(read(cube, 0, f"{name(1)}.1"), values(1))
    opened = Cube(cube.objects, PATH).open(f"{name(0)}.1")
    assert opened.sizes["init_time"] == 1
    with pytest.raises(NotFound, match=f"no tag {name(0)}.9"):
        cube.store(f"{name(0)}.9")


def test_a_snapshot_is_tagged_once(local: Cube) -> None:
    snapshot = publish(local, 0, write(local, 0, 1))
    assert tag(local, name(0), snapshot) == f"{name(0)}.1"
    assert local.repository.list_tags() == {f"{name(0)}.1"}


def test_what_its_publisher_could_not_tag_is_tagged_later(local: Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tasks.lake.cubes.tag", lambda *_: None)
        publish(local, 0, write(local, 0, 1))
    assert [v.tag for v in versions(local)] == [None]
    expire(local, now() - timedelta(days=1))
    assert [v.tag for v in versions(local)] == [f"{name(0)}.1"]


# -- expiry --------------------------------------------------------------------------------------------


def test_old_versions_expire_and_what_is_published_stays(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, 1))
    publish(cube, 1, write(cube, 1, 2))
    between = now()
    publish(cube, 0, write(cube, 0, 3))
    assert expire(cube, between, dry_run=True).tags == (f"{name(0)}.1", f"{name(1)}.1")
    assert len(versions(cube)) == 3
    assert expire(cube, between).tags == (f"{name(0)}.1", f"{name(1)}.1")
    collected = collect(cube, [], now() + SOON)
    assert collected.chunks == 1, "the first version of the first run, and nothing else"
    assert [v.tag for v in versions(cube)] == [f"{name(0)}.2"]
    np.testing.assert_array_equal(read(cube, 0), values(3))
    np.testing.assert_array_equal(read(cube, 1), values(2))
    np.testing.assert_array_equal(read(cube, 0, f"{name(0)}.2"), values(3))
    with pytest.raises(NotFound):
        read(cube, 0, f"{name(0)}.1")


def test_the_newest_version_never_expires_and_numbers_are_not_used_twice(local: Cube) -> None:
    publish(local, 0, write(local, 0, 1))
    assert expire(local, now() + SOON).tags == ()
    publish(local, 1, write(local, 1, 2))
    assert expire(local, now() + SOON).tags == (f"{name(0)}.1",)
    publish(local, 0, write(local, 0, 3))
    assert {v.tag for v in versions(local)} == {f"{name(1)}.1", f"{name(0)}.2"}


# -- garbage -------------------------------------------------------------------------------------------


def test_garbage_collected_between_refine_and_publish_leaves_the_run_publishable(cube: Cube) -> None:
    publish(cube, 0, write(cube, 0, 1))
    forks = {index: write(cube, index, index) for index in (1, 2)}
    # Its branch may be gone by then, too: what a fork was made from is not needed to merge it.
    cube.drop_branch(name(2))
    collected = collect(cube, [Pin(index, fork) for index, fork in forks.items()], now() + SOON)
    assert collected.chunks == 0
    assert not [b for b in cube.repository.list_branches() if b.startswith("keep/")]
    for index, fork in forks.items():
        publish(Cube(cube.objects, PATH), index, fork)
        np.testing.assert_array_equal(read(cube, index), values(index))


def test_a_fork_that_is_not_pinned_is_garbage(local: Cube) -> None:
    """Why there are pins: Icechunk merges the fork without a word and the values are gone."""
    fork = write(local, 0, 1)
    assert collect(local, [], now() + SOON, dry_run=True).chunks == 1
    assert collect(local, [], now() + SOON).chunks == 1
    publish(local, 0, fork)
    with pytest.raises(Exception, match="not found"):
        read(local, 0)


def test_what_is_younger_than_the_horizon_is_left(local: Cube) -> None:
    before = now() - timedelta(hours=1)
    fork = write(local, 0, 1)
    assert collect(local, [], before).chunks == 0
    publish(local, 0, fork)
    np.testing.assert_array_equal(read(local, 0), values(1))


def test_two_forks_of_one_shard_both_outlive_the_collection(local: Cube) -> None:
    one, two = write(local, 0, 1), write(local, 0, 2)
    for first, second in ((one, two), (two, one)):
        assert collect(local, [Pin(0, first), Pin(0, second)], now() + SOON).chunks == 0
    for fork, seed in ((one, 1), (two, 2)):
        publish(local, 0, fork)
        np.testing.assert_array_equal(read(local, 0), values(seed))


def test_pins_of_a_collection_that_was_killed_are_removed_after_a_day(
    local: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.repository.create_branch("keep/abandoned", local.repository.lookup_branch("main"))
    collect(local, [], now() - timedelta(hours=1))
    assert "keep/abandoned" in local.repository.list_branches(), "another collection may be under way"
    monkeypatch.setattr("tasks.lake.cube_upkeep._ABANDONED", timedelta(0))
    collect(local, [], now() - timedelta(hours=1))
    assert "keep/abandoned" not in local.repository.list_branches()


def test_branches_under_way_are_kept(cube: Cube) -> None:
    fork = write(cube, 0, 1)
    cube.assemble(name(0), [fork], TEMPLATE, RunEntry(0, "absent", 12, 12), {})
    publish(cube, 1, write(cube, 1, 2))
    publish(cube, 1, write(cube, 1, 3))
    expire(cube, now() + SOON)
    assert collect(cube, [], now() + SOON).chunks == 1
    np.testing.assert_array_equal(read(cube, 0, f"run/{name(0)}"), values(1))
    publish(cube, 0, fork)
    np.testing.assert_array_equal(read(cube, 0), values(1))
