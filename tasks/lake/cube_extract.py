"""A part of a cube as a repository of its own: the same chunk objects, and metadata that names no others.

What a snapshot of an Icechunk repository consists of - chunks, manifests, the snapshot itself - never changes under its
name, and the object ``repo`` says which snapshots there are. So the metadata of the published snapshot is taken into a
temporary folder, a *shadow* without chunks, and Icechunk itself makes it smaller there: runs that are not wanted, other
branches, tags and history go. What is left is a repository that opens wherever its chunks are, and the source is not
touched (docs/adr/0015).
"""

import asyncio
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .cube_manifest import Reference, references
from .cubes import MAIN, Cube
from .errors import Changed, LakeError, NotFound, UsageError, as_lake_error
from .ledger import utcnow
from .objects import Objects
from .run_axis import RUN_AXIS, STATUS

if TYPE_CHECKING:
    import icechunk

REPO = "repo"
"""The object of a repository that says what there is; written last."""

_ORIGIN = "weatherlake_origin"


@dataclass(frozen=True, slots=True)
class Extract:
    """A repository with some runs of a cube: ``files`` are its metadata by name (``repo`` among them), ``chunks`` the
    bytes of each chunk object by name. ``origin`` says which snapshot of the cube and which runs it holds."""

    files: Mapping[str, bytes]
    chunks: Mapping[str, int]
    runs: tuple[int, ...]
    origin: str


