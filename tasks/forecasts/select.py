"""Which rows of an index a recipe means: its variables, and which fields of them must be there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..lake.errors import CorruptInput
from .manifest import MANIFEST
from .selection import Select, Variable


@dataclass(frozen=True, slots=True)
class Field:
    """One field a recipe expects: variable, level and member (None without that dimension)."""

    variable: str
    level: float | None
    member: int | None

    def __str__(self) -> str:
        level = "" if self.level is None else f" {self.level:g}"
        member = "" if self.member is None else f" member {self.member}"
        return f"{self.variable}{level}{member}"


def expected(select: Select, step: int, members: Sequence[int] | None) -> Iterator[Field]:
    """Every field that a step (h) must have."""
    for variable in select.variables:
        if step not in variable.not_at:
            for level in variable.levels or (None,):
                for member in members or (None,):
                    yield Field(variable.name, level if len(variable.levels) > 1 else None, member)


def rows_of(table: pa.Table, select: Select, step: int, members: Sequence[int] | None) -> tuple[pa.Table, list[Field]]:
    """The rows of an index table (`manifest.SCHEMA`) that a recipe selects at one step, as a manifest, and
    the expected fields that have none.

    Works on columns: the time follows the rows, not rows times variables. Raises ``CorruptInput`` when two rows claim
    to be the same field: the recipe's variable is then not told apart from another one, and either answer might be
    the wrong one.
    """
    index = _Index(table)
    width = len(members) if members is not None else 1
    rows, variables, missing = [], [], []
    for number, variable in enumerate(select.variables):
        if step in variable.not_at:
            continue
        found = index.of(variable, members)
        axis = variable.levels if len(variable.levels) > 1 else (None,)
        place = _place(index.level[found], axis) * width + _place_of_member(index.member[found], members)
        _refuse_twice(index, found, place, step, variable, axis, members)
        there = np.zeros(len(axis) * width, bool)
        there[place] = True
        for hole in np.flatnonzero(~there):
            level, member = divmod(int(hole), width)
            missing.append(Field(variable.name, axis[level], members[member] if members is not None else None))
        rows.append(found)
        variables.append(np.full(len(found), number, np.int32))
    chosen = index.table.take(pa.array(np.concatenate(rows))) if rows else index.table.slice(0, 0)
    names = pa.array([v.name for v in select.variables])
    codes = pa.array(np.concatenate(variables) if variables else [], pa.int32())
    named = chosen.add_column(0, MANIFEST.field("variable"), pa.DictionaryArray.from_arrays(codes, names))
    return named.cast(MANIFEST), missing


class _Index:
    """An index table's columns as arrays, and its rows by param."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table.unify_dictionaries().combine_chunks()
        self.level = _floats(self.table["level"])
        self.member = _floats(self.table["member"])
        self.start = _floats(self.table["window_start"].cast(pa.int64()))
        self.level_type, self._level_types = _codes(self.table["level_type"])
        self.window, self._windows = _codes(self.table["window"])
        param, self._params = _codes(self.table["param"])
        self._order = np.argsort(param, kind="stable")
        self._bounds = np.searchsorted(param[self._order], np.arange(len(self._params) + 1))

    def of(self, variable: Variable, members: Sequence[int] | None) -> np.ndarray:
        """Numbers of the rows that are this variable, in the order of the table."""
        code = self._params.get(variable.param)
        if code is None:
            return np.empty(0, np.int64)
        rows = self._order[self._bounds[code] : self._bounds[code + 1]]
        if variable.level_type is not None:
            rows = rows[self.level_type[rows] == self._level_types.get(variable.level_type, -1)]
        if variable.levels:
            rows = rows[np.isin(self.level[rows], variable.levels)]
        if variable.window is not None:
            rows = rows[self.window[rows] == self._windows.get(variable.window, -1)]
        if variable.window_start == "run":
            rows = rows[self.start[rows] == 0]
        if members is not None:
            rows = rows[np.isin(self.member[rows], members)]
        return rows


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, dict[str, int]]:
    """A dictionary column as numbers, and what each number stands for."""
    if not len(column):
        return np.empty(0, np.int32), {}
    array = column.chunk(0)
    return array.indices.to_numpy(), {name: code for code, name in enumerate(array.dictionary.to_pylist())}


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64, NaN where null."""
    return column.cast(pa.float64()).to_numpy()


def _place(levels: np.ndarray, axis: Sequence[float | None]) -> np.ndarray:
    """Place of each level along the variable's axis, 0 without one."""
    if axis[0] is None:
        return np.zeros(len(levels), np.int64)
    order = np.argsort(np.asarray(axis, np.float64))
    return order[np.searchsorted(np.asarray(axis, np.float64), levels, sorter=order)]


def _place_of_member(member: np.ndarray, members: Sequence[int] | None) -> np.ndarray:
    return _place(member, members if members is not None else (None,))


def _refuse_twice(
    index: _Index, rows: np.ndarray, place: np.ndarray, step: int, variable: Variable,
    axis: Sequence[float | None], members: Sequence[int] | None,
) -> None:  # fmt: skip
    values, counts = np.unique(place, return_counts=True)
    if counts.max(initial=0) < 2:
        return
    twice = int(values[counts > 1][0])
    level, member = divmod(twice, len(members) if members is not None else 1)
    field = Field(variable.name, axis[level], members[member] if members is not None else None)
    first, second = (_describe(index.table, int(row)) for row in rows[place == twice][:2])
    raise CorruptInput(f"step {step}: two fields of the index are {field} to the recipe: {first} and {second}")


def _describe(table: pa.Table, row: int) -> str:
    r = {c: table[c][row].as_py() for c in ("param", "level_type", "level", "window", "window_start", "member")}
    window = r["window"] if r["window_start"] is None else f"{r['window']} from {r['window_start']}"
    level = "" if r["level"] is None else f" {r['level']:g}"
    return f"{r['param']} at {r['level_type']}{level} ({window})"
