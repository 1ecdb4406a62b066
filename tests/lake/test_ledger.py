"""The ledger: every state, every transition, and what holds whatever several owners do in whatever order."""

import multiprocessing
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tasks.lake import ledger as ledger_module
from tasks.lake.errors import CorruptInput, NotThereYet, QuotaError, ResourceError, UsageError
from tasks.lake.ledger import (
    HISTORY,
    LEASE,
    SELECTED,
    Busy,
    Claim,
    Ledger,
    LostClaim,
    Record,
    Select,
    State,
    by_status,
    lineage,
    owner,
    state,
)
from tasks.lake.objects import Objects
from tasks.lake.partition import Input, Output, Partition, Produced, Status

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARTITION = Partition("2026-11-20T00/step-006", "print-1", (Input("https://h/a", "etag"),))
MADE = Produced((Output("exports/a", "sha256:1", 7),), metrics={"fields": 3, "ratio": 0.5, "grid": "o96"})
MINE = lineage("flow-1")


@pytest.fixture
def ledger(store_url: str) -> Ledger:
    return Ledger(Objects(store_url), "demo")


@pytest.fixture
def local(tmp_path) -> Ledger:
    return Ledger(Objects(str(tmp_path)), "demo")


# -- one partition through its life --------------------------------------------------------------------


def test_from_never_to_done(ledger: Ledger) -> None:
    assert ledger.read("ingest", PARTITION.key) is None
    assert state(None, PARTITION, NOW) is State.NEVER
    claim = ledger.claim("ingest", PARTITION, MINE, NOW)
    running = ledger.read("ingest", PARTITION.key)
    assert running == claim.record
    assert (running.status, running.attempt, running.owner) == (Status.RUNNING, 1, owner())
    assert running.lease_expires == NOW + LEASE
    assert state(running, PARTITION, NOW) is State.BUSY

    later = NOW + timedelta(seconds=60)
    claim = ledger.renew("ingest", claim, later)
    assert ledger.read("ingest", PARTITION.key).lease_expires == later + LEASE

    done = ledger.finish("ingest", claim, MADE, later)
    assert done == ledger.read("ingest", PARTITION.key)
    assert (done.status, done.owner, done.lease_expires) == (Status.DONE, None, None)
    assert (done.started, done.finished) == (NOW, later)
    assert (done.inputs, done.outputs, done.metrics) == (PARTITION.inputs, MADE.outputs, dict(MADE.metrics))
    assert done.lineage.flow_run_id == "flow-1"
    assert state(done, PARTITION, NOW) is State.DONE
    assert ledger.objects.head("ledger/demo/ingest/2026-11-20T00/step-006.json") is not None


def test_work_may_find_out_more_than_was_planned(local: Ledger) -> None:
    claim = local.claim("ingest", PARTITION, MINE)
    found = replace(MADE, inputs=(Input("https://h/a", "newer"),), fingerprint="print-found")
    done = local.finish("ingest", claim, found)
    assert done.inputs == found.inputs
    assert (done.fingerprint, done.planned) == ("print-found", PARTITION.fingerprint)
    # The same work for whoever planned it meanwhile, and for whoever plans it with what is known now.
    assert state(done, PARTITION, NOW) is State.DONE
    assert state(done, replace(PARTITION, fingerprint="print-found"), NOW) is State.DONE
    assert state(done, replace(PARTITION, fingerprint="another"), NOW) is State.STALE


def test_a_claimed_partition_is_busy_for_everybody_else(ledger: Ledger) -> None:
    ledger.claim("ingest", PARTITION, MINE, NOW)
    with pytest.raises(Busy, match=PARTITION.key):
        ledger.claim("ingest", PARTITION, MINE, NOW + LEASE / 2)
    # Another phase, recipe or partition is another record.
    ledger.claim("refine", PARTITION, MINE, NOW)
    Ledger(ledger.objects, "other").claim("ingest", PARTITION, MINE, NOW)
    ledger.claim("ingest", replace(PARTITION, key="2026-11-20T00/step-009"), MINE, NOW)


