"""The phase runner: plan, select, batch, a bounded window of batches on an executor, settle, report."""

import queue
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import kinds
from .executor import Executor
from .lake.errors import ErrorClass, ExitCode, LakeError
from .lake.lake import Lake
from .lake.ledger import Record, State, seen, state, utcnow
from .lake.partition import Outcome, Output, Partition, Produced, Status
from .lake.phase import Context, Phase, Window
from .lake.recipe import Recipe
from .plan import Options, Plan, all_over, plan_phase
from .report import Progress, Report, public_uri
from .work import BUSY, Job, Leases, attempt

MAX_ROUNDS = 3
"""How often a partition is tried in one run of a phase, the first time included."""

_FEW = 64
_DIVISOR = 8
_POLL = 0.5
_QUOTA_WAIT = 60.0
_LOOK = 30.0
"""Seconds between two looks for what is awaited, give or take a fifth."""


def run_phase(
    lake: Lake,
    recipe: Recipe,
    name: str,
    window: Window,
    options: Options,
    executor: Executor,
    progress: Progress | None = None,
) -> Report:
    """Run a phase to its end and say what became of it. Raises ``LakeError`` for what is wrong with the call itself."""
    begun = time.monotonic()
    progress = progress or Progress()
    context = Context(lake, recipe)
    phase = kinds.phase(recipe, name)
    lake.prepare()
    # Every run has an id of its own, or it could not tell what its lost workers claimed from what others did.
    options = replace(options, flow_run_id=options.flow_run_id or f"run-{uuid.uuid4().hex[:12]}")
    plan = plan_phase(lake, recipe, name, window, options)
    selected = plan.selected
    run = _Run(context, phase, plan, options, executor, progress)
    progress.started(name, len(selected), sum(p.bytes for p in selected))
    try:
        keys = {p.key for p in selected}
        for scope in plan.scopes:
            wanted = [p for p in scope.partitions if p.key in keys]
            if wanted:
                phase.prepare(context, scope.scope, wanted)
        run.process(selected)
        run.settle()
    finally:
        progress.ended()
    return run.report(time.monotonic() - begun)


def wait_for(lake: Lake, recipe: Recipe, name: str, window: Window, wait: float, progress: Progress) -> None:
    """Wait until nothing is owed to any scope of a phase (see `Phase.awaited`), at most ``wait`` seconds.

    Returns in any case: what is still owed then, planning sees. Meant to be called before a cluster is opened.
    """
    context = Context(lake, recipe)
    phase = kinds.phase(recipe, name)
    deadline = time.monotonic() + wait
    said = ""
    while True:
        owed = next((what for s in phase.scopes(context, window) if (what := phase.awaited(context, s))), None)
        left = deadline - time.monotonic()
        if owed is None or left <= 0:
            return
        if owed != said:
            progress.said(f"waiting, at most {left / 60:.0f} min more: {owed}")
            said = owed
        time.sleep(min(left, _LOOK * random.uniform(0.8, 1.2)))


