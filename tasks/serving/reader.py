"""Reading values of a snapshot: at cells or in a box, any lead times, members and levels.

All chunks that a request needs are known before the first byte is read: where each lies is in the indexes of the
shards, which are kept. So whatever is asked for is one round trip to the store, with ranges that lie close joined and
many of them under way (`ranges.fetch`, which bounds what a process holds of them).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..exports.locate import Places
from ..lake.errors import CorruptInput
from ..lake.ranges import GAP, IN_FLIGHT, Part, Range, fetch, joined
from .cache import Cache
from .layout import ABSENT, Layout
from .snapshot import Run, Shard, Snapshot, Variable

_INLINE = 16
"""Chunks of a folder of this machine that are read one after the other: less work than telling threads to."""

_KEPT = 64
"""Chunks of a request that are kept for the next one; of a larger one nothing is, or it would drive out all others."""

_WIDEST_GAP = 128 * 1024
"""Gap (bytes) over which two ranges are still read as one when a request has very many of them."""

_TRIPS = 3
"""Round trips that a request may take, as long as joining ranges brings it down to that."""


@dataclass(frozen=True)
class Outer:
    """What is asked for of the dimensions before the horizontal ones: places along each, None for all."""

    at: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, layout: Layout) -> list[np.ndarray]:
        """Places along each of the layout's outer dimensions."""
        return [
            np.arange(n) if self.at.get(d) is None else np.asarray(self.at[d])
            for d, n in zip(layout.dims[:-2], layout.shape[:-2], strict=True)
        ]


@dataclass(frozen=True)
class Cost:
    """What a request would read: chunks, their bytes when decoded, and values that come out."""

    chunks: int
    bytes: int
    values: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.chunks + other.chunks, self.bytes + other.bytes, self.values + other.values)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk's share of the result: where it goes, and which of its values."""

    number: tuple[int, ...]
    into: tuple[Any, ...]
    take: tuple[Any, ...]


@dataclass(frozen=True)
class Cells:
    """Single cells of the grid: ``rows`` and ``columns`` of shape ``(cell,)``."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    def parts(self, chunk: tuple[int, ...]) -> Iterator[_Piece]:
        """The share of every chunk (of two dimensions) that holds cells."""
        y, x = self.rows // chunk[0], self.columns // chunk[1]
        width = int(x.max()) + 1 if x.size else 1
        order = np.argsort(y * width + x, kind="stable")
        keys = (y * width + x)[order]
        for at in np.split(order, np.flatnonzero(np.diff(keys)) + 1) if order.size else ():
            first = at[0]
            number = int(y[first]), int(x[first])
            take = self.rows[at] - number[0] * chunk[0], self.columns[at] - number[1] * chunk[1]
            yield _Piece(number, (_run(at),), take)


@dataclass(frozen=True)
class Box:
    """Whole rows and columns of the grid: ``rows`` of shape ``(y,)``, ``columns`` of ``(x,)``, in any order."""

    rows: np.ndarray
    columns: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), len(self.columns)

    def parts(self, chunk: tuple[int, ...]) -> Iterator[_Piece]:
        """The share of every chunk (of two dimensions) that the box cuts."""
        rows, columns = _along(self.rows, chunk[0]), _along(self.columns, chunk[1])
        for (y, into_y, take_y), (x, into_x, take_x) in product(rows, columns):
            yield _Piece((y, x), (into_y, into_x), (take_y, take_x))


type Place = Cells | Box


def cost(variable: Variable, place: Place, outer: Outer) -> Cost:
    """What `read` would read of one variable."""
    layout = variable.layout
    many = sum(1 for _ in place.parts(layout.chunk[-2:]))
    values = int(np.prod(place.shape))
    for wanted, chunk in zip(outer.of(layout), layout.chunk[:-2], strict=True):
        many *= len(np.unique(wanted // chunk))
        values *= len(wanted)
    return Cost(many, many * layout.chunk_bytes, values)


def read(
    snapshot: Snapshot, run: Run, names: Sequence[str], place: Place, outer: Outer | None = None,
    cache: Cache | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Values of variables of one run: the outer dimensions (in the cube's order), then cells or rows and columns.

    Values are as they are stored; what was never written is the array's fill value, NaN. ``cache`` keeps decoded
    chunks.    Raises ``UsageError`` for an unknown variable, ``CorruptInput`` for bytes that are broken.
    """
    request = _Request(snapshot, run, outer or Outer(), cache)
    found = {name: request.add(snapshot.variable(name), place) for name in names}
    request.go()
    return found


def at_places(values: np.ndarray, places: Places) -> np.ndarray:
    """Values of points from those of their corners: ``(..., point * corner)`` to ``(..., point)``.

    A missing corner makes a value missing, unless it has no weight.
    """
    corners = values.reshape(*values.shape[:-1], *places.weights.shape)
    if places.weights.shape[1] == 1:
        return corners[..., 0]
    return np.where(places.weights == 0, 0, corners * places.weights).sum(axis=-1).astype(values.dtype)


@dataclass(frozen=True, slots=True)
class _Job:
    """A chunk to be read, and where its values go."""

    layout: Layout
    key: tuple[Any, ...]
    into: np.ndarray
    pieces: list[_Piece]


