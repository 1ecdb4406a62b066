"""What a run of a phase would do: partitions, what the ledger says of them, and which are selected. Read-only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import kinds
from .lake.lake import Lake
from .lake.ledger import SELECTED, Record, Select, State, seen, state, utcnow
from .lake.partition import Partition, Status
from .lake.phase import Context, Phase, ScopePlan, Window
from .lake.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Options:
    """How a phase is run."""

    select: Select = Select.MISSING
    force: bool = False
    flow_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a plan: a partition and what the ledger says of it."""

    partition: Partition
    state: State
    selected: bool


@dataclass(frozen=True)
class Plan:
    """What a run of a phase would do."""

    phase: str
    rows: tuple[Row, ...]
    scopes: tuple[ScopePlan, ...]
    settling: tuple[str, ...] = ()

    @property
    def selected(self) -> list[Partition]:
        """The partitions that would run."""
        return [row.partition for row in self.rows if row.selected]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the scopes."""
        return tuple(note for scope in self.scopes for note in scope.notes)

    @property
    def nothing_to_do(self) -> bool:
        """Whether neither a partition nor a settling is left."""
        return not self.settling and not any(row.selected for row in self.rows)


def plan_phase(lake: Lake, recipe: Recipe, name: str, window: Window, options: Options) -> Plan:
    """Plan a phase: read-only."""
    context = Context(lake, recipe)
    phase = kinds.phase(recipe, name)
    lake.forget()
    plans = [phase.plan(context, scope) for scope in phase.scopes(context, window)]
    rows: list[Row] = []
    settling: list[str] = []
    for plan in plans:
        records = context.ledger.read_all(name, plan.scope)
        rows_here = _rows(context, phase, plan, records, options)
        rows.extend(rows_here)
        if phase.settles and not any(r.selected for r in rows_here) and all_over(plan, records):
            over = {p.key: records[p.key] for p in plan.partitions}
            partition = phase.settling(context, plan.scope, over)
            record = records.get(partition.key)
            there = record is None or lake.verified([record])[partition.key]
            if state(record, partition, utcnow(), there) not in (State.DONE,):
                settling.append(plan.scope)
    return Plan(name, tuple(rows), tuple(plans), tuple(settling))


def _rows(
    context: Context[Any], phase: Phase[Any], plan: ScopePlan, records: Mapping[str, Record], options: Options
) -> list[Row]:
    known = [records[p.key] for p in plan.partitions if p.key in records]
    there = context.lake.verified(r for r in known if r.status in (Status.DONE, Status.REJECTED))
    now = utcnow()
    rows = []
    for partition in plan.partitions:
        record = records.get(partition.key)
        found = state(record, partition, now, there.get(partition.key, True))
        planned = replace(partition, seen=seen(record))
        picked = phase.picks(context, record)
        if picked is None:
            picked = options.force or found in SELECTED[options.select]
        rows.append(Row(planned, found, picked))
    return rows


def all_over(plan: ScopePlan, records: Mapping[str, Record]) -> bool:
    """Whether every partition of a scope has its result, as planned."""
    over = (Status.DONE, Status.REJECTED)
    return all(p.key in records and records[p.key].status in over and records[p.key].is_of(p) for p in plan.partitions)