@dataclass
class _Run:
    """One run of a phase: what is known of it so far."""

    context: Context[Any]
    phase: Phase[Any]
    plan: Plan
    options: Options
    executor: Executor
    progress: Progress
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    settled: dict[str, Outcome] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    by_others: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    # -- partitions ------------------------------------------------------------------------------------

    def process(self, selected: Sequence[Partition]) -> None:
        """Hand out batches until every selected partition came to an end or its tries are used up."""
        left = list(selected)
        for number in range(1, MAX_ROUNDS + 1):
            self._window(self._round(left, number))
            left = [p for p in left if self._try_again(p)]
            if not left or number == MAX_ROUNDS:
                break
            if reason := self.executor.usable():
                self.progress.said(reason)
                break
            wait = self._wait(left, number)
            if wait >= 1:
                self.progress.said(f"{len(left)} partition(s) are tried again in {wait:.0f} s")
            time.sleep(wait)
        self._wait_for_others(selected)

    def _round(self, partitions: Sequence[Partition], number: int) -> list[list[Partition]]:
        """Batches of a round. A batch that was lost may hold one partition that kills its worker, so what is lost goes
        on one by one - where that is a great many, in small batches first. What failed otherwise goes on as it was."""
        count = self.phase.batch_count
        if number == 1:
            return self._batches(partitions, count)
        lost = [p for p in partitions if (o := self.outcomes.get(p.key)) is None or o.status is Status.LOST]
        keys = {p.key for p in lost}
        one_by_one = number == MAX_ROUNDS or len(lost) <= _FEW
        small = 1 if one_by_one else max(1, count // _DIVISOR)
        batches = [lost[i : i + small] for i in range(0, len(lost), small)]
        return self._batches([p for p in partitions if p.key not in keys], count) + batches

    def _batches(self, partitions: Sequence[Partition], count: int) -> list[list[Partition]]:
        batches: list[list[Partition]] = []
        size = 0
        # Fewer, larger batches cost less, but each slot should see a few of them for an even load.
        fair = max(1, -(-len(partitions) // (self.executor.slots * 2)))
        limit = min(count, max(fair, self.phase.threads))
        for partition in partitions:
            if not batches or len(batches[-1]) >= limit or size + partition.bytes > self.phase.batch_bytes:
                batches.append([])
                size = 0
            batches[-1].append(partition)
            size += partition.bytes
        return batches

    def _window(self, batches: Iterable[Sequence[Partition]]) -> None:
        """Run batches, twice as many under way as there are slots; futures are dropped as they end."""
        over: queue.SimpleQueue[int] = queue.SimpleQueue()
        under_way: dict[int, tuple[Any, Job]] = {}
        waiting = deque(batches)
        number = 0
        recipe = self.context.recipe.model_dump(mode="json")
        while waiting or under_way:
            while waiting and len(under_way) < self.executor.slots * 2:
                job = Job(
                    self.context.lake.url, recipe, self.phase.name, tuple(waiting.popleft()), self.options.flow_run_id
                )
                try:
                    handle = self.executor.submit(job)
                except Exception as error:
                    self._lost(job, error)
                    continue
                under_way[number] = (handle, job)
                handle.add_done_callback(lambda _done, number=number: over.put(number))
                number += 1
            if not under_way:
                continue
            try:
                done = over.get(timeout=5)
            except queue.Empty:
                if reason := self.executor.usable():
                    for _, job in under_way.values():
                        self._lost(job, LakeError(reason))
                    return
                continue
            handle, job = under_way.pop(done)
            try:
                outcomes = self.executor.result(handle)
            except Exception as error:
                self._lost(job, error)
                continue
            for outcome in outcomes:
                self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.key] = outcome
        if outcome.error_class != BUSY:
            self.progress.finished(outcome)

    def _lost(self, job: Job, error: Exception) -> None:
        """A batch ended in no final state: what its workers recorded stands, the rest is lost."""
        reason = f"its worker was lost ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
        ledger = self.context.ledger
        for partition in job.partitions:
            record = ledger.mark_lost(self.phase.name, partition.key, reason, flow_run_id=self.options.flow_run_id)
            mine = record is not None and record.is_of(partition)
            if mine and record.status in (Status.DONE, Status.REJECTED, Status.FAILED):
                self._note(
                    Outcome(
                        partition.key,
                        record.status,
                        record.error.error_class if record.error else None,
                        record.error.message if record.error else None,
                    )
                )
            else:
                self._note(Outcome(partition.key, Status.LOST, str(ErrorClass.TRANSIENT), f"{partition.key}: {reason}"))

    def _try_again(self, partition: Partition) -> bool:
        outcome = self.outcomes.get(partition.key)
        if outcome is None or outcome.status is Status.LOST:
            return True
        return outcome.status is Status.FAILED and outcome.error_class in (ErrorClass.TRANSIENT, ErrorClass.QUOTA)

    def _wait(self, left: Sequence[Partition], number: int) -> float:
        named = [self.outcomes[p.key].retry_after for p in left if p.key in self.outcomes]
        asked = max((a for a in named if a is not None), default=0.0)
        quota = any(self.outcomes[p.key].error_class == ErrorClass.QUOTA for p in left if p.key in self.outcomes)
        if quota:
            return max(asked, _QUOTA_WAIT if not asked else 0.0)
        return max(asked, 0.5 * 3**number * random.uniform(0.7, 1.3))

    def _wait_for_others(self, selected: Sequence[Partition]) -> None:
        """Partitions that another flow holds: wait for it, and take over what it loses."""
        held = {p.key: p for p in selected if (o := self.outcomes.get(p.key)) and o.error_class == BUSY}
        if held:
            self.progress.said(f"waiting for {len(held)} partition(s) that another flow works on")
        while held:
            time.sleep(_POLL)
            free: list[Partition] = []
            for key, partition in list(held.items()):
                record = self.context.ledger.read(self.phase.name, key)
                now = state(record, partition, utcnow())
                if now is State.BUSY:
                    continue
                del held[key]
                if now in (State.DONE, State.REJECTED):
                    self.by_others.add(key)
                    self._note(Outcome(key, Status.SKIPPED))
                else:
                    free.append(partition)
            if free:
                self._window([p] for p in free)
                held.update({p.key: p for p in free if self.outcomes[p.key].error_class == BUSY})

    # -- settling --------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Settle every scope whose partitions are all over and whose settling is not on record yet."""
        if not self.phase.settles:
            return
        self.context.lake.forget()
        for plan in self.plan.scopes:
            records = self.context.ledger.read_all(self.phase.name, plan.scope)
            if not all_over(plan, records):
                continue
            over = {p.key: records[p.key] for p in plan.partitions}
            self._settle_scope(plan.scope, over)

    def _settle_scope(self, scope: str, records: Mapping[str, Record]) -> None:
        partition = self.phase.settling(self.context, scope, records)
        ledger = self.context.ledger
        with Leases(ledger, self.phase.name) as leases:
            while True:
                record = ledger.read(self.phase.name, partition.key)
                there = record is None or self.context.lake.verified([record])[partition.key]
                found = state(record, partition, utcnow(), there)
                if record is not None and (found is State.DONE and not self.options.force):
                    self.settled[scope] = Outcome(partition.key, Status.SKIPPED, held=record.held)
                    self._keep(record)
                    return
                outcome = attempt(
                    self.context,
                    _Settling(self.phase, scope, records),
                    replace(partition, seen=seen(record)),
                    leases,
                    self.options.flow_run_id,
                )
                if outcome.error_class != BUSY:
                    break
                time.sleep(_POLL)
        self.settled[scope] = outcome
        record = ledger.read(self.phase.name, partition.key)
        if record is not None:
            self._keep(record)

    def _keep(self, record: Record) -> None:
        """What a settling made and had to say, for the report."""
        self.outputs.extend(record.outputs)
        if note := record.metrics.get("note"):
            self.notes.append(str(note))
            self.progress.said(str(note))

    # -- report ----------------------------------------------------------------------------------------

    def report(self, seconds: float) -> Report:
        """What became of the phase, with the exit code of the design."""
        counts = dict.fromkeys(("planned", "skipped", "done", "failed", "lost", "rejected"), 0)
        counts["planned"] = len(self.plan.rows)
        problems: list[str] = []
        transient = permanent = False
        for row in self.plan.rows:
            outcome = self.outcomes.get(row.partition.key)
            status = outcome.status if outcome else _unselected(row.state)
            counts[str(status)] += 1
            if status in (Status.FAILED, Status.LOST):
                passing = outcome is not None and (
                    status is Status.LOST or outcome.error_class in (ErrorClass.TRANSIENT, ErrorClass.QUOTA)
                )
                transient |= passing
                permanent |= not passing
                problems.append(
                    outcome.message
                    if outcome and outcome.message
                    else f"{row.partition.key} failed earlier; --select failed tries it again"
                )
        held = [o.held for o in self.settled.values() if o.held]
        problems.extend(held)
        for outcome in self.settled.values():
            if outcome.status in (Status.FAILED, Status.LOST):
                passing = outcome.error_class in (ErrorClass.TRANSIENT, ErrorClass.QUOTA)
                transient |= passing
                permanent |= not passing
                problems.append(outcome.message or f"{outcome.key} failed")
        if permanent:
            status, code = "failed", ExitCode.FAILED
        elif transient:
            status, code = "incomplete", ExitCode.TRANSIENT
        elif held:
            status, code = "held", ExitCode.HELD
        elif not self.settled_anew and not any(o.status is Status.DONE for o in self.outcomes.values()):
            status, code = "nothing to do", ExitCode.DONE
        else:
            status, code = "done", ExitCode.DONE
        outputs = self.outputs or [o for r in self._records() for o in r.outputs]
        uris = tuple(dict.fromkeys(public_uri(o.uri) for o in outputs))
        return Report(
            self.context.recipe.name, self.phase.name, status, code, counts, uris, seconds,
            tuple(dict.fromkeys(problems)), self.context.lake.url, tuple(s.scope for s in self.plan.scopes),
            tuple(dict.fromkeys([*self.plan.notes, *self.notes])),
        )  # fmt: skip

    @property
    def settled_anew(self) -> bool:
        """Whether any scope was settled in this run rather than found settled."""
        return any(o.status is Status.DONE for o in self.settled.values())

    def _records(self) -> list[Record]:
        wanted = {row.partition.key for row in self.plan.rows}
        records: list[Record] = []
        for scope in self.plan.scopes:
            records += [r for k, r in self.context.ledger.read_all(self.phase.name, scope.scope).items() if k in wanted]
        return records


class _Settling:
    """The settling of a scope in the shape that `attempt` works on."""

    def __init__(self, phase: Phase[Any], scope: str, records: Mapping[str, Record]) -> None:
        self.name = phase.name
        self._phase = phase
        self._scope = scope
        self._records = records

    def process(self, context: Context[Any], partition: Partition) -> Produced:
        del partition
        return self._phase.settle(context, self._scope, self._records)


def _unselected(found: State) -> Status:
    """How a partition that was not selected counts."""
    if found is State.REJECTED:
        return Status.REJECTED
    if found in (State.FAILED, State.RETRY):
        return Status.FAILED
    return Status.LOST if found is State.LOST else Status.SKIPPED
