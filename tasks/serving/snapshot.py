"""A cube as it was published at one moment: its runs, coordinates and variables, and where their shards lie.

Everything is read through one snapshot of Icechunk, which never changes. So a run that is published meanwhile is in
the next snapshot and in nothing of this one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exports.fields import Horizontal, field_names, horizontal, lead_hours
from ..lake.errors import CorruptInput, LakeError, NotFound, UsageError, as_lake_error
from ..lake.run_axis import RUN_AXIS, STATUS
from .cache import Cache
from .layout import Layout, layout
from .manifest import Reference, references

if TYPE_CHECKING:
    from ..lake.cubes import Cube

_WARMED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Run:
    """A published run: its place along init_time, its name, and its time (UTC)."""

    index: int
    name: str
    init: np.datetime64
    status: str


@dataclass(frozen=True)
class Variable:
    """A variable that can be asked for: its layout and CF attributes."""

    name: str
    layout: Layout
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shard:
    """The bytes of a shard: an object of the lake, or (``key`` is None) only to be had through Icechunk."""

    key: str | None
    offset: int
    length: int
    chunk: str


@dataclass(eq=False)
class Snapshot:
    """One snapshot of a cube's ``main``.

    ``lead_time`` is hours, float64; ``outer`` the coordinate values of ``member`` and ``level`` with their attributes.
    """

    cube: Cube
    id: str
    runs: tuple[Run, ...]
    lead_time: np.ndarray
    grid: Horizontal
    outer: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]]
    variables: Mapping[str, Variable]
    attributes: Mapping[str, Any]
    indexes: Cache
    _store: Any
    _nodes: Mapping[str, tuple[str, list[Any]]]
    _shards: dict[tuple[str, int], dict[tuple[int, ...], Shard]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def newest(self) -> Run:
        """The newest run. Raises ``NotFound`` when none was published."""
        if not self.runs:
            raise NotFound(f"cube {self.cube.path} has no published run yet")
        return self.runs[-1]

    def run(self, name: str) -> Run:
        """A run by its name, ``2026-11-20T00``. Raises ``NotFound``."""
        found = self._by_name.get(name)
        if found is None:
            raise NotFound(f"there is no run {name}")
        return found

    @cached_property
    def _by_name(self) -> dict[str, Run]:
        return {r.name: r for r in self.runs}

    def variable(self, name: str) -> Variable:
        """A variable by its name. Raises ``UsageError``."""
        found = self.variables.get(name)
        if found is None:
            raise UsageError(f"there is no variable {name!r}; there are: {', '.join(self.variables)}")
        return found

    # -- where things lie ------------------------------------------------------------------------------

    def shards(self, variable: Variable, run: Run) -> Mapping[tuple[int, ...], Shard]:
        """The shards of one variable of one run that were written, by their numbers along the dimensions."""
        at = variable.name, run.index
        found = self._shards.get(at)
        if found is None:
            found = self._look_up(variable, run)
            with self._lock:
                self._shards[at] = found
        return found

    def _look_up(self, variable: Variable, run: Run) -> dict[tuple[int, ...], Shard]:
        node, manifests = self._nodes[variable.name]
        found: dict[tuple[int, ...], Shard] = {}
        for manifest in manifests:
            first, last = manifest["extents"][0]
            if not first <= run.index < last:
                continue
            data = self.cube.objects.get(f"{self.cube.path}/manifests/{manifest['id']}")
            for index, place in references(data, node, run.index):
                found[index[1:]] = self._shard(variable, index, place)
        return found

    def _shard(self, variable: Variable, index: tuple[int, ...], place: Reference | None) -> Shard:
        chunk = f"{variable.name}/c/{'/'.join(map(str, index))}"
        if place is None:
            return Shard(None, 0, asyncio.run(self._store.getsize(chunk)), chunk)
        return Shard(f"{self.cube.path}/chunks/{place.chunk}", place.offset, place.length, chunk)

    def read(self, shard: Shard, offset: int, length: int) -> bytes:
        """Bytes of a shard. Raises ``CorruptInput``, ``Unreachable``..."""
        if shard.key is not None:
            return self.cube.objects.get_range(shard.key, shard.offset + offset, length)
        from zarr.abc.store import RangeByteRequest
        from zarr.core.buffer import default_buffer_prototype

        asked = RangeByteRequest(offset, offset + length)
        try:
            found = asyncio.run(self._store.get(shard.chunk, default_buffer_prototype(), asked))
        except Exception as error:
            raise as_lake_error(error, shard.chunk) from None
        if found is None or len(found) != length:
            raise CorruptInput(f"{shard.chunk} ends early", expected=f"{length} bytes at {offset}")
        return found.to_bytes()

    def entries(self, variable: Variable, run: Run, number: tuple[int, ...], shard: Shard) -> np.ndarray:
        """Where the chunks of a shard lie in it (see `Layout.entries`); read once and kept."""
        key = (self.id, variable.name, run.index, number)
        found = self.indexes.get(key)
        if found is None:
            at_end, length = variable.layout.index_range
            if length:
                found = variable.layout.entries(self.read(shard, shard.length - length if at_end else 0, length))
            else:
                found = np.array([[0, shard.length]], dtype="uint64")
            self.indexes.put(key, found)
        return found

    def warm(self, run: Run, names: Iterable[str] | None = None) -> None:
        """Read what tells where the chunks of a run lie, all variables side by side: then a point is one read."""
        chosen = [self.variable(n) for n in (self.variables if names is None else names)]
        if not chosen:
            return
        with ThreadPoolExecutor(_WARMED_AT_ONCE, thread_name_prefix="warm") as pool:
            for variable in chosen:
                variable.layout.ready()
            known = list(pool.map(lambda v: self.shards(v, run), chosen))
            jobs = [(v, number, s) for v, shards in zip(chosen, known, strict=True) for number, s in shards.items()]
            list(pool.map(lambda job: self.entries(job[0], run, job[1], job[2]), jobs))


def open_snapshot(cube: Cube, indexes: Cache) -> Snapshot:
    """The newest snapshot of a cube. Raises ``NotFound`` when there is no cube, or nothing in it."""
    store = cube.store()
    try:
        return _opened(cube, store, indexes)
    except LakeError:
        raise
    except Exception as error:
        raise as_lake_error(error, f"cube {cube.path}") from None


def _opened(cube: Cube, store: Any, indexes: Cache) -> Snapshot:
    import xarray as xr
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        group = zarr.open_group(store, mode="r")
    except GroupNotFoundError:
        raise NotFound(f"cube {cube.path} holds nothing yet") from None
    dataset = xr.open_zarr(store, consolidated=False, chunks=None)
    names = field_names(dataset)
    arrays: dict[str, Any] = {name: group[name] for name in names}
    snapshot = store.session.snapshot_id
    nodes = {
        node["path"].removeprefix("/"): (node["id"], node.get("manifest_refs", []))
        for node in cube.repository.inspect_snapshot(snapshot)["nodes"]
    }
    status = np.asarray(dataset["status"].values)
    inits = dataset[RUN_AXIS].values.astype("datetime64[s]")
    words = {v: k for k, v in STATUS.items()}
    outer = {
        d: (np.asarray(dataset[d].values), dict(dataset[d].attrs)) for d in ("member", "level") if d in dataset.coords
    }
    return Snapshot(
        cube,
        snapshot,
        tuple(Run(int(i), str(inits[i])[:13], inits[i], words[int(status[i])]) for i in np.flatnonzero(status)),
        np.asarray(lead_hours(dataset), dtype="float64"),
        horizontal(dataset),
        outer,
        {n: Variable(n, layout(arrays[n], n), dict(dataset[n].attrs)) for n in names},
        dict(dataset.attrs),
        indexes,
        store,
        nodes,
    )