def test_a_lease_that_ran_out_is_lost_and_taken_over(ledger: Ledger) -> None:
    first = ledger.claim("ingest", PARTITION, MINE, NOW)
    after = NOW + LEASE
    assert state(first.record, PARTITION, after - timedelta(seconds=1)) is State.BUSY
    assert state(first.record, PARTITION, after) is State.LOST
    second = ledger.claim("ingest", PARTITION, MINE, after)
    assert second.record.attempt == 2
    assert [(a.attempt, a.status, a.owner) for a in second.record.history] == [(1, Status.LOST, owner())]
    for late in (
        lambda: ledger.renew("ingest", first, after),
        lambda: ledger.finish("ingest", first, MADE, after),
        lambda: ledger.fail("ingest", first, UsageError("no"), after),
    ):
        with pytest.raises(LostClaim, match="taken over"):
            late()
    assert ledger.finish("ingest", second, MADE, after).status is Status.DONE


def test_a_slow_owner_whom_nobody_replaced_may_still_finish(local: Ledger) -> None:
    claim = local.claim("ingest", PARTITION, MINE, NOW)
    assert local.finish("ingest", claim, MADE, NOW + 2 * LEASE).status is Status.DONE


@pytest.mark.parametrize(
    ("error", "error_class", "found"),
    [
        (NotThereYet("not yet"), "transient", State.RETRY),
        (QuotaError("slow down", retry_after=3), "quota", State.RETRY),
        (UsageError("wrong"), "permanent", State.FAILED),
        (ResourceError("out of memory"), "resource", State.RETRY),
    ],
)
def test_failures(local: Ledger, error, error_class: str, found: State) -> None:
    failed = local.fail("ingest", local.claim("ingest", PARTITION, MINE, NOW), error, NOW)
    assert failed == local.read("ingest", PARTITION.key)
    assert (failed.status, failed.owner, failed.finished) == (Status.FAILED, None, NOW)
    assert (failed.error.error_class, failed.error.reason, failed.error.message) == (
        error_class, type(error).__name__, str(error),
    )  # fmt: skip
    assert state(failed, PARTITION, NOW) is found
    assert state(failed, replace(PARTITION, fingerprint="other"), NOW) is State.RETRY


def test_the_old_result_stands_until_a_new_one_is_verified(local: Ledger) -> None:
    local.finish("ingest", local.claim("ingest", PARTITION, MINE), MADE)
    claim = local.claim("ingest", PARTITION, MINE)
    assert claim.record.outputs == MADE.outputs
    failed = local.fail("ingest", claim, UsageError("no"))
    assert failed.outputs == MADE.outputs
    claim = local.claim("ingest", PARTITION, MINE)
    anew = replace(MADE, outputs=(Output("exports/b", "sha256:2"),))
    done = local.finish("ingest", claim, anew)
    assert (done.outputs, done.error, done.attempt) == (anew.outputs, None, 3)
    assert [a.status for a in done.history] == [Status.DONE, Status.FAILED]
    assert done.history[1].error.message == "no"


def test_rejected(local: Ledger) -> None:
    claim = local.claim("validate", PARTITION, MINE)
    record = local.finish("validate", claim, replace(MADE, rejected="a third is missing"))
    assert (record.status, record.error.message) == (Status.REJECTED, "a third is missing")
    assert record.outputs == MADE.outputs
    assert state(record, PARTITION, NOW) is State.REJECTED
    assert state(record, replace(PARTITION, fingerprint="other"), NOW) is State.STALE
    assert state(record, PARTITION, NOW, outputs_there=False) is State.NEVER


def test_done_is_skipped_only_with_its_fingerprint_and_outputs(local: Ledger) -> None:
    done = local.finish("ingest", local.claim("ingest", PARTITION, MINE), MADE)
    assert state(done, PARTITION, NOW) is State.DONE
    assert state(done, replace(PARTITION, fingerprint="print-2"), NOW) is State.STALE
    assert state(done, PARTITION, NOW, outputs_there=False) is State.NEVER


