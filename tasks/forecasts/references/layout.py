"""Where every field of a run lies, as dense arrays: what both forms of references are written from.

A manifest has a row per field; here a field is a place in ``(member, field)`` arrays, so that 690,000 of them take a
few bytes each and no Python object.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from ...lake.errors import CorruptInput
from ...lake.partition import digest_json
from ..recipe import ForecastRecipe
from ..runs import lead_times, parse_run, steps_of
from ..selection import Variable

ABSENT = -1
"""Value of ``source`` where the run has no such field."""


@dataclass(frozen=True, slots=True)
class SourceObject:
    """An object that holds fields: ``url`` as the manifest has it, and what tells its version."""

    url: str
    etag: str | None
    last_modified: datetime | None


@dataclass(frozen=True, slots=True)
class Block:
    """One variable: its place along the field axis, ``start`` to ``stop``, which is ``(lead_time, level)`` in C order.

    ``param`` and ``level_type`` are the source's own words; ``levels`` has one entry, None or the level, for a variable
    without level dimension.
    """

    variable: Variable
    param: str
    level_type: str
    levels: tuple[float | None, ...]
    start: int
    stop: int

    @property
    def is_layered(self) -> bool:
        """Whether the variable has a level dimension."""
        return len(self.levels) > 1


@dataclass(frozen=True)
class RunReferences:
    """Byte ranges of a run. ``members`` is None for a single run, which has one row; ``expected`` is the last lead
    time (h) that the run has at the provider.

    ``source`` (int32, index in ``objects``, `ABSENT` where there is no field), ``offset``, ``length`` (int64, bytes)
    and ``sub`` (int16, number of the field inside its message) have the shape (member, field).
    """

    run: datetime
    expected: int
    lead_times: tuple[int, ...]
    members: tuple[int, ...] | None
    blocks: tuple[Block, ...]
    objects: tuple[SourceObject, ...]
    source: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    sub: np.ndarray

    def cut(self, values: np.ndarray, block: Block) -> np.ndarray:
        """One variable's part of an array (member, field), as (member, lead_time, level)."""
        return values[:, block.start : block.stop].reshape(len(values), len(self.lead_times), len(block.levels))

    def sub_of(self, block: Block) -> int:
        """The number of a variable's field inside its messages. Raises ``CorruptInput`` when it differs."""
        found = np.unique(self.cut(self.sub, block)[self.cut(self.source, block) != ABSENT])
        if len(found) > 1:
            raise CorruptInput(
                f"{block.variable.name} is not at the same place in all its messages, which references cannot say",
                expected="one place",
                found=[int(n) for n in found],
            )
        return int(found[0]) if len(found) else 0

    @property
    def reach(self) -> int:
        """Lead time (h) of the last step that has a field; 0 without any."""
        there = [np.any(self.cut(self.source, b) != ABSENT, axis=(0, 2)) for b in self.blocks]
        reached = np.flatnonzero(np.any(there, axis=0))
        return self.lead_times[reached[-1]] if len(reached) else 0

    @property
    def digest(self) -> str:
        """Identity of what is referred to: byte ranges and axes. The objects' versions are `places.Place.checksum`."""
        content = xxhash.xxh3_128()
        for array in (self.source, self.offset, self.length, self.sub):
            content.update(np.ascontiguousarray(array))
        axes = [self.run.isoformat(), self.lead_times, self.members]
        blocks = [[b.variable.name, b.param, b.level_type, b.levels] for b in self.blocks]
        content.update(digest_json([axes, blocks, [o.url for o in self.objects]]).encode())
        return f"xxh3:{content.hexdigest()}"


def collect(recipe: ForecastRecipe, scope: str, manifests: Iterable[pa.Table]) -> tuple[RunReferences, pa.Table | None]:
    """The manifests of a run's steps (`manifest.MANIFEST`) as dense arrays, and a row per variable to learn from.

    Tables are taken one by one and not kept. Raises ``CorruptInput`` for a row that has no place in the recipe's
    axes, and for two rows of one place.
    """
    return _Collector(recipe, scope).run(manifests)