class Published:
    """The published state of a cube, as it was when this was made: its metadata, read once.

    Raises ``NotFound`` for a cube that is not there, ``Changed`` when it is cleaned up meanwhile.
    """

    def __init__(self, objects: Objects, path: str) -> None:
        self.path = path
        self._files = {REPO: objects.get(f"{path}/{REPO}")}
        with self._shadow() as (folder, repository):
            self.identity = str(repository.get_metadata().get("weatherlake_cube", ""))
            self.origin = str(repository.get_metadata().get(_ORIGIN, ""))
            self.snapshot = repository.lookup_branch(MAIN)
            root = list(repository.ancestry(branch=MAIN))[-1].id
            self._fetch(objects, {f"snapshots/{s}" for s in (self.snapshot, root)})
            self._fill(folder)
            self._fetch(objects, {f"manifests/{m.id}" for m in repository.list_manifest_files(self.snapshot)})
            nodes = repository.inspect_snapshot(self.snapshot)["nodes"]
            self._nodes = {str(n["id"]): str(n["path"]).removeprefix("/") for n in nodes}
        self.status, self._own = self._look(objects)

    def _fetch(self, objects: Objects, names: Collection[str]) -> None:
        """Read metadata: what a snapshot needs was there before the snapshot was."""
        names = sorted(names)
        try:
            found = objects.get_many([f"{self.path}/{name}" for name in names])
        except NotFound as error:
            raise Changed(f"cube {self.path} was cleaned up while it was read: {error.message}") from None
        self._files |= {name: data for name, (data, _) in zip(names, found, strict=True)}

    def _look(self, objects: Objects) -> tuple[np.ndarray, frozenset[str]]:
        """The status of every place along init_time, and the arrays in which every run has chunks of its own."""
        import zarr

        try:
            store = Cube(objects, self.path).repository.readonly_session(snapshot_id=self.snapshot).store
            group: Any = zarr.open_group(store, mode="r")
            return np.asarray(group["status"][:]), frozenset(n for n, array in group.arrays() if _by_run(array))
        except LakeError:
            raise
        except Exception as error:
            raise as_lake_error(error, f"cube {self.path}") from None

    @property
    def runs(self) -> tuple[int, ...]:
        """Places along init_time of the runs that are published."""
        return tuple(np.flatnonzero(self.status != STATUS["absent"]).tolist())

    @property
    def metadata(self) -> frozenset[str]:
        """Names of the metadata objects."""
        return frozenset(self._files)

    @property
    def chunks(self) -> dict[str, int]:
        """Bytes of every chunk object that is referred to, by name."""
        return _chunks(self._references)

    @property
    def shared(self) -> frozenset[str]:
        """Names of the chunk objects that belong to no run: coordinates, without which nothing of the cube opens."""
        return frozenset(r.name for r in self._references if self._nodes.get(r.node) not in self._own)

    def chunks_of(self, run: int) -> dict[str, int]:
        """Bytes of the chunk objects of one run, and of those that all runs share, by name."""
        return _chunks(r for r in self._references if r.first == run or self._nodes.get(r.node) not in self._own)

    @cached_property
    def _references(self) -> list[Reference]:
        return _all_references(self._files)

    def extract(self, runs: Collection[int]) -> Extract:
        """The repository that holds these runs and nothing else. Raises ``UsageError`` when one is not published."""
        lost = sorted(set(runs) - set(self.runs))
        if lost:
            raise UsageError(f"cube {self.path} has no run at place(s) {', '.join(map(str, lost))} of init_time")
        keep = tuple(sorted(set(runs)))
        origin = f"{self.snapshot}:{','.join(map(str, keep))}"
        with self._shadow() as (folder, repository):
            self._fill(folder)
            if keep != self.runs:
                self._prune(repository, keep)
            for branch in repository.list_branches() - {MAIN}:
                repository.delete_branch(branch)
            for tag in repository.list_tags():
                repository.delete_tag(tag)
            # History that is not copied must not be looked for: what stays is the tip and the empty beginning.
            repository.expire_snapshots(utcnow() + timedelta(days=1))
            repository.set_metadata({**repository.get_metadata(), _ORIGIN: origin})
            names = {REPO, *(f"snapshots/{s.id}" for s in repository.ancestry(branch=MAIN))}
            tip = repository.lookup_branch(MAIN)
            names |= {f"manifests/{m.id}" for m in repository.list_manifest_files(tip)}
            if (folder / "transactions" / tip).is_file():
                names.add(f"transactions/{tip}")
            files = {name: (folder / name).read_bytes() for name in sorted(names)}
        return Extract(files, _chunks(_all_references(files)), keep, origin)

    @contextmanager
    def _shadow(self) -> "Iterator[tuple[Path, icechunk.Repository]]":
        """The metadata as a repository in a temporary folder."""
        import icechunk

        icechunk.set_logs_filter("error")
        with tempfile.TemporaryDirectory(prefix="weatherlake-") as name:
            folder = Path(name)
            self._fill(folder)
            try:
                yield folder, icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))
            except icechunk.IcechunkError as error:
                raise as_lake_error(error, f"cube {self.path}") from None

    def _fill(self, folder: Path) -> None:
        for name, data in self._files.items():
            place = folder / name
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(data)

    def _prune(self, repository: "icechunk.Repository", keep: tuple[int, ...]) -> None:
        """Commit a state in which only some runs are there. No chunk is read for it."""
        import zarr

        session = repository.writable_session(MAIN)
        group = zarr.open_group(session.store, mode="a")
        gone = sorted(set(self.runs) - set(keep))
        status: Any = group["status"]
        values = self.status.copy()
        values[gone] = STATUS["absent"]

        async def drop() -> None:
            for name in sorted(self._own):
                for index in gone:
                    await session.store.delete_dir(f"{name}/c/{index}")
            # As a whole, or zarr would read what is to be replaced: it may lie in a chunk, which the shadow lacks.
            await session.store.delete_dir("status/c")

        asyncio.run(drop())
        status[:] = values
        session.commit(f"{len(keep)} of {len(self.runs)} runs")


def _by_run(array: Any) -> bool:
    """Whether every run has chunks of its own in an array."""
    names = array.metadata.dimension_names
    return bool(names) and names[0] == RUN_AXIS and (array.shards or array.chunks)[0] == 1


def _all_references(files: Mapping[str, bytes]) -> list[Reference]:
    return [r for name, data in files.items() if name.startswith("manifests/") for r in references(data, name)]


def _chunks(references: Iterable[Reference]) -> dict[str, int]:
    found: dict[str, int] = {}
    for reference in references:
        found[reference.name] = max(reference.bytes, found.get(reference.name, 0))
    return found
