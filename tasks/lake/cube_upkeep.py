"""What keeps a cube in order over the years: tags of published versions, expiry of old ones, collection of garbage.

Every publication is a snapshot of ``main`` and gets a tag ``<run>.<n>`` (``2026-11-20T00.1``; ``.2`` when the run is
published again; Icechunk never lets a tag be used twice). A tag keeps its snapshot, and so its chunks, readable.

`expire` lets go of tags and snapshots that are old enough, `collect` deletes what nothing refers to any more. Icechunk
knows only what was committed; the chunks behind a *fork* in staging, which becomes part of ``main`` one day, are
garbage to it. So forks that are not published yet are pinned while garbage is collected: a branch of its own refers to
their chunks. What workers write at that moment is younger than the age from which garbage is looked for.
"""

import pickle
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .errors import ConflictError
from .run_axis import grow

if TYPE_CHECKING:
    from .cubes import Cube

TAG = re.compile(r"(?P<run>\d{4}-\d{2}-\d{2}T\d{2})\.(?P<number>[1-9]\d*)")
"""A published version of a run, as a tag names it: ``2026-11-20T00.1``."""

_MAIN = "main"
_PUBLISH = "publish "
_KEEP = "keep/"
_ABANDONED = timedelta(days=1)
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Version:
    """A published version of a run: its tag (None where it has none), its snapshot, when it was published (UTC)."""

    run: str
    tag: str | None
    snapshot: str
    published: datetime


@dataclass(frozen=True, slots=True)
class Pin:
    """A fork that is to outlive the collection of garbage, and the place of its run along init_time."""

    index: int
    fork: bytes


@dataclass(frozen=True, slots=True)
class Expired:
    """What was let go: tags by name, and how many snapshots."""

    tags: tuple[str, ...]
    snapshots: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted, and what could not be."""

    bytes: int
    chunks: int
    others: int
    failed: int


def tag(cube: "Cube", run: str, snapshot: str) -> str:
    """Tag a snapshot as the next version of a run; the tag. One that the run has there already stands."""
    import icechunk

    for _ in range(_TRIES):
        try:
            with cube.changing():
                repository = cube.repository
                known = _numbers(repository, run)
                for number, at in known.items():
                    if at == snapshot:
                        return f"{run}.{number}"
                number = max(known, default=0) + 1
                while True:
                    try:
                        repository.create_tag(f"{run}.{number}", snapshot)
                    except icechunk.AlreadyExistsError:
                        # Taken in the meantime, or by a version that has expired: numbers are not used twice.
                        number += 1
                    else:
                        return f"{run}.{number}"
        except ConflictError:
            continue
    raise ConflictError(f"cube {cube.path}: its tags kept changing, {run} could not be tagged")


def _numbers(repository: Any, run: str) -> dict[int, str]:
    """Number of each version of a run that is tagged -> its snapshot."""
    found = {}
    for name in repository.list_tags():
        match = TAG.fullmatch(name)
        if match and match["run"] == run:
            found[int(match["number"])] = repository.lookup_tag(name)
    return found


def versions(cube: "Cube") -> list[Version]:
    """The published versions that are still there, oldest first: those tagged, and those in the history of ``main``."""
    repository = cube.repository
    found: dict[str, Version] = {}
    for name in repository.list_tags():
        if match := TAG.fullmatch(name):
            snapshot = next(iter(repository.ancestry(tag=name)))
            found[snapshot.id] = Version(match["run"], name, snapshot.id, snapshot.written_at)
    for snapshot in repository.ancestry(branch=_MAIN):
        if snapshot.id not in found and snapshot.message.startswith(_PUBLISH):
            run = snapshot.message.removeprefix(_PUBLISH)
            found[snapshot.id] = Version(run, None, snapshot.id, snapshot.written_at)
    return sorted(found.values(), key=lambda v: v.published)


def expire(cube: "Cube", older_than: datetime, *, dry_run: bool = False) -> Expired:
    """Let go of versions published before ``older_than`` (UTC). ``main`` and branches of runs keep what they hold.

    A newer version without a tag - its publisher was killed just before - is tagged now.
    """
    tip = cube.repository.lookup_branch(_MAIN)
    known = versions(cube)
    old = [v for v in known if v.published < older_than and v.snapshot != tip]
    gone = tuple(v.tag for v in old if v.tag is not None)
    if dry_run:
        return Expired(gone, len(old))
    for version in known:
        if version.tag is None and version not in old:
            tag(cube, version.run, version.snapshot)
    with cube.changing():
        for name in gone:
            cube.repository.delete_tag(name)
        dropped = cube.repository.expire_snapshots(older_than)
    return Expired(gone, len(dropped))


def collect(cube: "Cube", pins: Sequence[Pin], older_than: datetime, *, dry_run: bool = False) -> Collected:
    """Delete what no branch, tag or pin refers to and what is older than ``older_than`` (UTC).

    The caller sees to it that ``older_than`` is before the start of all work under way, and that ``pins`` holds
    every fork that is staged and not published; in this order.
    """
    with _pinned(cube, pins), cube.changing():
        done = cube.repository.garbage_collect(older_than, dry_run=dry_run)
    others = done.manifests_deleted + done.snapshots_deleted + done.attributes_deleted + done.transaction_logs_deleted
    return Collected(done.bytes_deleted, done.chunks_deleted, others, done.objects_failed_to_delete)


@contextmanager
def _pinned(cube: "Cube", pins: Sequence[Pin]) -> Iterator[None]:
    """A branch that refers to the chunks of all pinned forks, as long as the block lasts."""
    import zarr

    _drop_abandoned(cube)
    if not pins:
        yield
        return
    branch = f"{_KEEP}{uuid.uuid4().hex[:12]}"
    with cube.changing():
        cube.repository.create_branch(branch, cube.repository.lookup_branch(_MAIN))
        # Forks of partitions that were cut differently once may hold the same shard, and of those the last one
        # merged wins: in the second order the first one does, and a branch keeps its whole history.
        for order in (pins, pins[::-1]):
            session = cube.repository.writable_session(branch)
            grow(zarr.open_group(session.store, mode="a"), max(pin.index for pin in pins))
            session.merge(*(pickle.loads(pin.fork) for pin in order))
            session.commit("keep what is staged")
    try:
        yield
    finally:
        with cube.changing():
            cube.repository.delete_branch(branch)


def _drop_abandoned(cube: "Cube") -> None:
    """Remove the pins of a collection that was killed."""
    with cube.changing():
        for branch in cube.repository.list_branches():
            if not branch.startswith(_KEEP):
                continue
            tip = next(iter(cube.repository.ancestry(branch=branch)))
            if tip.written_at < datetime.now(UTC) - _ABANDONED:
                cube.repository.delete_branch(branch)
