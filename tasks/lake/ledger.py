"""The ledger: one small JSON record per (recipe, phase, partition), the only truth about what is done.

Key ``ledger/<recipe>/<phase>/<partition>.json``. Every change of a record is a conditional write, so of two
processes that want the same partition exactly one gets it. While a partition is worked on, its record is
``running`` with an owner and a lease; a lease that ran out, or whose owner is known to be dead, makes the
partition *lost*, and it may be taken again. Records keep the last verified result (``outputs``) through
every later attempt until a new result is verified, and a short history of all attempts.
"""

import contextlib
import os
import platform
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import msgspec

from .contents import contents
from .errors import ConflictError, CorruptInput, ErrorClass, LakeError, NotFound
from .objects import Objects
from .owner import is_dead as _is_dead
from .owner import owner
from .partition import RETIRED, Input, Output, Partition, Produced, Status

LEASE = timedelta(seconds=120)
"""How long a claim holds without being renewed."""

HISTORY = 20
"""Attempts that a record remembers besides the current one."""

_RETRYABLE = frozenset({ErrorClass.TRANSIENT, ErrorClass.QUOTA, ErrorClass.RESOURCE})


class State(StrEnum):
    """What a record, seen beside the partition as planned now, means for a run that starts now."""

    NEVER = "never"
    DONE = "done"
    STALE = "stale"
    BUSY = "busy"
    LOST = "lost"
    FAILED = "failed"
    RETRY = "retry"
    REJECTED = "rejected"


class Select(StrEnum):
    """Which partitions a run takes.

    ``missing``: never done, stale, lost, or failed for a reason that may have passed (the network, a quota, a full
    disk, other inputs). ``failed``: those that failed, for whatever reason. ``stale``: done or rejected once, but
    from other inputs, another recipe or other code. ``all``: everything that is not done.
    """

    MISSING = "missing"
    FAILED = "failed"
    STALE = "stale"
    ALL = "all"


SELECTED: Mapping[Select, frozenset[State]] = {
    Select.MISSING: frozenset({State.NEVER, State.STALE, State.LOST, State.RETRY, State.BUSY}),
    Select.FAILED: frozenset({State.FAILED, State.RETRY, State.LOST}),
    Select.STALE: frozenset({State.STALE}),
    Select.ALL: frozenset(State) - {State.DONE, State.REJECTED},
}


class ErrorInfo(msgspec.Struct, frozen=True):
    """Why an attempt failed: class (transient, permanent, quota, resource), type of error, sentence."""

    error_class: str
    reason: str
    message: str


class Lineage(msgspec.Struct, frozen=True):
    """What made a result: version of the code, image, flow run, host."""

    code_version: str = ""
    image: str | None = None
    flow_run_id: str | None = None
    host: str = ""


class Attempt(msgspec.Struct, frozen=True):
    """An earlier attempt as the history of a record keeps it."""

    attempt: int
    status: Status
    owner: str | None
    started: datetime
    finished: datetime | None
    error: ErrorInfo | None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger record. Times are UTC. ``outputs`` is always the last verified result.

    ``fingerprint`` is that of the work as it was done, ``planned`` as it was planned: processing may have found
    out more (the etag of an index), and whoever planned the same meanwhile must know it for the same work.
    """

    partition: str
    status: Status
    attempt: int
    fingerprint: str
    started: datetime
    planned: str = ""
    owner: str | None = None
    lease_expires: datetime | None = None
    finished: datetime | None = None
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    metrics: dict[str, float | int | str] = {}
    held: str | None = None
    error: ErrorInfo | None = None
    lineage: Lineage = Lineage()
    history: tuple[Attempt, ...] = ()

    def is_of(self, partition: Partition) -> bool:
        """Whether this is the work that is planned: the same inputs, recipe and code."""
        return partition.fingerprint in (self.fingerprint, self.planned)

    def as_attempt(self, status: Status | None = None) -> Attempt:
        """This record's attempt, for the history of the next."""
        return Attempt(self.attempt, status or self.status, self.owner, self.started, self.finished, self.error)


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition taken: the record as written, and the etag that proves the claim still holds."""

    record: Record
    etag: str | None


class Busy(LakeError):
    """Somebody else is working on the partition."""


class LostClaim(LakeError):
    """The claim was taken over by somebody else while the work went on."""


def state(record: Record | None, partition: Partition, now: datetime, outputs_there: bool = True) -> State:
    """What to think of a partition. Pure.

    ``outputs_there`` says whether the outputs of a done record still exist: a result that was deleted
    counts as never done.
    """
    if record is None:
        return State.NEVER
    if record.status is Status.RUNNING:
        return State.LOST if lease_over(record, now) else State.BUSY
    if record.status is Status.LOST:
        return State.LOST
    if record.status is Status.FAILED:
        # What failed on other inputs, another recipe or other code may well succeed now.
        passing = record.error is not None and record.error.error_class in _RETRYABLE
        return State.RETRY if passing or not record.is_of(partition) else State.FAILED
    if not record.is_of(partition):
        return State.STALE
    if not outputs_there:
        return State.NEVER
    return State.REJECTED if record.status is Status.REJECTED else State.DONE


def lease_over(record: Record, now: datetime) -> bool:
    """Whether a running record's lease ran out, or its owner was a process of this machine that is gone."""
    if record.lease_expires is None or record.lease_expires <= now:
        return True
    return record.owner is not None and _is_dead(record.owner)


