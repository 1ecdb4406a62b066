"""Cubes: Icechunk repositories with one Zarr v3 group, written run by run and published in one step.

How a run gets in (docs/adr/0005):

1. `Cube.ensure` puts the *structure* (arrays without data) on ``main``, so every later session knows the
   same nodes; `Cube.begin` makes the branch ``run/<run>`` with arrays long enough for the run.
2. Workers write whole shards through forked sessions (`Cube.fork`) and hand back the *fork*: a few
   bytes that say which chunks are new. Nothing is committed by a worker, so none can conflict.
3. `Cube.assemble` merges the forks of a run into its branch, where checks read it; `Cube.publish` merges
   the same forks into ``main`` in one commit. So several runs can be under way at once, and each run is
   one snapshot of ``main``.
"""

import fcntl
import pickle
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import structure
from .cube_storage import config, storage
from .cube_template import CubeTemplate
from .cube_upkeep import TAG, tag
from .errors import ConflictError, LakeError, NotFound, as_lake_error, from_os_error
from .fork import Fork, fast_codecs
from .objects import Objects
from .run_axis import RUN_AXIS, STATUS, RunEntry, enter_run, grow

if TYPE_CHECKING:
    import icechunk
    import xarray as xr

MAIN = "main"
_PUBLISH_TRIES = 50


