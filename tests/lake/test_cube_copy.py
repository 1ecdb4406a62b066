"""Runs of a cube at another place: equal, alone or together, at any moment, and with no chunk that is not theirs."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import icechunk
import numpy as np
import pytest
import xarray as xr

from tasks.lake.cube_copy import chunk_items, place, refuse
from tasks.lake.cube_extract import Published
from tasks.lake.cube_manifest import references
from tasks.lake.cubes import Cube
from tasks.lake.errors import CorruptInput, LakeError, UsageError
from tasks.lake.objects import Objects
from tasks.lake.receipts import Receipts
from tasks.lake.transfer import Item, transfer

from .toy_cube import SHAPE, TEMPLATE, assemble, name, publish, write

PATH = "cubes/toy/refined/abc.icechunk"
icechunk.set_logs_filter("error")


def values(seed: int) -> np.ndarray:
    """Values that no codec makes small, so that chunks are objects of their own."""
    return np.random.default_rng(seed).random(SHAPE, dtype="float32")


def put(cube: Cube, index: int, seed: int | None = None) -> None:
    """Publish a run."""
    fork = write(cube, index, values(index if seed is None else seed))
    assemble(cube, index, fork)
    publish(cube, index, fork)


@pytest.fixture
def cube(tmp_path: Path) -> Cube:
    """Four published runs, one held back on its branch, one place between them empty."""
    objects = Objects(str(tmp_path / "source"))
    objects.make()
    made = Cube(objects, PATH)
    made.ensure(TEMPLATE)
    for index in (0, 1, 2, 4):
        put(made, index)
    held = write(made, 5, values(5))
    assemble(made, 5, held, status="flagged")
    return made


@pytest.fixture
def target(tmp_path: Path) -> Objects:
    return Objects(str(tmp_path / "target"))


@pytest.fixture
def any_target(store_url: str) -> Objects:
    return Objects(store_url)


def archive(cube: Cube, target: Objects, index: int) -> dict[str, int]:
    """Copy a run as `shipment.ship` does; what was copied."""
    published = Published(cube.objects, PATH)
    refuse(published, target)
    receipts = Receipts(target, "receipts")
    copied: dict[str, int] = {}

    def copy(items: Sequence[Item]) -> None:
        copied.update({i.key.rpartition("/")[2]: i.bytes for i in items})
        transfer(cube.objects, target, items, receipts)

    copy(chunk_items(PATH, published.chunks_of(index)))
    place(published, target, index, copy)
    return copied


def assert_holds(cube: Cube, target: Objects, *indexes: int) -> None:
    """The copy opens with Icechunk and xarray, holds these runs and no other, and they are equal."""
    copy = Cube(target, PATH)
    expected = cube.open().sel(init_time=[np.datetime64(name(i), "ns") for i in indexes]).load()
    xr.testing.assert_identical(copy.open().load(), expected)
    assert copy.identity == cube.identity
    # Icechunk finds nothing in it that is not referred to: not one chunk of another run was brought.
    swept = copy.repository.garbage_collect(datetime.now(UTC) + timedelta(days=2), dry_run=True)
    assert swept.chunks_deleted == 0


def test_one_run_is_a_repository_of_its_own(cube: Cube, target: Objects) -> None:
    archive(cube, target, 2)
    assert_holds(cube, target, 2)
    copy = Cube(target, PATH).repository
    assert (copy.list_branches(), copy.list_tags()) == ({"main"}, set())


def test_runs_come_one_by_one_and_only_what_is_new_is_copied(cube: Cube, any_target: Objects) -> None:
    seen: set[str] = set()
    for count, index in enumerate((4, 0, 1, 2), 1):
        copied = set(archive(cube, any_target, index))
        assert copied
        assert not copied & seen
        seen |= copied
        assert_holds(cube, any_target, *sorted((4, 0, 1, 2)[:count]))
    assert len(any_target.listing(f"{PATH}/chunks")) == len(seen)
    # All runs: the snapshot of the source itself.
    assert Published(any_target, PATH).snapshot == Published(cube.objects, PATH).snapshot


def test_a_run_that_is_there_changes_nothing(cube: Cube, target: Objects) -> None:
    archive(cube, target, 1)
    before = [(m.key, m.etag) for m in target.listing("cubes")]
    archive(cube, target, 1)
    assert [(m.key, m.etag) for m in target.listing("cubes")] == before


def test_references_are_those_that_icechunk_knows(cube: Cube) -> None:
    """Icechunk itself counts them, and keeps their objects when it collects garbage."""
    repository, objects = cube.repository, cube.objects
    found = {}
    for manifest in repository.list_manifest_files(repository.lookup_branch("main")):
        mine = references(objects.get(f"{PATH}/manifests/{manifest.id}"))
        counted = repository.inspect_manifest(manifest.id)
        assert len(mine) == counted["total_native"]
        assert {r.node for r in mine} <= {a["node_id"] for a in counted["arrays"]}
        found |= {r.name: r.bytes for r in mine}
    repository.delete_branch(f"run/{name(5)}")
    for branch in repository.list_branches() - {"main"}:
        repository.delete_branch(branch)
    for tag in repository.list_tags():
        repository.delete_tag(tag)
    later = datetime.now(UTC) + timedelta(days=2)
    repository.expire_snapshots(later)
    repository.garbage_collect(later)
    assert {m.key.rpartition("/")[2]: m.size for m in objects.listing(f"{PATH}/chunks")} == found


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", CorruptInput, "is no file of Icechunk"),
        (b"ICE", CorruptInput, "is no file of Icechunk"),
        ("ICE🧊CHUNK".encode() + b" " * 24 + bytes([9, 2, 1]) + b"x", LakeError, "version of Icechunk's format"),
        ("ICE🧊CHUNK".encode() + b" " * 24 + bytes([2, 1, 1]) + b"x", CorruptInput, "no manifest"),
        ("ICE🧊CHUNK".encode() + b" " * 24 + bytes([2, 2, 1]) + b"x", CorruptInput, "cannot be read"),
        ("ICE🧊CHUNK".encode() + b" " * 24 + bytes([2, 2, 0]) + b"\xff" * 9, CorruptInput, "cannot be read"),
    ],
)
def test_what_is_no_manifest(data: bytes, error: type[LakeError], said: str) -> None:
    with pytest.raises(error, match=said):
        references(data)


def test_publications_while_it_is_copied_break_nothing(cube: Cube, any_target: Objects) -> None:
    """The source goes on publishing - other runs, and the copied one anew - and the copy is a whole one all along."""
    stop, failures = threading.Event(), []

    def publishing() -> None:
        seed = 100
        while not stop.is_set():
            put(cube, 6 + seed % 3, seed)
            put(Cube(cube.objects, PATH), 1, seed)
            seed += 1

    def reading() -> None:
        while not stop.is_set():
            if any_target.head(f"{PATH}/repo") is not None:
                try:
                    Cube(any_target, PATH).open().load()
                except Exception as error:  # Whatever a reader meets is what this is about.
                    failures.append(error)

    threads = [threading.Thread(target=publishing), threading.Thread(target=reading)]
    for thread in threads:
        thread.start()
    try:
        for index in (0, 1, 4, 1):
            archive(cube, any_target, index)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    archive(cube, any_target, 1)
    assert_equal_but_for_garbage(cube, any_target, 0, 1, 4)


def assert_equal_but_for_garbage(cube: Cube, target: Objects, *indexes: int) -> None:
    expected = cube.open().sel(init_time=[np.datetime64(name(i), "ns") for i in indexes]).load()
    xr.testing.assert_identical(Cube(target, PATH).open().load(), expected)


def test_two_at_once_lose_nothing_of_each_other(cube: Cube, any_target: Objects) -> None:
    problems: list[Exception] = []

    def one(index: int) -> None:
        try:
            # A process of its own has a cube of its own.
            archive(Cube(cube.objects, PATH), any_target, index)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in (0, 1, 2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert_holds(cube, any_target, 0, 1, 2, 4)


def test_a_run_that_was_published_anew_replaces_the_old_one(cube: Cube, target: Objects) -> None:
    for index in (0, 1):
        archive(cube, target, index)
    put(cube, 0, seed=77)
    # Another run is archived: the one that changed comes with it, for all is of one snapshot.
    archive(cube, target, 2)
    assert_equal_but_for_garbage(cube, target, 0, 1, 2)


def test_another_cube_under_the_same_path_is_refused(cube: Cube, target: Objects, tmp_path: Path) -> None:
    archive(cube, target, 0)
    other = Cube(Objects(str(tmp_path / "other")), PATH)
    other.objects.make()
    other.ensure(TEMPLATE)
    put(other, 0)
    with pytest.raises(UsageError, match="another cube than the one to be copied"):
        archive(other, target, 0)
    assert_holds(cube, target, 0)


def test_runs_that_the_source_lost_are_not_lost_at_the_target(cube: Cube, target: Objects, tmp_path: Path) -> None:
    for index in (0, 2):
        archive(cube, target, index)
    smaller = Objects(str(tmp_path / "smaller"))
    archive(cube, smaller, 1)
    with pytest.raises(UsageError, match=r"holds 2 run\(s\) that the cube to be copied has not"):
        archive(Cube(smaller, PATH), target, 1)
    assert_holds(cube, target, 0, 2)


def test_a_run_that_is_not_published_is_not_copied(cube: Cube, target: Objects) -> None:
    with pytest.raises(UsageError, match="no run at place"):
        archive(cube, target, 5)
    assert target.listing(f"{PATH}/repo") == []