class Ledger:
    """The records of one recipe."""

    def __init__(self, objects: Objects, recipe: str) -> None:
        self.objects = objects
        self.recipe = recipe

    def key(self, phase: str, partition: str) -> str:
        """Where a record lies in the lake."""
        return f"ledger/{self.recipe}/{phase}/{partition}.json"

    def read(self, phase: str, partition: str) -> Record | None:
        """One record, or None."""
        return self._read(phase, partition)[0]

    def _read(self, phase: str, partition: str) -> tuple[Record | None, str | None]:
        key = self.key(phase, partition)
        try:
            data, etag = self.objects.get_with_etag(key)
        except NotFound:
            return None, None
        return _decode(data, key), etag

    def read_all(self, phase: str, scope: str = "") -> dict[str, Record]:
        """Every record of a phase (below ``scope`` when given) by partition key, sorted."""
        prefix = f"ledger/{self.recipe}/{phase}"
        listed = [
            m.key for m in self.objects.listing(f"{prefix}/{scope}" if scope else prefix) if m.key.endswith(".json")
        ]
        records = [_decode(data, key) for key, data in zip(listed, contents(self.objects, listed), strict=True)]
        return {r.partition: r for r in records}

    def claim(self, phase: str, partition: Partition, lineage: Lineage, now: datetime | None = None) -> Claim:
        """Take a partition. Raises ``Busy`` when somebody else holds it, was quicker, or did it since the plan."""
        now = now or utcnow()
        if partition.seen == 0:
            # Nobody had tried it when this was planned: it most likely still is so, and needs no reading first.
            with contextlib.suppress(Busy):
                return self._take(phase, partition, lineage, now, None, None)
        before, etag = self._read(phase, partition.key)
        if before is not None and before.status is Status.RUNNING and not lease_over(before, now):
            raise Busy(f"{partition.key} is being worked on by {before.owner}", partition=partition.key)
        if before is not None and _done_since(before, partition):
            raise Busy(f"{partition.key} was done by somebody else meanwhile", partition=partition.key)
        return self._take(phase, partition, lineage, now, before, etag)

    def _take(
        self,
        phase: str,
        partition: Partition,
        lineage: Lineage,
        now: datetime,
        before: Record | None,
        etag: str | None,
    ) -> Claim:
        """Write a claim over the record as it was read. Raises ``Busy`` when it is not that any more."""
        record = Record(
            partition=partition.key,
            status=Status.RUNNING,
            attempt=before.attempt + 1 if before else 1,
            fingerprint=partition.fingerprint,
            planned=partition.fingerprint,
            started=now,
            owner=owner(),
            lease_expires=now + LEASE,
            inputs=partition.inputs,
            outputs=before.outputs if before else (),
            lineage=lineage,
            history=_history(before),
        )
        key = self.key(phase, partition.key)
        data = msgspec.json.encode(record)
        try:
            etag = self.objects.put_new(key, data) if before is None else self.objects.replace(key, data, etag)
        except (ConflictError, NotFound):
            raise Busy(f"{partition.key} was taken by somebody else", partition=partition.key) from None
        return Claim(record, etag)

    def renew(self, phase: str, claim: Claim, now: datetime | None = None) -> Claim:
        """Prolong a claim. Raises ``LostClaim`` when it does not hold any more."""
        return self._write(phase, claim, msgspec.structs.replace(claim.record, lease_expires=(now or utcnow()) + LEASE))

    def finish(self, phase: str, claim: Claim, produced: Produced, now: datetime | None = None) -> Record:
        """Record verified work: ``done``, or ``rejected`` when ``produced`` says so. Raises ``LostClaim``."""
        error = ErrorInfo("permanent", "Rejected", produced.rejected) if produced.rejected else None
        record = msgspec.structs.replace(
            claim.record,
            status=Status.REJECTED if produced.rejected else Status.DONE,
            owner=None,
            lease_expires=None,
            finished=now or utcnow(),
            inputs=produced.inputs or claim.record.inputs,
            fingerprint=produced.fingerprint or claim.record.fingerprint,
            outputs=produced.outputs,
            metrics=dict(produced.metrics),
            held=produced.held,
            error=error,
        )
        return self._write(phase, claim, record).record

    def fail(self, phase: str, claim: Claim, error: LakeError, now: datetime | None = None) -> Record:
        """Record a failed attempt; the last verified result stays named. Raises ``LostClaim``."""
        record = msgspec.structs.replace(
            claim.record,
            status=Status.FAILED,
            owner=None,
            lease_expires=None,
            finished=now or utcnow(),
            error=ErrorInfo(str(error.error_class), type(error).__name__, str(error)),
        )
        return self._write(phase, claim, record).record

    def retire(self, phase: str, partition: str, uris: Container[str]) -> Record | None:
        """Note that outputs of a finished partition were removed on purpose: nobody looks for them any more.

        Leaves a record alone that is not done. Returns what stands afterwards. Raises ``LostClaim`` when somebody
        takes the partition up at the same time.
        """
        before, etag = self._read(phase, partition)
        if before is None or before.status is not Status.DONE:
            return before
        outputs = tuple(replace(o, uri=RETIRED + o.uri) if o.uri in uris else o for o in before.outputs)
        return self._write(phase, Claim(before, etag), msgspec.structs.replace(before, outputs=outputs)).record

    def mark_lost(
        self, phase: str, partition: str, reason: str, now: datetime | None = None, *, flow_run_id: str | None = None
    ) -> Record | None:
        """Record that whoever worked on a partition is gone: for a future that ended in no final state.

        Leaves a record alone that is not running, or that is at work for another flow run than
        ``flow_run_id`` (when given). Returns what stands afterwards.
        """
        before, etag = self._read(phase, partition)
        if before is None or before.status is not Status.RUNNING:
            return before
        if flow_run_id is not None and before.lineage.flow_run_id != flow_run_id:
            return before
        record = msgspec.structs.replace(
            before,
            status=Status.LOST,
            lease_expires=None,
            finished=now or utcnow(),
            error=ErrorInfo("transient", "Lost", reason),
        )
        try:
            return self._write(phase, Claim(before, etag), record).record
        except LostClaim:
            return self.read(phase, partition)

    def _write(self, phase: str, claim: Claim, record: Record) -> Claim:
        key = self.key(phase, record.partition)
        try:
            return Claim(record, self.objects.replace(key, msgspec.json.encode(record), claim.etag))
        except (ConflictError, NotFound):
            raise LostClaim(f"{record.partition} was taken over by somebody else", partition=record.partition) from None


