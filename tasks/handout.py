"""Batches handed out to an executor: a bounded window, futures dropped as they end, losses settled in the ledger."""

import queue
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

from .executor import Executor
from .lake.errors import ErrorClass, LakeError
from .lake.partition import Outcome, Partition, Status
from .lake.phase import Context, Phase
from .plan import Options
from .report import Progress
from .work import BUSY, DRAINED, Job

MAX_DRAINS = 8
"""How often a partition is handed out again because the machine it was sent to is about to go."""

_LOOK = 5.0
"""Seconds without any batch ending after which the executor is asked whether it is still there."""


@dataclass
class HandOut:
    """Runs batches and keeps what became of their partitions.

    ``deaths`` counts how often a worker died with a partition in its batch, ``alone`` how often it was the only one.
    """

    context: Context[Any]
    phase: Phase[Any]
    options: Options
    executor: Executor
    progress: Progress
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    drains: Counter[str] = field(default_factory=Counter)

    def run(self, batches: Iterable[Sequence[Partition]]) -> None:
        """Run batches, twice as many under way as there are slots; every partition has an outcome afterwards."""
        over: queue.SimpleQueue[int] = queue.SimpleQueue()
        under_way: dict[int, tuple[Any, Job]] = {}
        waiting = deque(tuple(b) for b in batches)
        number = 0
        recipe = self.context.recipe.model_dump(mode="json")
        while waiting or under_way:
            while waiting and len(under_way) < self.executor.slots * 2:
                job = self._job(recipe, waiting.popleft())
                try:
                    handle = self.executor.submit(job)
                except Exception as error:
                    self._lost(job, error)
                    if reason := self.executor.usable():
                        return self._gone(reason, under_way.values(), waiting)
                    continue
                under_way[number] = (handle, job)
                handle.add_done_callback(lambda _done, number=number: over.put(number))
                number += 1
            if not under_way:
                continue
            try:
                done = over.get(timeout=_LOOK)
            except queue.Empty:
                if reason := self.executor.usable():
                    return self._gone(reason, under_way.values(), waiting)
                continue
            handle, job = under_way.pop(done)
            try:
                outcomes = self.executor.result(handle)
            except Exception as error:
                self._lost(job, error)
                continue
            again = self._drained(job, outcomes)
            if again:
                waiting.append(again)
            for outcome in outcomes:
                if not again or outcome.error_class != DRAINED:
                    self.note(outcome)
        return None

    def note(self, outcome: Outcome) -> None:
        """Keep what became of a partition."""
        self.outcomes[outcome.key] = outcome
        if outcome.error_class != BUSY:
            self.progress.finished(outcome)

    def _job(self, recipe: dict[str, Any], partitions: tuple[Partition, ...]) -> Job:
        options = self.options
        return Job(self.context.lake.url, recipe, self.phase.name, partitions, options.flow_run_id, options.hang)

    def _drained(self, job: Job, outcomes: Sequence[Outcome]) -> tuple[Partition, ...]:
        """What a worker that is about to go has left undone, to be handed out again."""
        keys = {o.key for o in outcomes if o.error_class == DRAINED}
        self.drains.update(keys)
        if any(self.drains[key] > MAX_DRAINS for key in keys):
            return ()
        return tuple(p for p in job.partitions if p.key in keys)

    def _gone(self, reason: str, under_way: Iterable[tuple[Any, Job]], waiting: Iterable[Sequence[Partition]]) -> None:
        """The executor is of no use any more: settle what is under way; what was never handed out, nobody claimed."""
        for _, job in under_way:
            self._lost(job, CancelledError(reason))
        for partition in (p for batch in waiting for p in batch):
            self.note(_lost(partition, reason))

    def _lost(self, job: Job, error: Exception) -> None:
        """A batch ended in no final state: what its workers recorded stands, the rest is lost."""
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        died = not isinstance(error, (CancelledError, TimeoutError, OSError))
        reason = f"its worker was lost ({said})" if died else f"the connection to its worker was lost ({said})"
        ledger = self.context.ledger
        for partition in job.partitions:
            try:
                record = ledger.mark_lost(self.phase.name, partition.key, reason, flow_run_id=self.options.flow_run_id)
            except LakeError as failure:
                self.note(_lost(partition, f"{reason}; its record cannot be read ({failure})"))
                continue
            mine = record is not None and record.is_of(partition)
            if mine and record.status in (Status.DONE, Status.REJECTED, Status.FAILED):
                error_class = record.error.error_class if record.error else None
                message = record.error.message if record.error else None
                self.note(Outcome(partition.key, record.status, error_class, message))
                continue
            if died:
                self.deaths[partition.key] += 1
                self.alone[partition.key] += len(job.partitions) == 1
            # A worker that ended itself, because its work hung, said so on record.
            told = record.error.message if mine and record.status is Status.LOST and record.error else reason
            self.note(_lost(partition, told))


def _lost(partition: Partition, reason: str) -> Outcome:
    said = reason if partition.key in reason else f"{partition.key}: {reason}"
    return Outcome(partition.key, Status.LOST, str(ErrorClass.TRANSIENT), said)