def test_what_was_done_since_it_was_planned_is_not_done_again(ledger: Ledger) -> None:
    planned = replace(PARTITION, seen=0)
    failed = ledger.fail("ingest", ledger.claim("ingest", planned, MINE), UsageError("no"))
    done = ledger.finish("ingest", ledger.claim("ingest", planned, MINE), MADE)
    assert (failed.attempt, done.attempt) == (1, 2)
    for late in (planned, replace(PARTITION, seen=1)):
        with pytest.raises(Busy, match="was done by somebody else meanwhile"):
            ledger.claim("ingest", late, MINE)
    assert ledger.read("ingest", PARTITION.key) == done
    # Planned in sight of that result (to force it, or because its output is gone), or otherwise: taken.
    for again in (replace(PARTITION, seen=2), replace(planned, fingerprint="other")):
        ledger.finish("ingest", ledger.claim("ingest", again, MINE), MADE)


def test_mark_lost(ledger: Ledger) -> None:
    assert ledger.mark_lost("ingest", PARTITION.key, "gone") is None
    claim = ledger.claim("ingest", PARTITION, MINE, NOW)
    assert ledger.mark_lost("ingest", PARTITION.key, "not mine", flow_run_id="flow-2") == claim.record
    lost = ledger.mark_lost("ingest", PARTITION.key, "its worker was killed", NOW)
    assert (lost.status, lost.error.message, lost.owner) == (Status.LOST, "its worker was killed", owner())
    assert state(lost, PARTITION, NOW) is State.LOST
    with pytest.raises(LostClaim):
        ledger.finish("ingest", claim, MADE)
    again = ledger.claim("ingest", PARTITION, MINE, NOW)
    assert again.record.attempt == 2
    assert again.record.history[0].error.message == "its worker was killed"
    done = ledger.finish("ingest", again, MADE)
    assert ledger.mark_lost("ingest", PARTITION.key, "too late") == done


def test_history_is_bounded(local: Ledger) -> None:
    for number in range(1, HISTORY + 6):
        record = local.fail("ingest", local.claim("ingest", PARTITION, MINE), UsageError(f"no {number}"))
    assert record.attempt == HISTORY + 5
    assert len(record.history) == HISTORY
    assert [a.attempt for a in record.history] == list(range(5, HISTORY + 5))


def test_read_all(ledger: Ledger) -> None:
    keys = ["2026-11-20T00/a", "2026-11-20T00/b/c", "2026-11-20T12/a"]
    for key in keys[::-1]:
        ledger.claim("ingest", replace(PARTITION, key=key), MINE)
    ledger.claim("refine", PARTITION, MINE)
    ledger.finish("ingest", _steal(ledger, keys[0]), MADE)
    assert list(ledger.read_all("ingest")) == keys
    assert list(ledger.read_all("ingest", "2026-11-20T00")) == keys[:2]
    assert ledger.read_all("export") == {}
    assert by_status(ledger.read_all("ingest").values()) == {"done": 1, "running": 2}


def _steal(ledger: Ledger, key: str) -> Claim:
    return ledger.claim("ingest", replace(PARTITION, key=key), MINE, datetime.now(UTC) + 2 * LEASE)


@pytest.mark.parametrize("data", [b"", b"{", b'{"partition": "a"}', b"[]"])
def test_a_record_that_cannot_be_read_is_said_so(local: Ledger, data: bytes) -> None:
    local.objects.put(local.key("ingest", PARTITION.key), data)
    for read in (
        lambda: local.read("ingest", PARTITION.key),
        lambda: local.read_all("ingest"),
        lambda: local.claim("ingest", PARTITION, MINE),
    ):
        with pytest.raises(CorruptInput, match=r"ledger record .*step-006\.json cannot be read"):
            read()


def test_what_each_selection_takes() -> None:
    assert all(State.DONE not in taken for taken in SELECTED.values())
    assert SELECTED[Select.MISSING] == set(State) - {State.DONE, State.FAILED, State.REJECTED}
    assert SELECTED[Select.FAILED] == {State.FAILED, State.RETRY, State.LOST}
    assert SELECTED[Select.STALE] == {State.STALE}
    assert SELECTED[Select.ALL] == set(State) - {State.DONE, State.REJECTED}


# -- owners --------------------------------------------------------------------------------------------

