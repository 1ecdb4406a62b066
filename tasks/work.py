"""What a worker does with a batch: claim each partition, process it, verify, record. No Prefect, no Dask."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from . import kinds
from .lake import recipe as recipes
from .lake.errors import ErrorClass, LakeError, Unreachable, as_lake_error
from .lake.lake import Lake
from .lake.ledger import LEASE, Busy, Claim, Ledger, LostClaim, lineage
from .lake.partition import Outcome, Partition, Produced, Status
from .lake.phase import Context

BUSY = "busy"
"""Error class of an outcome whose partition somebody else is working on."""

_SHORT_TRIES = 3
_SHORT_WAIT = 0.5


@dataclass(frozen=True)
class Job:
    """A batch as it travels to a worker: URLs, the recipe as JSON values, and partitions."""

    lake: str
    recipe: dict[str, Any]
    phase: str
    partitions: tuple[Partition, ...]
    flow_run_id: str | None = None

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
    with Leases(context.ledger, job.phase) as leases, ThreadPoolExecutor(phase.threads) as pool:
        return tuple(pool.map(lambda p: attempt(context, phase, p, leases, job.flow_run_id), job.partitions))


def attempt(
    context: Context[Any], phase: Worker, partition: Partition, leases: "Leases", flow_run_id: str | None
) -> Outcome:
    """One partition from claim to record."""
    begun = time.monotonic()

    def outcome(status: Status, error: LakeError | None = None, held: str | None = None) -> Outcome:
        said = str(error) if error else None
        return Outcome(
            key=partition.key,
            status=status,
            error_class=str(error.error_class) if error else None,
            message=said if said is None or partition.key in said else f"{partition.key}: {said}",
            retry_after=error.retry_after if error else None,
            bytes=partition.bytes,
            seconds=time.monotonic() - begun,
            held=held,
        )

    ledger = context.ledger
    try:
        claim = ledger.claim(phase.name, partition, lineage(flow_run_id))
    except Busy as error:
        return Outcome(key=partition.key, status=Status.SKIPPED, error_class=BUSY, message=str(error))
    except LakeError as error:
        return outcome(Status.FAILED, error)
    try:
        with leases.kept(claim):
            try:
                produced = _with_short_retries(context, phase, partition)
                _verify(context, produced, partition)
            except Exception as error:
                failure = as_lake_error(error, partition.key)
                ledger.fail(phase.name, leases.current(claim), failure)
                return outcome(Status.FAILED, failure)
            record = ledger.finish(phase.name, leases.current(claim), produced)
        return outcome(record.status, held=produced.held or produced.rejected)
    except LostClaim as error:
        return outcome(Status.LOST, error)
    except LakeError as error:
        # The work may be fine, but its record could not be written: nothing is done that is not on record.
        return outcome(Status.FAILED, error)


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


class Leases:
    """Keeps the claims of a batch alive from one thread while the work goes on."""

    def __init__(self, ledger: Ledger, phase: str) -> None:
        self._ledger = ledger
        self._phase = phase
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextlib.contextmanager
    def kept(self, claim: Claim) -> Iterator[None]:
        """Renew a claim from time to time while the block runs."""
        key = claim.record.partition
        with self._lock:
            self._claims[key] = claim
        try:
            yield
        finally:
            with self._lock:
                self._claims.pop(key, None)

    def current(self, claim: Claim) -> Claim:
        """The claim as last renewed; it is not renewed any more after this call."""
        with self._lock:
            return self._claims.pop(claim.record.partition, claim)

    def _renew(self) -> None:
        while not self._stop.wait(LEASE.total_seconds() / 3):
            with self._lock:
                for key, claim in list(self._claims.items()):
                    # A claim that cannot be renewed is found out when its work is recorded.
                    with contextlib.suppress(LakeError):
                        self._claims[key] = self._ledger.renew(self._phase, claim)
