"""What a worker does with a batch: claim each partition, process it, verify, record. No Prefect, no Dask."""

import itertools
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from . import kinds
from .lake import recipe as recipes
from .lake.errors import ErrorClass, LakeError, Unreachable, as_lake_error
from .lake.lake import Lake
from .lake.ledger import Busy, Claim, Ledger, LostClaim, Record, lineage
from .lake.partition import Outcome, Partition, Produced, Status, public_uris
from .lake.phase import Context
from .leases import Leases, leaving

BUSY = "busy"
"""Error class of an outcome whose partition somebody else is working on."""

DRAINED = "drained"
"""Error class of an outcome whose partition was not begun, because the machine of its worker is about to go."""

_SHORT_TRIES = 3
_SHORT_WAIT = 0.5


@dataclass(frozen=True)
class Job:
    """A batch as it travels to a worker: URLs, the recipe as JSON values, partitions, and after how many seconds one
    of them is taken to hang."""

    lake: str
    recipe: dict[str, Any]
    phase: str
    partitions: tuple[Partition, ...]
    flow_run_id: str | None = None
    hang: float = math.inf

    @property
    def label(self) -> str:
        """What the batch is, for task-run names and logs."""
        first, last = self.partitions[0].key, self.partitions[-1].key
        return first if first == last else f"{first} .. {last.split('/', 1)[-1]}"


class Worker(Protocol):
    """What `attempt` needs of a phase: its name, and to do one partition."""

    name: str

    def process(self, context: Context[Any], partition: Partition) -> Produced:
        """See `Phase.process`."""
        ...


def work(job: Job) -> tuple[Outcome, ...]:
    """Work through a batch; an outcome for every partition, in order. Raises nothing that is about one of them."""
    recipe = recipes.parse(job.recipe)
    context = Context(Lake(job.lake), recipe)
    phase = kinds.phase(recipe, job.phase)

    def one(partition: Partition) -> Outcome:
        if leaving():
            return Outcome(partition.key, Status.LOST, DRAINED, f"{partition.key}: its worker is about to go")
        return attempt(context, phase, partition, leases, job.flow_run_id)

    with Leases(context.ledger, job.phase, job.hang) as leases, ThreadPoolExecutor(phase.threads) as pool:
        return tuple(pool.map(one, job.partitions))


def attempt(
    context: Context[Any], phase: Worker, partition: Partition, leases: Leases, flow_run_id: str | None
) -> Outcome:
    """One partition from claim to record."""
    begun = time.monotonic()

    def outcome(
        status: Status, error: LakeError | None = None, held: str | None = None, moved: int = partition.bytes
    ) -> Outcome:
        said = str(error) if error else None
        return Outcome(
            key=partition.key,
            status=status,
            error_class=str(error.error_class) if error else None,
            message=said if said is None or partition.key in said else f"{partition.key}: {said}",
            retry_after=error.retry_after if error else None,
            bytes=moved,
            seconds=time.monotonic() - begun,
            held=held,
        )

    ledger = context.ledger
    try:
        claim = _claim(ledger, phase.name, partition, flow_run_id)
    except Busy as error:
        return Outcome(key=partition.key, status=Status.SKIPPED, error_class=BUSY, message=str(error))
    except LakeError as error:
        return outcome(Status.FAILED, error)
    try:
        with leases.kept(claim, partition.bytes):
            try:
                careful = replace(partition, lost=_lost(claim.record))
                produced = _with_short_retries(context, phase, careful)
                _verify(context, produced, partition)
            except Exception as error:
                failure = as_lake_error(error, partition.key)
                ledger.fail(phase.name, leases.current(claim), failure)
                return outcome(Status.FAILED, failure)
            record = ledger.finish(phase.name, leases.current(claim), produced)
        moved = int(record.metrics.get("bytes", partition.bytes))
        done = outcome(record.status, held=produced.held or produced.rejected, moved=moved)
        return replace(done, outputs=public_uris(record.outputs))
    except LostClaim as error:
        return outcome(Status.LOST, error)
    except LakeError as error:
        # The work may be fine, but its record could not be written: nothing is done that is not on record.
        return outcome(Status.FAILED, error)


def _claim(ledger: Ledger, phase: str, partition: Partition, flow_run_id: str | None) -> Claim:
    """Claim a partition. Raises ``Busy``.

    Dask runs a batch again when its worker died. What that worker had claimed, on another machine, would hold until its
    lease runs out; but within a flow run no partition is in two batches, so such a claim is a dead one's.
    """
    try:
        return ledger.claim(phase, partition, lineage(flow_run_id))
    except Busy:
        if flow_run_id is None:
            raise
        record = ledger.mark_lost(phase, partition.key, "its worker was lost", flow_run_id=flow_run_id)
        if record is None or record.status is not Status.LOST or record.lineage.flow_run_id != flow_run_id:
            raise
        return ledger.claim(phase, partition, lineage(flow_run_id))


def _lost(record: Record) -> int:
    """How many attempts ended with their worker since the partition was last done."""
    since = itertools.takewhile(lambda a: a.status not in (Status.DONE, Status.REJECTED), reversed(record.history))
    return sum(a.status is Status.LOST for a in since)


def _with_short_retries(context: Context[Any], phase: Worker, partition: Partition) -> Produced:
    for number in range(1, _SHORT_TRIES + 1):
        try:
            return phase.process(context, partition)
        except LakeError as error:
            # A store that does not answer was tried again by its client already.
            passing = error.error_class is ErrorClass.TRANSIENT and not isinstance(error, Unreachable)
            if not passing or number == _SHORT_TRIES:
                raise
            time.sleep(_SHORT_WAIT * 2 ** (number - 1) * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def _verify(context: Context[Any], produced: Produced, partition: Partition) -> None:
    gone = context.lake.missing(o.uri for o in produced.outputs)
    if gone:
        raise LakeError(f"output {sorted(gone)[0]} is not in the lake after it was written", partition=partition.key)