_CLAIM_AND_WAIT = """
import sys
from tasks.lake.ledger import Ledger, lineage
from tasks.lake.objects import Objects
from tasks.lake.partition import Partition
Ledger(Objects(sys.argv[1]), "demo").claim("ingest", Partition(sys.argv[2], "print-1"), lineage())
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_process(local: Ledger) -> Iterator[subprocess.Popen[str]]:
    """A living process that holds the claim of `PARTITION`."""
    arguments = [sys.executable, "-c", _CLAIM_AND_WAIT, local.objects.url, PARTITION.key]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def test_a_killed_owner_is_lost_at_once_a_living_one_is_busy(local: Ledger, other_process: subprocess.Popen) -> None:
    now = datetime.now(UTC)
    assert state(local.read("ingest", PARTITION.key), PARTITION, now) is State.BUSY
    with pytest.raises(Busy):
        local.claim("ingest", PARTITION, MINE, now)
    other_process.send_signal(signal.SIGKILL)
    # Dead but not waited for: a zombie does no work either.
    assert _soon(lambda: state(local.read("ingest", PARTITION.key), PARTITION, now) is State.LOST)
    assert local.claim("ingest", PARTITION, MINE, now).record.attempt == 2


def _soon(true) -> bool:
    import time

    end = time.monotonic() + 10
    while not (seen := true()) and time.monotonic() < end:
        time.sleep(0.01)
    return seen


def test_only_of_this_machine_it_is_known_who_is_dead(local: Ledger) -> None:
    machine, pid, started = owner().rsplit("|", 2)
    record = local.claim("ingest", PARTITION, MINE, NOW).record
    for who, found in [
        (f"{machine}|{pid}|{started}", State.BUSY),
        (f"{machine}|{pid}|{int(started) + 1}", State.LOST),  # the process id was given to another process
        (f"{machine}|4194305|1", State.LOST),  # above the largest process id there can be
        (f"elsewhere|{machine}|4194305|1", State.BUSY),
        (f"{machine}|4194305|", State.BUSY),
        ("somebody", State.BUSY),
    ]:
        assert state(_owned(record, who), PARTITION, NOW) is found, who


def _owned(record: Record, who: str) -> Record:
    import msgspec

    return msgspec.structs.replace(record, owner=who)


def _claim_all(url: str, keys: list[str], start, won) -> None:
    ledger = Ledger(Objects(url), "demo")
    mine = []
    start.wait(60)
    for key in keys:
        try:
            ledger.claim("ingest", Partition(key, "p"), MINE)
        except Busy:
            continue
        mine.append(key)
    won.put(mine)


def test_two_processes_that_race_claim_every_partition_once(local: Ledger) -> None:
    keys = [f"s/{i:03}" for i in range(200)]
    spawn = multiprocessing.get_context("spawn")
    start, won = spawn.Barrier(2), spawn.Queue()
    both = [spawn.Process(target=_claim_all, args=(local.objects.url, keys, start, won)) for _ in range(2)]
    for process in both:
        process.start()
    claimed = [won.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
        process.close()
    won.close()
    won.join_thread()
    assert sorted(claimed[0] + claimed[1]) == keys
    assert {r.attempt for r in local.read_all("ingest").values()} == {1}


# -- several owners, any order -------------------------------------------------------------------------


@dataclass
class Believed:
    """What the model believes of a partition."""

    status: Status | None = None
    attempt: int = 0
    print: str = ""
    holder: int = -1
    lease: datetime = NOW
    dead: bool = False
    outputs: tuple[Output, ...] = ()
    retry: bool = False
    history: list[Status] = field(default_factory=list)


KEYS = st.sampled_from(["s/a", "s/b"])
OWNERS = st.sampled_from(["elsewhere|1|1", "elsewhere|2|2", "elsewhere|3|3"])
PRINTS = st.sampled_from(["print-1", "print-2"])
ERRORS = st.sampled_from([NotThereYet("not yet"), UsageError("wrong"), QuotaError("slow down"), ResourceError("full")])


class Owners(RuleBasedStateMachine):
    """Owners claim, renew, finish, fail, die and are replaced; the ledger must agree with `Believed`."""

    @initialize()
    def empty(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(Objects(self.folder.name), "demo")
        self.now = NOW
        self.believed = {key: Believed() for key in ("s/a", "s/b")}
        self.claims: list[tuple[str, Claim]] = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(seconds=st.integers(0, 200))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(key=KEYS, who=OWNERS, print=PRINTS)
    def claim(self, key: str, who: str, print: str) -> None:
        model = self.believed[key]
        free = model.status is not Status.RUNNING or model.lease <= self.now or model.dead
        with patch.object(ledger_module, "owner", lambda: who):
            try:
                claim = self.ledger.claim("ingest", Partition(key, print), MINE, self.now)
            except Busy:
                assert not free
                return
        assert free
        if model.status is not None:
            model.history.append(Status.LOST if model.status is Status.RUNNING else model.status)
        self.claims.append((key, claim))
        model.status, model.attempt, model.print = Status.RUNNING, model.attempt + 1, print
        model.holder, model.lease, model.dead = len(self.claims) - 1, self.now + LEASE, False

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        number, key, claim = self._any(data)
        try:
            renewed = self.ledger.renew("ingest", claim, self.now)
        except LostClaim:
            assert not self._holds(number, key)
        else:
            assert self._holds(number, key)
            self.claims[number] = (key, renewed)
            self.believed[key].lease = self.now + LEASE

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), digest=st.sampled_from(["1", "2", "3"]), rejected=st.sampled_from([None, "bad"]))
    def finish(self, data: st.DataObject, digest: str, rejected: str | None) -> None:
        number, key, claim = self._any(data)
        outputs = (Output(f"exports/{key}", digest),)
        try:
            self.ledger.finish("ingest", claim, Produced(outputs, rejected=rejected), self.now)
        except LostClaim:
            assert not self._holds(number, key)
        else:
            assert self._holds(number, key)
            self.believed[key].status = Status.REJECTED if rejected else Status.DONE
            self.believed[key].outputs = outputs

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), error=ERRORS)
    def fail(self, data: st.DataObject, error) -> None:
        number, key, claim = self._any(data)
        try:
            self.ledger.fail("ingest", claim, error, self.now)
        except LostClaim:
            assert not self._holds(number, key)
        else:
            assert self._holds(number, key)
            self.believed[key].status = Status.FAILED
            self.believed[key].retry = str(error.error_class) in ("transient", "quota", "resource")

    @rule(key=KEYS)
    def mark_lost(self, key: str) -> None:
        self.ledger.mark_lost("ingest", key, "gone", self.now)
        if self.believed[key].status is Status.RUNNING:
            self.believed[key].status = Status.LOST

    @precondition(lambda self: any(b.status is Status.RUNNING for b in self.believed.values()))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """The owner turns out to have been a process of this machine that is dead."""
        key = data.draw(st.sampled_from([k for k, b in self.believed.items() if b.status is Status.RUNNING]))
        record, etag = self.ledger._read("ingest", key)
        machine = owner().rsplit("|", 2)[0]
        self.ledger._write("ingest", Claim(record, etag), _owned(record, f"{machine}|4194305|1"))
        # Its claim went with it: what it held was the record as it was before.
        self.believed[key].dead, self.believed[key].holder = True, -1

    def _any(self, data: st.DataObject) -> tuple[int, str, Claim]:
        number = data.draw(st.integers(0, len(self.claims) - 1))
        return number, *self.claims[number]

    def _holds(self, number: int, key: str) -> bool:
        return self.believed[key].status is Status.RUNNING and self.believed[key].holder == number

    @invariant()
    def ledger_and_model_agree(self) -> None:
        if not hasattr(self, "believed"):
            return
        records = self.ledger.read_all("ingest")
        assert set(records) == {k for k, b in self.believed.items() if b.status is not None}
        for key, record in records.items():
            model = self.believed[key]
            assert (record.status, record.attempt, record.fingerprint) == (model.status, model.attempt, model.print)
            assert record.outputs == model.outputs
            assert [a.status for a in record.history] == model.history[-HISTORY:]
            assert (record.owner is None) == (record.status not in (Status.RUNNING, Status.LOST))
            for print in ("print-1", "print-2"):
                assert state(record, Partition(key, print), self.now) is self._expected(model, print)

    def _expected(self, model: Believed, print: str) -> State:
        if model.status is Status.RUNNING:
            return State.LOST if model.dead or model.lease <= self.now else State.BUSY
        if model.status is Status.LOST:
            return State.LOST
        if model.status is Status.FAILED:
            return State.RETRY if model.retry or model.print != print else State.FAILED
        if model.print != print:
            return State.STALE
        return State.DONE if model.status is Status.DONE else State.REJECTED


TestOwners = Owners.TestCase
TestOwners.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