def seen(record: Record | None) -> int:
    """How many attempts were over when the record was read: one that still ran may have ended well since."""
    if record is None:
        return 0
    return record.attempt - 1 if record.status is Status.RUNNING else record.attempt


def _done_since(record: Record, partition: Partition) -> bool:
    """Whether a partition got its result after it was planned: by attempts, because clocks differ."""
    return (
        partition.seen is not None
        and record.attempt > partition.seen
        and record.status in (Status.DONE, Status.REJECTED)
        and record.is_of(partition)
    )


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def _history(before: Record | None) -> tuple[Attempt, ...]:
    if before is None:
        return ()
    # A record still "running" here is one whose lease is over: that attempt was lost.
    status = Status.LOST if before.status is Status.RUNNING else before.status
    return (*before.history, before.as_attempt(status))[-HISTORY:]


def _decode(data: bytes, key: str) -> Record:
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.DecodeError as error:
        raise CorruptInput(f"ledger record {key} cannot be read ({error})") from None


@cache
def code_version() -> str:
    """Version of weatherlake as installed, or of the checkout it runs from."""
    try:
        return version("weatherlake")
    except PackageNotFoundError:
        return "0+checkout"


def lineage(flow_run_id: str | None = None) -> Lineage:
    """Who is at work here, for records."""
    return Lineage(code_version(), os.environ.get("WEATHERLAKE_IMAGE"), flow_run_id, platform.node())


def by_status(records: Iterable[Record]) -> dict[str, int]:
    """How many records there are of each status."""
    counts: dict[str, int] = {}
    for record in records:
        counts[str(record.status)] = counts.get(str(record.status), 0) + 1
    return counts
