"""Which rows of an index a recipe means: its variables, and which fields of them must be there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ..lake.errors import CorruptInput
from .manifest import MANIFEST
from .recipe import Select, Variable


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

    Raises ``CorruptInput`` when two rows claim to be the same field: the recipe's variable is then not
    told apart from another one, and either answer might be the wrong one.
    """
    parts = []
    for variable in select.variables:
        if step in variable.not_at:
            continue
        found = table.filter(_mask(table, variable, members))
        found = found.add_column(
            0, MANIFEST.field("variable"), pa.array([variable.name] * len(found)).dictionary_encode()
        )
        parts.append(found.cast(MANIFEST))
    chosen = pa.concat_tables(parts).combine_chunks() if parts else MANIFEST.empty_table()
    seen: dict[Field, int] = {}
    layered = {v.name for v in select.variables if len(v.levels) > 1}
    columns = zip(*(chosen[c].to_pylist() for c in ("variable", "level", "member")), strict=True)
    for row, (name, level, member) in enumerate(columns):
        key = Field(name, level if name in layered else None, member if members is not None else None)
        if key in seen:
            first, second = (_describe(chosen, i) for i in (seen[key], row))
            raise CorruptInput(f"step {step}: two fields of the index are {key} to the recipe: {first} and {second}")
        seen[key] = row
    return chosen, [f for f in expected(select, step, members) if f not in seen]


def _mask(table: pa.Table, variable: Variable, members: Sequence[int] | None) -> pa.ChunkedArray:
    mask = pc.equal(table["param"].cast(pa.string()), variable.param)
    if variable.level_type is not None:
        mask = pc.and_(mask, pc.equal(table["level_type"].cast(pa.string()), variable.level_type))
    if variable.levels:
        wanted = pa.array(variable.levels, pa.float64())
        mask = pc.and_(mask, pc.is_in(table["level"], value_set=wanted))
    if variable.window is not None:
        mask = pc.and_(mask, pc.equal(table["window"].cast(pa.string()), variable.window))
    if variable.window_start == "run":
        start = table["window_start"].cast(pa.int64())
        mask = pc.and_(mask, pc.fill_null(pc.equal(start, 0), False))
    if members is not None:
        mask = pc.and_(mask, pc.is_in(table["member"], value_set=pa.array(members, pa.int16())))
    return pc.fill_null(mask, False)


def _describe(table: pa.Table, row: int) -> str:
    r = {c: table[c][row].as_py() for c in ("param", "level_type", "level", "window", "window_start", "member")}
    window = r["window"] if r["window_start"] is None else f"{r['window']} from {r['window_start']}"
    level = "" if r["level"] is None else f" {r['level']:g}"
    return f"{r['param']} at {r['level_type']}{level} ({window})"