class _Collector:
    """Scatters manifest rows into the arrays."""

    def __init__(self, recipe: ForecastRecipe, scope: str) -> None:
        self.scope = scope
        self.run_time = parse_run(scope)
        self.leads = lead_times(recipe)
        self.expected = max(steps_of(recipe, self.run_time), default=0)
        self.members = recipe.select.members
        self.variables = recipe.select.variables
        self.layers = [v.levels if len(v.levels) > 1 else (None,) for v in self.variables]
        sizes = [len(self.leads) * len(levels) for levels in self.layers]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        shape = (1 if self.members is None else len(self.members), int(self.starts[-1]))
        self.source = np.full(shape, ABSENT, np.int32)
        self.offset = np.zeros(shape, np.int64)
        self.length = np.zeros(shape, np.int64)
        self.sub = np.zeros(shape, np.int16)
        self.objects: dict[str, tuple[int, SourceObject]] = {}
        self.rows = 0
        # Variable -> lead time, table and row of its last field so far: a few tables at most are kept.
        self.samples: dict[int, tuple[int, pa.Table, int]] = {}
        self.member_order = np.argsort(self.members or (0,))
        self.known_members = np.asarray(self.members or (0,), np.int64)[self.member_order]
        self.known = np.array(sorted({level for levels in self.layers for level in levels if level is not None}))
        # (variable, known level) -> place along its level dimension, -1 for a level it has not.
        self.place = np.full((len(self.variables), max(1, len(self.known))), -1, np.int64)
        for number, levels in enumerate(self.layers):
            for at, level in enumerate(levels):
                self.place[number, slice(None) if level is None else np.searchsorted(self.known, level)] = at

    def run(self, manifests: Iterable[pa.Table]) -> tuple[RunReferences, pa.Table | None]:
        for table in manifests:
            if len(table):
                self.add(table)
        if np.count_nonzero(self.source != ABSENT) != self.rows:
            raise CorruptInput(f"the manifests of run {self.scope} hold a field twice")
        # Objects in order of their URLs: the order of the manifests is to make no difference.
        urls = sorted(self.objects)
        renumbered = np.zeros(len(urls) + 1, np.int32)
        renumbered[[self.objects[url][0] for url in urls]] = np.arange(len(urls))
        renumbered[-1] = ABSENT
        self.source = renumbered[self.source]
        rows = {number: table.take([row]) for number, (_, table, row) in self.samples.items()}
        blocks = tuple(self._blocks(rows))
        found = RunReferences(
            run=self.run_time, expected=self.expected, lead_times=self.leads, members=self.members, blocks=blocks,
            objects=tuple(self.objects[url][1] for url in urls), source=self.source, offset=self.offset,
            length=self.length, sub=self.sub,
        )  # fmt: skip
        return found, pa.concat_tables(rows.values()).unify_dictionaries() if rows else None

    def add(self, table: pa.Table) -> None:
        """Scatter one table."""
        table = table.combine_chunks()
        names = [v.name for v in self.variables]
        variable = _coded(table, "variable", lambda name: names.index(name) if name in names else -1)
        seconds = _numbers(table, "lead_time")
        lead = _position(np.asarray(self.leads, np.int64) * 3600, seconds)
        member = np.zeros(len(table), np.int64)
        if self.members is not None:
            at = _position(self.known_members, _numbers(table, "member", -1))
            member = np.where(at < 0, -1, self.member_order[at])
        layered = np.array([len(levels) > 1 for levels in self.layers])
        at_level = np.zeros(len(table), np.int64)
        if len(self.known):
            levels = table["level"].combine_chunks().to_numpy(zero_copy_only=False)
            code = _position(self.known, levels)
            at_level = np.where(layered[variable], np.where(code < 0, -1, self.place[variable, code]), 0)
        self._refuse(table, (("variable", variable), ("lead_time", lead), ("member", member), ("level", at_level)))
        counts = np.array([len(levels) for levels in self.layers])
        slot = self.starts[variable] + lead * counts[variable] + at_level
        codes = self._object_codes(table)
        flat = member * self.source.shape[1] + slot
        self.source.reshape(-1)[flat] = codes
        self.offset.reshape(-1)[flat] = _numbers(table, "offset")
        self.length.reshape(-1)[flat] = _numbers(table, "length")
        self.sub.reshape(-1)[flat] = _numbers(table, "sub")
        self.rows += len(table)
        used, first = np.unique(variable, return_index=True)
        for number, row in zip(used.tolist(), first.tolist(), strict=True):
            if number not in self.samples or seconds[row] > self.samples[number][0]:
                self.samples[number] = (int(seconds[row]), table, row)

    def _refuse(self, table: pa.Table, codes: Iterable[tuple[str, np.ndarray]]) -> None:
        for name, code in codes:
            for row in np.flatnonzero(code < 0)[:1]:
                value = table[name][int(row)].as_py()
                raise CorruptInput(
                    f"the manifests of run {self.scope} have the {name} {value}, which the recipe has not"
                )

    def _object_codes(self, table: pa.Table) -> np.ndarray:
        """Numbers of the objects behind the rows. Rows of one object share its version; of copies, only the place."""
        column = table["url"].combine_chunks()
        urls = column.dictionary.to_pylist()
        indices = column.indices.to_numpy(zero_copy_only=False)
        numbers = np.zeros(len(urls), np.int32)
        used, first = np.unique(indices, return_index=True)
        for code, row in zip(used, first, strict=True):
            url = urls[code]
            if url not in self.objects:
                version = SourceObject(url, table["etag"][int(row)].as_py(), table["last_modified"][int(row)].as_py())
                self.objects[url] = (len(self.objects), version)
            numbers[code] = self.objects[url][0]
        return numbers[indices]

    def _blocks(self, rows: dict[int, pa.Table]) -> Iterator[Block]:
        for number, variable in enumerate(self.variables):
            param, level_type, level = variable.param, variable.level_type or "", None
            if number in rows:
                param, level_type, level = (rows[number][c][0].as_py() for c in ("param", "level_type", "level"))
            levels = self.layers[number] if len(self.layers[number]) > 1 else (level,)
            place = (int(self.starts[number]), int(self.starts[number + 1]))
            yield Block(variable, param, level_type, levels, *place)


def _coded(table: pa.Table, name: str, code: Any) -> np.ndarray:
    """A dictionary column as numbers: ``code`` of each word is asked for once."""
    column = table[name].combine_chunks()
    codes = np.array([code(word) for word in column.dictionary.to_pylist()], np.int64)
    return codes[column.indices.to_numpy(zero_copy_only=False)]


def _numbers(table: pa.Table, name: str, null: int | None = None) -> np.ndarray:
    """An integer or duration column as int64; ``null`` stands for null."""
    column = table[name].combine_chunks().cast(pa.int64())
    if null is not None and column.null_count:
        column = column.fill_null(null)
    return column.to_numpy(zero_copy_only=False)


def _position(axis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each value stands in a sorted axis; -1 where it does not."""
    at = np.minimum(np.searchsorted(axis, values), len(axis) - 1)
    return np.where(axis[at] == values, at, -1)