class _Request:
    """One request under way: the chunks that it needs, by shard and place in it."""

    _decoders = threading.Semaphore(max(2, os.cpu_count() or 2))

    def __init__(self, snapshot: Snapshot, run: Run, outer: Outer, cache: Cache | None) -> None:
        self.snapshot = snapshot
        self.run = run
        self.outer = outer
        self.cache = cache
        self._jobs: dict[Shard, dict[Range, _Job]] = {}

    def add(self, variable: Variable, place: Place) -> np.ndarray:
        """Note the chunks of one variable; the array that `go` fills."""
        layout = variable.layout
        wanted = self.outer.of(layout)
        result = np.full((*map(len, wanted), *place.shape), layout.fill, layout.dtype)
        shards = self.snapshot.shards(variable, self.run)
        parts = list(place.parts(layout.chunk[-2:]))
        for outer in product(*(_along(w, c) for w, c in zip(wanted, layout.chunk[:-2], strict=True))):
            numbers, into, take = zip(*outer, strict=True) if outer else ((), (), ())
            for part in parts:
                piece = _Piece((*numbers, *part.number), (*into, *part.into), (*take, *part.take))
                at = tuple(n // p for n, p in zip(piece.number, layout.per_shard, strict=True))
                if at in shards:
                    self._note(variable, at, shards[at], piece, result)
        return result

    def _note(self, variable: Variable, at: tuple[int, ...], shard: Shard, piece: _Piece, into: np.ndarray) -> None:
        layout = variable.layout
        key = (self.snapshot.id, variable.name, self.run.index, piece.number)
        kept = self.cache.get(key) if self.cache is not None else None
        if kept is not None:
            _put(kept, piece, into)
            return
        within = [n % p for n, p in zip(piece.number, layout.per_shard, strict=True)]
        entries = self.snapshot.entries(variable, self.run, at, shard)
        offset, length = map(int, entries[np.ravel_multi_index(within, layout.per_shard)])
        if offset == ABSENT:
            return
        if offset + length > shard.length:
            raise CorruptInput(f"the index of {shard.chunk} points beyond its end")
        jobs = self._jobs.setdefault(shard, {})
        job = jobs.setdefault((offset, length), _Job(layout, key, into, []))
        job.pieces.append(piece)

    def go(self) -> None:
        """Read, decode and put into place all that was noted."""
        count = sum(map(len, self._jobs.values()))
        keep = self.cache if count <= _KEPT else None
        if self.snapshot.cube.objects.location.is_local and count <= _INLINE:
            for shard, jobs in self._jobs.items():
                for (offset, length), job in jobs.items():
                    self._use(memoryview(self.snapshot.read(shard, offset, length)), job, keep)
            return
        parts = self._joined()
        ranges = {(part.place, part.ranges[0][0]): part.ranges for part in parts}

        def use(shard: Shard, start: int, length: int) -> bytes:
            data = memoryview(self.snapshot.read(shard, start, length))
            with self._decoders:
                for offset, n in ranges[shard, start]:
                    self._use(data[offset - start : offset - start + n], self._jobs[shard][offset, n], keep)
            # All is done with them here, in the thread that read them.
            return b""

        for _ in fetch(use, parts):
            pass

    def _joined(self) -> list[Part]:
        """What is read at once: ranges that are close, and the farther apart the more there are: few trips do."""
        gap = GAP
        while True:
            found = [Part(s, tuple(group)) for s, jobs in self._jobs.items() for group in joined(jobs, gap)]
            if len(found) <= _TRIPS * IN_FLIGHT or gap >= _WIDEST_GAP:
                return found
            gap *= 2

    def _use(self, data: memoryview, job: _Job, keep: Cache | None) -> None:
        values = job.layout.decode(data)
        if keep is not None:
            keep.put(job.key, values)
        for piece in job.pieces:
            _put(values, piece, job.into)


def _put(values: np.ndarray, piece: _Piece, into: np.ndarray) -> None:
    """Take a piece of a chunk and put it where it belongs."""
    outer = values.ndim - 2
    for axis, take in enumerate(piece.take[:outer]):
        values = values[(*(slice(None),) * axis, take)]
    y, x = piece.take[outer:]
    # Places in the result are slices, but for single cells: those have one place for both dimensions.
    into[piece.into] = values[..., y, x] if len(piece.into) == outer + 1 else values[..., y, :][..., x]


def _along(wanted: np.ndarray, chunk: int) -> list[tuple[int, slice, Any]]:
    """Places along a dimension by the chunks that hold them: chunk's number, where they go, which of it they are.

    A chunk that is come back to (a box across the seam of a grid) is there twice.
    """
    if not len(wanted):
        return []
    numbers = wanted // chunk
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(wanted)]
    return [(int(numbers[a]), slice(a, b), _run(wanted[a:b] - numbers[a] * chunk)) for a, b in pairwise(cuts)]


def _run(at: np.ndarray) -> Any:
    """Consecutive places as a slice, which numpy takes without copying; others as they are."""
    if len(at) and at[-1] - at[0] == len(at) - 1 and (len(at) < 3 or bool((np.diff(at) == 1).all())):
        return slice(int(at[0]), int(at[-1]) + 1)
    return at
