"""The phase runner: plan, select, batch, a bounded window of batches on an executor, settle, report."""

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import kinds
from .cost import cost
from .executor import Executor
from .handout import HandOut
from .lake.errors import ErrorClass, ExitCode, LakeError, ResourceError, UsageError
from .lake.lake import Lake
from .lake.ledger import Record, State, lineage, seen, state, utcnow
from .lake.partition import Outcome, Output, Partition, Produced, Status, public_uris
from .lake.phase import Context, Phase, Window
from .lake.recipe import Recipe
from .leases import Leases
from .plan import Options, Plan, Row, all_over, batches, plan_phase
from .report import Progress, Report
from .scheduler import Scheduler
from .work import BUSY, attempt

MAX_ROUNDS = 3
"""How often a partition is tried in one run of a phase, the first time included."""

_FEW = 64
_DIVISOR = 8
_POLL = 0.5
_QUOTA_WAIT = 60.0
_LOOK = 30.0
"""Seconds between two looks for what is awaited, give or take a fifth."""

_shown: set[str] = set()
"""Dashboards that were said already: the phases of a pipeline share one."""


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
    scheduler = executor.scheduler
    if options.performance_report and scheduler is None:
        raise UsageError("a performance report needs a Dask cluster")
    plan = plan_phase(lake, recipe, name, window, options)
    selected = plan.selected
    if selected and (link := executor.terms.dashboard) and link not in _shown:
        _shown.add(link)
        progress.said(f"Dask's dashboard: {link}")
    since = utcnow().timestamp()
    if options.performance_report and scheduler is not None:
        scheduler.watch()
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
    report = run.report(time.monotonic() - begun)
    if options.performance_report and scheduler is not None and selected:
        return _with_performance(report, scheduler, since, lake, options, progress)
    return report


def _with_performance(
    report: Report, scheduler: Scheduler, since: float, lake: Lake, options: Options, progress: Progress
) -> Report:
    """Keep Dask's performance report of the phase in the lake. What cannot be had changes nothing of the result."""
    key = f"reports/{report.recipe}/{report.phase}/{options.flow_run_id}.html"
    try:
        lake.write(key, scheduler.report(since, f"{report.phase} of {report.recipe}"))
    except LakeError as error:
        progress.said(str(error))
        return replace(report, notes=(*report.notes, str(error)))
    return replace(report, performance=key)


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
    settled: dict[str, Outcome] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    by_others: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hands = HandOut(self.context, self.phase, self.options, self.executor, self.progress)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of the partitions so far, by key."""
        return self.hands.outcomes

    # -- partitions ------------------------------------------------------------------------------------

    def process(self, selected: Sequence[Partition]) -> None:
        """Hand out batches until every selected partition came to an end or its tries are used up."""
        left = list(selected)
        for number in range(1, MAX_ROUNDS + 1):
            self.hands.run(self._round(left, number))
            left = [p for p in left if self._try_again(p)]
            if not left:
                break
            if reason := self.executor.usable():
                self.progress.said(reason)
                break
            if number == MAX_ROUNDS:
                self._give_up(left)
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
            return batches(self.phase, partitions, count, self.executor.slots)
        lost = [p for p in partitions if (o := self.outcomes.get(p.key)) is None or o.status is Status.LOST]
        keys = {p.key for p in lost}
        one_by_one = number == MAX_ROUNDS or len(lost) <= _FEW
        small = 1 if one_by_one else max(1, count // _DIVISOR)
        apart = [lost[i : i + small] for i in range(0, len(lost), small)]
        others = [p for p in partitions if p.key not in keys]
        return batches(self.phase, others, count, self.executor.slots) + apart

    def _give_up(self, left: Sequence[Partition]) -> None:
        """Record what killed its worker in every round, at last all alone, as failed: memory, most likely."""
        ledger = self.context.ledger
        for partition in left:
            key = partition.key
            died = self.hands.deaths[key] >= MAX_ROUNDS and self.hands.alone[key] > 0
            if not died or self.outcomes[key].status is not Status.LOST:
                continue
            last = (self.outcomes[key].message or "").removeprefix(f"{key}: ")
            projected = f"; {partition.memory / 2**20:.0f} MiB of memory were projected" if partition.memory else ""
            error = ResourceError(
                f"{key} ended its worker {self.hands.deaths[key]} times, the last time alone{projected} ({last})",
                partition=key,
            )
            try:
                claim = ledger.claim(self.phase.name, partition, lineage(self.options.flow_run_id))
                ledger.fail(self.phase.name, claim, error)
            except LakeError:
                # Somebody else has taken it up, or the lake does not answer: then it stays lost.
                continue
            self.hands.note(Outcome(key, Status.FAILED, str(error.error_class), str(error)))

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
                    self.hands.note(Outcome(key, Status.SKIPPED))
                else:
                    free.append(partition)
            if free:
                self.hands.run([p] for p in free)
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
        uris = public_uris(self.outputs) or tuple(
            dict.fromkeys(u for row in self.plan.rows for u in self._outputs(row))
        )
        return Report(
            self.context.recipe.name, self.phase.name, status, code, counts, uris, seconds,
            tuple(dict.fromkeys(problems)), self.context.lake.url, tuple(s.scope for s in self.plan.scopes),
            tuple(dict.fromkeys([*self.plan.notes, *self.notes])),
            cost(self.executor.terms, seconds, self.outcomes.values(), self.context.lake),
        )  # fmt: skip

    @property
    def settled_anew(self) -> bool:
        """Whether any scope was settled in this run rather than found settled."""
        return any(o.status is Status.DONE for o in self.settled.values())

    def _outputs(self, row: Row) -> tuple[str, ...]:
        """What a partition has made, now or before; nothing of what was just done is read again for it."""
        key = row.partition.key
        if key in self.by_others:
            record = self.context.ledger.read(self.phase.name, key)
            return public_uris(record.outputs) if record else ()
        outcome = self.outcomes.get(key)
        over = outcome is not None and outcome.status in (Status.DONE, Status.REJECTED)
        return outcome.outputs if outcome is not None and over else row.outputs


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