class Cube:
    """One cube of the lake. Cheap to make; opens its repository when first used."""

    def __init__(self, objects: Objects, path: str) -> None:
        self.objects = objects
        self.path = path

    # -- repository ------------------------------------------------------------------------------------

    @contextmanager
    def _typed(self) -> Iterator[None]:
        import icechunk

        try:
            yield
        except LakeError:
            raise
        except icechunk.ConflictError as error:
            raise ConflictError(f"cube {self.path}: {_first_line(error)}") from None
        except icechunk.RefNotFoundError as error:
            raise NotFound(f"cube {self.path}: {_first_line(error)}") from None
        except icechunk.RepositoryNotFoundError:
            raise NotFound(f"there is no cube {self.path} in {self.objects.url}") from None
        except (icechunk.IcechunkError, OSError, ValueError) as error:
            if match := re.search(r"os error (\d+)", str(error)):
                number = int(match[1])
                raise from_os_error(OSError(number, _first_line(error)), f"cube {self.path}") from None
            raise as_lake_error(error, f"cube {self.path}") from None

    @cached_property
    def repository(self) -> "icechunk.Repository":
        """The repository. Raises ``NotFound`` when there is none."""
        import icechunk

        icechunk.set_logs_filter("error")
        with self._typed():
            return icechunk.Repository.open(storage(self.objects, self.path), config=config(self.objects))

    @property
    def identity(self) -> str | None:
        """What tells this cube from one made anew under the same path, or None when there is none."""
        try:
            return str(self.repository.get_metadata()["weatherlake_cube"])
        except (NotFound, KeyError):
            return None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the cube while its branches and tags change.

        S3 needs no lock, commits there are conditional; on a local folder Icechunk's are not, so a file
        lock that the kernel frees stands in.
        """
        at = self.objects.location
        if not at.is_local:
            with self._typed():
                yield
            return
        lock = Path(at.prefix) / f"{self.path}.lock"
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = open(lock, "ab")  # noqa: SIM115 (closed below, after the lock is released)
        except OSError as error:
            raise from_os_error(error, f"cube {self.path}") from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self._typed():
                yield

    # -- structure -------------------------------------------------------------------------------------

    def ensure(self, template: CubeTemplate) -> str:
        """Make the repository and every array of ``template`` that is not there yet; the cube's identity.

        Raises ``UsageError`` when an array is there with another shape or chunking.
        """
        import icechunk
        import zarr

        icechunk.set_logs_filter("error")
        with self.changing():
            if not icechunk.Repository.exists(storage(self.objects, self.path)):
                # The identity is part of the repository from its first moment: a cube without one
                # (its maker was killed in between) is taken over below.
                icechunk.Repository.create(storage(self.objects, self.path), config=config(self.objects))
            self.__dict__.pop("repository", None)
            if "weatherlake_cube" not in self.repository.get_metadata():
                self.repository.set_metadata({"weatherlake_cube": uuid.uuid4().hex})
            session = self.repository.writable_session(MAIN)
            structure.make(zarr.open_group(session.store, mode="a", attributes=None), template, self.path)
            if session.has_uncommitted_changes:
                session.commit("structure")
        identity = self.identity
        if identity is None:
            raise NotFound(f"cube {self.path} vanished while it was made")
        return identity

    # -- writing a run ---------------------------------------------------------------------------------

    def begin(self, run: str, index: int) -> None:
        """Make the branch of a run, with every array of ``main`` in it and long enough for ``index``."""
        import zarr

        with self.changing():
            branch = f"run/{run}"
            tip = self.repository.lookup_branch(MAIN)
            if branch not in self.repository.list_branches():
                self.repository.create_branch(branch, tip)
            main = zarr.open_group(self.repository.readonly_session(MAIN).store, mode="r")
            group = zarr.open_group(self.repository.readonly_session(branch).store, mode="r")
            if set(main.array_keys()) - set(group.array_keys()):
                # A branch is made of main and forks and holds nothing of its own: start it over.
                self.repository.reset_branch(branch, tip)
            session = self.repository.writable_session(branch)
            grow(zarr.open_group(session.store, mode="a"), index)
            if session.has_uncommitted_changes:
                session.commit(f"begin {run}")

    @contextmanager
    def fork(self, run: str) -> Iterator["Fork"]:
        """Write chunks of a run: yields a `Fork`, whose ``data`` is to be kept once the block is left."""
        import zarr

        with self._typed():
            session = self.repository.writable_session(f"run/{run}").fork()
            with fast_codecs():
                fork = Fork(zarr.open_group(session.store, mode="r+"))
                yield fork
            fork.data = pickle.dumps(session)

    def assemble(
        self, run: str, forks: Sequence[bytes], template: CubeTemplate, entry: RunEntry, metadata: Mapping[str, Any]
    ) -> str:
        """Make the branch of a run from ``main`` and the run's forks; the snapshot id."""
        with self.changing():
            branch = f"run/{run}"
            tip = self.repository.lookup_branch(MAIN)
            if branch in self.repository.list_branches():
                self.repository.reset_branch(branch, tip)
            else:
                self.repository.create_branch(branch, tip)
            return self._commit(branch, f"assemble {run}", forks, template, entry, metadata)

    def publish(
        self, run: str, forks: Sequence[bytes], template: CubeTemplate, entry: RunEntry, metadata: Mapping[str, Any]
    ) -> str:
        """Merge a run's forks into ``main`` in one commit and tag it; the snapshot. Readers see all or nothing."""
        for _ in range(_PUBLISH_TRIES):
            try:
                with self.changing():
                    snapshot = self._commit(MAIN, f"publish {run}", forks, template, entry, metadata)
            except ConflictError:
                # Another run was published in between; the forks merge onto the new tip just as well.
                continue
            tag(self, run, snapshot)
            return snapshot
        raise ConflictError(f"cube {self.path}: main kept changing, {run} could not be published")

    def drop_branch(self, run: str) -> None:
        """Remove the branch of a run, if there is one."""
        with self.changing():
            if f"run/{run}" in self.repository.list_branches():
                self.repository.delete_branch(f"run/{run}")

    def _commit(
        self,
        branch: str,
        message: str,
        forks: Sequence[bytes],
        template: CubeTemplate,
        entry: RunEntry,
        metadata: Mapping[str, Any],
    ) -> str:
        import zarr

        session = self.repository.writable_session(branch)
        group = zarr.open_group(session.store, mode="a")
        grow(group, entry.index)
        enter_run(group, template, entry)
        if forks:
            session.merge(*(pickle.loads(f) for f in forks))
        if not session.has_uncommitted_changes:
            return session.snapshot_id
        return session.commit(message, metadata=dict(metadata))

    # -- reading ---------------------------------------------------------------------------------------

    def store(self, ref: str = MAIN) -> "icechunk.IcechunkStore":
        """A read-only Zarr store of a branch (``main``, ``run/<run>``) or a tag (``<run>.1``). Raises ``NotFound``."""
        import icechunk

        with self._typed():
            try:
                if TAG.fullmatch(ref):
                    return self.repository.readonly_session(tag=ref).store
                return self.repository.readonly_session(ref).store
            except icechunk.RefNotFoundError:
                raise NotFound(f"cube {self.path} has no {'tag' if TAG.fullmatch(ref) else 'branch'} {ref}") from None

    def tip(self, ref: str) -> tuple[str, dict[str, Any]] | None:
        """Snapshot id and commit metadata of a branch, or None when there is no such branch."""
        with self._typed():
            if ref not in self.repository.list_branches():
                return None
            snapshot = next(iter(self.repository.ancestry(branch=ref)))
            return snapshot.id, dict(snapshot.metadata)

    @cached_property
    def _main(self) -> "icechunk.IcechunkStore":
        return self.store()

    def has(self, identity: str, chunk: str) -> bool:
        """Whether ``main`` of the cube with this identity holds the chunk."""
        import asyncio

        if self.identity != identity:
            return False
        with self._typed():
            seen = self._main
            if asyncio.run(seen.exists(chunk)):
                return True
            if self.repository.lookup_branch(MAIN) == seen.session.snapshot_id:
                return False
            # Published since main was looked at first.
            self.__dict__.pop("_main", None)
            return asyncio.run(self._main.exists(chunk))

    def group(self, ref: str = MAIN) -> Any:
        """The Zarr group of a branch, to read from. Raises ``NotFound`` for a cube that is only just being made."""
        import zarr
        from zarr.errors import GroupNotFoundError

        try:
            return zarr.open_group(self.store(ref), mode="r")
        except GroupNotFoundError:
            # Its maker has made the repository and not yet committed the structure.
            raise NotFound(f"cube {self.path} holds nothing yet") from None

    def read(self, name: str, index: int, ref: str = MAIN) -> np.ndarray:
        """One variable of one run as it is stored: the array without its first dimension."""
        return np.asarray(self.group(ref)[name][index])

    def open(self, ref: str = MAIN, *, published_only: bool = True) -> "xr.Dataset":
        """The cube as a lazy xarray dataset (see `reading.open_cube`)."""
        import xarray as xr

        dataset = xr.open_zarr(self.store(ref), consolidated=False, chunks=None)
        if published_only:
            dataset = dataset.isel({RUN_AXIS: np.flatnonzero(dataset["status"].values != STATUS["absent"])})
        return dataset


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
