"""What a run of a phase would do: partitions, what the ledger says of them, and which are selected. Read-only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import kinds
from .lake.lake import Lake
from .lake.ledger import SELECTED, Record, Select, State, seen, state, utcnow
from .lake.partition import Partition, Status, public_uris
from .lake.phase import Context, Phase, ScopePlan, Window
from .lake.recipe import Recipe

HANG = 1800.0
"""Seconds after which a partition is taken to hang (besides what its bytes take), unless the run says otherwise."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a phase is run. ``hang`` is in seconds; ``performance_report`` keeps Dask's report in the lake."""

    select: Select = Select.MISSING
    force: bool = False
    flow_run_id: str | None = None
    hang: float = HANG
    performance_report: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a plan: a partition, what the ledger says of it, and the outputs that it has so far."""

    partition: Partition
    state: State
    selected: bool
    outputs: tuple[str, ...] = ()


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


def batches(phase: Phase[Any], partitions: Sequence[Partition], count: int, slots: int) -> list[list[Partition]]:
    """Partitions in batches of at most ``count`` and the phase's bytes, a few for every slot and of the same length."""
    # Fewer, larger batches cost less, but each slot should see a few of them for an even load.
    fair = max(1, -(-len(partitions) // (slots * 2)))
    limit = min(count, max(fair, phase.threads))
    number = -(-len(partitions) // limit)
    if number > slots:
        # As many for each slot: a batch more for one of them is what the others wait for.
        number = min(len(partitions), -(-number // slots) * slots)
    found: list[list[Partition]] = []
    for part in range(number):
        first, last = (len(partitions) * n // number for n in (part, part + 1))
        size = phase.batch_bytes + 1
        for partition in partitions[first:last]:
            size += partition.bytes
            if size > phase.batch_bytes:
                found.append([])
                size = partition.bytes
            found[-1].append(partition)
    return found


def worthwhile(phase: Phase[Any], partitions: Sequence[Partition]) -> int:
    """How many workers a phase has use for: as many as there are batches with one partition for each of its threads."""
    return max(1, len(batches(phase, partitions, phase.threads, max(1, len(partitions)))))


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
        rows.append(Row(planned, found, picked, public_uris(record.outputs) if record else ()))
    return rows


def all_over(plan: ScopePlan, records: Mapping[str, Record]) -> bool:
    """Whether every partition of a scope has its result, as planned."""
    over = (Status.DONE, Status.REJECTED)
    return all(p.key in records and records[p.key].status in over and records[p.key].is_of(p) for p in plan.partitions)
