"""The runner from plan to report, with a kind of data that fails to order: nothing lost, nothing twice."""

import pickle
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import leases, runner, work
from tasks.executor import Terms, Threads
from tasks.lake import ledger as ledger_module
from tasks.lake.errors import AccessError, ErrorClass, ExitCode, UsageError
from tasks.lake.lake import Lake
from tasks.lake.ledger import Busy, Select, State, lineage
from tasks.lake.partition import Outcome, Partition, Status
from tasks.lake.phase import Window
from tasks.lake.prices import prices
from tasks.plan import Options, batches, plan_phase, worthwhile
from tasks.report import Progress, Report
from tasks.work import Job

from . import toy_kind
from .lake import toy_cube
from .toy_kind import Fault, Recipe, calls

KEYS = [f"one/{i:02}" for i in range(4)]


class Listener(Progress):
    """Keeps what the runner says."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.outcomes: list[Outcome] = []
        self.total = -1
        self.over = False

    def started(self, phase: str, total: int, total_bytes: int) -> None:
        self.total = total

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def said(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def ended(self) -> None:
        self.over = True


@dataclass
class Bench:
    """A lake, a recipe of the toy kind, and the waits that the runner asked for."""

    lake: Lake
    recipe: Recipe
    waits: list[float] = field(default_factory=list)
    listener: Listener = field(default_factory=Listener)

    def edit(self, **changes: Any) -> None:
        self.recipe = self.recipe.model_copy(update=changes)

    def fault(self, key: str, how: str, times: int = 1_000_000, retry_after: float | None = None) -> None:
        self.edit(faults={**self.recipe.faults, key: Fault(how=how, times=times, retry_after=retry_after)})

    def run(self, phase: str = "ingest", executor: Any = None, **options: Any) -> Report:
        mine = Threads(2) if executor is None else executor
        self.listener = Listener()
        try:
            return runner.run_phase(
                Lake(self.lake.url), self.recipe, phase, Window(), Options(**options), mine, self.listener
            )
        finally:
            mine.close()
            assert self.listener.over or self.listener.total < 0

    def record(self, key: str, phase: str = "ingest") -> Any:
        return self.lake.ledger("toy").read(phase, key)

    def states(self, phase: str = "ingest", **options: Any) -> dict[str, State]:
        plan = plan_phase(Lake(self.lake.url), self.recipe, phase, Window(), Options(**options))
        return {row.partition.key: row.state for row in plan.rows}

    def calls(self) -> list[str]:
        """What was worked on since this was asked last."""
        seen = calls(self.recipe)
        Path(self.recipe.scratch, "calls").unlink(missing_ok=True)
        return sorted(seen)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    toy_kind.register(monkeypatch)
    (tmp_path / "scratch").mkdir()
    bench = Bench(Lake(str(tmp_path / "lake")), Recipe(name="toy", scratch=str(tmp_path / "scratch")))

    def sleep(seconds: float) -> None:
        bench.waits.append(seconds)
        time.sleep(min(seconds, 0.02))

    quick = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr(runner, "time", quick)
    monkeypatch.setattr(work, "time", SimpleNamespace(sleep=lambda s: None, monotonic=time.monotonic))
    return bench


def counted(report: Report) -> dict[str, int]:
    return {k: v for k, v in report.partitions.items() if v}


# -- all goes well -------------------------------------------------------------------------------------


def test_a_run_and_the_same_again(bench: Bench) -> None:
    report = bench.run()
    assert (report.status, report.exit_code, report.problems) == ("done", ExitCode.DONE, ())
    assert counted(report) == {"planned": 4, "done": 4}
    assert sorted(report.outputs) == ["out/one.list"]
    assert bench.listener.total == 4
    assert sorted(o.key for o in bench.listener.outcomes) == KEYS
    assert bench.calls() == [*KEYS, "one/settle"]
    assert bench.lake.objects.get("out/one.list").decode().splitlines() == [f"{k} done" for k in KEYS]

    again = bench.run()
    assert (again.status, again.exit_code) == ("nothing to do", ExitCode.DONE)
    assert counted(again) == {"planned": 4, "skipped": 4}
    assert again.outputs == report.outputs
    assert bench.calls() == []
    assert again.as_json()["partitions"] == {
        "planned": 4, "skipped": 4, "done": 0, "failed": 0, "lost": 0, "rejected": 0,
    }  # fmt: skip


def test_on_s3(bench: Bench, s3) -> None:
    bench.lake = Lake(s3.lake())
    bench.fault(KEYS[2], "permanent", times=1)
    assert counted(bench.run()) == {"planned": 4, "done": 3, "failed": 1}
    assert counted(bench.run(select=Select.FAILED)) == {"planned": 4, "skipped": 3, "done": 1}
    assert bench.calls() == sorted([*KEYS, KEYS[2], "one/settle"])


def test_a_phase_without_settling(bench: Bench) -> None:
    report = bench.run("export")
    assert (report.status, report.exit_code) == ("done", ExitCode.DONE)
    assert sorted(report.outputs) == [f"out/{k}" for k in KEYS]
    assert bench.calls() == KEYS


def test_planning_writes_nothing(bench: Bench) -> None:
    plan = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options())
    assert [p.key for p in plan.selected] == KEYS
    assert {row.state for row in plan.rows} == {State.NEVER}
    assert not Path(bench.lake.objects.location.prefix).exists()
    bench.fault(KEYS[1], "permanent")
    bench.run()
    before = bench.lake.objects.listing()
    bench.calls()
    for select in Select:
        plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options(select))
    assert bench.lake.objects.listing() == before
    assert bench.calls() == []


# -- failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "rounds"), [(2, 1), (3, 2), (8, 3)])
def test_a_transient_fault_is_tried_again(bench: Bench, times: int, rounds: int) -> None:
    bench.fault(KEYS[1], "transient", times)
    report = bench.run()
    assert (report.exit_code, counted(report)) == (ExitCode.DONE, {"planned": 4, "done": 4})
    assert len(bench.waits) == rounds - 1
    assert bench.calls().count(KEYS[1]) == times + 1
    record = bench.record(KEYS[1])
    assert (record.attempt, [a.status for a in record.history]) == (rounds, [Status.FAILED] * (rounds - 1))


def test_a_transient_fault_that_stays(bench: Bench) -> None:
    bench.fault(KEYS[1], "transient")
    report = bench.run()
    assert (report.status, report.exit_code) == ("incomplete", ExitCode.TRANSIENT)
    assert counted(report) == {"planned": 4, "done": 3, "failed": 1}
    assert report.problems == ("one/01 is not there yet",)
    assert bench.calls().count("one/01") == 9
    assert bench.states()["one/01"] is State.RETRY
    bench.edit(faults={})
    assert counted(bench.run()) == {"planned": 4, "skipped": 3, "done": 1}
    assert bench.calls() == ["one/01", "one/settle"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("permanent", "one/02 is broken: expected GRIB, found HTML"),
        ("resource", "one/02: no space left"),
        ("bug", "one/02: ZeroDivisionError: nobody thought of one/02"),
        ("lies", "output out/one/02 is not in the lake after it was written"),
    ],
)
def test_a_fault_that_no_retry_helps(bench: Bench, how: str, said: str) -> None:
    bench.fault(KEYS[2], how)
    report = bench.run()
    assert (report.status, report.exit_code, report.problems) == ("failed", ExitCode.FAILED, (said,))
    assert counted(report) == {"planned": 4, "done": 3, "failed": 1}
    assert bench.calls() == KEYS, "tried once, and nothing settled"
    assert bench.waits == []
    assert bench.record(KEYS[2]).status is Status.FAILED

    later = bench.run()
    assert (later.exit_code, counted(later)) == (ExitCode.FAILED, {"planned": 4, "skipped": 3, "failed": 1})
    if how == "resource":
        # Somebody may have made room meanwhile: the same command tries again.
        assert bench.calls() == ["one/02"]
    else:
        # The default selection leaves it alone, and says so.
        assert later.problems == ("one/02 failed earlier; --select failed tries it again",)
        assert bench.calls() == []

    bench.edit(faults={})
    mended = bench.run(select=Select.FAILED)
    assert (mended.exit_code, counted(mended)) == (ExitCode.DONE, {"planned": 4, "skipped": 3, "done": 1})
    assert bench.calls() == ["one/02", "one/settle"]


def test_permanent_outweighs_transient(bench: Bench) -> None:
    bench.fault(KEYS[0], "transient")
    bench.fault(KEYS[1], "permanent")
    report = bench.run()
    assert (report.exit_code, counted(report)) == (ExitCode.FAILED, {"planned": 4, "done": 2, "failed": 2})
    assert len(report.problems) == 2


@pytest.mark.parametrize(("retry_after", "wait"), [(7.0, 7.0), (None, 60.0)])
def test_a_quota_waits_as_long_as_the_provider_says(bench: Bench, retry_after: float | None, wait: float) -> None:
    bench.fault(KEYS[1], "quota", times=1, retry_after=retry_after)
    report = bench.run()
    assert (report.exit_code, counted(report)) == (ExitCode.DONE, {"planned": 4, "done": 4})
    assert bench.waits == [wait]
    assert bench.listener.sentences == [f"1 partition(s) are tried again in {wait:.0f} s"]
    assert bench.calls().count(KEYS[1]) == 2, "no short retries against a quota"


def test_a_quota_that_stays(bench: Bench) -> None:
    bench.fault(KEYS[1], "quota", retry_after=1.0)
    report = bench.run()
    assert (report.status, report.exit_code) == ("incomplete", ExitCode.TRANSIENT)
    assert bench.calls().count(KEYS[1]) == 3


def test_rejected(bench: Bench) -> None:
    bench.fault(KEYS[3], "rejects")
    report = bench.run()
    assert counted(report) == {"planned": 4, "done": 3, "rejected": 1}
    assert report.exit_code is ExitCode.DONE
    assert bench.lake.objects.get("out/one.list").decode().splitlines()[3] == "one/03 rejected"
    bench.calls()
    assert counted(bench.run()) == {"planned": 4, "skipped": 3, "rejected": 1}
    assert bench.calls() == []


def test_held(bench: Bench) -> None:
    bench.fault("one/settle", "holds")
    for status in ("held", "held"):
        report = bench.run()
        assert (report.status, report.exit_code) == (status, ExitCode.HELD)
        assert report.problems == ("one is held back",)
    assert bench.calls() == [*KEYS, "one/settle"]


def test_a_settling_that_fails(bench: Bench) -> None:
    bench.fault("one/settle", "permanent", times=1)
    report = bench.run()
    assert (report.status, report.exit_code) == ("failed", ExitCode.FAILED)
    assert report.problems == ("one/settle is broken: expected GRIB, found HTML",)
    assert counted(report) == {"planned": 4, "done": 4}
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.calls() == [*KEYS, "one/settle", "one/settle"]


def test_a_lake_that_cannot_be_written(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bench.lake = Lake(str(tmp_path / "file" / "lake"))
    with pytest.raises(AccessError, match=r"/file/lake cannot be made: .* is or lies below a file") as caught:
        bench.run()
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there(bench: Bench, s3) -> None:
    bench.lake = Lake(f"s3://nobody-made-this/lake?endpoint={s3.endpoint}&region=us-east-1")
    with pytest.raises(AccessError, match="no such bucket"):
        bench.run()


def test_a_phase_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(UsageError, match="toy data has no phase 'regrid'; there are: ingest, refine, export"):
        bench.run("regrid")


# -- selection -----------------------------------------------------------------------------------------


def test_each_selection(bench: Bench) -> None:
    bench.fault(KEYS[1], "permanent", times=1)
    bench.fault(KEYS[2], "transient", times=9)
    bench.run()
    bench.lake.objects.delete("out/one/03")
    assert bench.states() == {
        KEYS[0]: State.DONE, KEYS[1]: State.FAILED, KEYS[2]: State.RETRY, KEYS[3]: State.NEVER,
    }  # fmt: skip
    wanted = {
        Select.MISSING: [KEYS[2], KEYS[3]],
        Select.FAILED: [KEYS[1], KEYS[2]],
        Select.STALE: [],
        Select.ALL: KEYS[1:],
    }
    for select, keys in wanted.items():
        plan = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options(select))
        assert [p.key for p in plan.selected] == keys, select
    bench.calls()
    bench.edit(faults={})
    assert counted(bench.run(select=Select.ALL)) == {"planned": 4, "skipped": 1, "done": 3}
    assert bench.calls() == [*KEYS[1:], "one/settle"]


def test_force_does_everything_again(bench: Bench) -> None:
    bench.run()
    bench.calls()
    assert counted(bench.run(force=True)) == {"planned": 4, "done": 4}
    assert bench.calls() == [*KEYS, "one/settle"]
    assert bench.record(KEYS[0]).attempt == 2


def test_an_edited_recipe_makes_stale(bench: Bench) -> None:
    bench.run()
    bench.calls()
    bench.edit(title="of no consequence")
    assert bench.run().status == "nothing to do"
    bench.edit(value=2)
    assert set(bench.states().values()) == {State.STALE}
    assert counted(bench.run(select=Select.FAILED)) == {"planned": 4, "skipped": 4}
    assert bench.calls() == []
    assert counted(bench.run(select=Select.STALE)) == {"planned": 4, "done": 4}
    assert bench.calls() == [*KEYS, "one/settle"]
    assert bench.lake.objects.get("out/one/00") == b"one/00=2"


def test_the_old_result_is_on_record_while_the_new_one_fails(bench: Bench) -> None:
    bench.run()
    outputs = bench.record(KEYS[1]).outputs
    bench.edit(value=2)
    bench.fault(KEYS[1], "permanent")
    assert bench.run().exit_code is ExitCode.FAILED
    assert bench.record(KEYS[1]).status is Status.FAILED
    assert bench.record(KEYS[1]).outputs == outputs


def test_a_deleted_output_is_all_that_is_made_again(bench: Bench) -> None:
    bench.run()
    bench.calls()
    bench.lake.objects.delete("out/one/02")
    assert counted(bench.run()) == {"planned": 4, "skipped": 3, "done": 1}
    # It came out the same, so what is made from it stands.
    assert bench.calls() == ["one/02"]
    bench.lake.objects.delete("out/one.list")
    report = bench.run()
    assert (report.status, counted(report)) == ("done", {"planned": 4, "skipped": 4})
    assert bench.calls() == ["one/settle"]


def test_scopes_are_settled_apart(bench: Bench) -> None:
    bench.edit(scopes=("one", "two"))
    bench.fault("two/01", "permanent")
    report = bench.run()
    assert counted(report) == {"planned": 8, "done": 7, "failed": 1}
    assert [k for k in bench.calls() if "settle" in k] == ["one/settle"]


def test_scopes_that_are_published_into_one_cube(bench: Bench) -> None:
    bench.edit(scopes=("0", "2"), partitions=1)
    for value, wanted in ((1, "done"), (1, "nothing to do"), (2, "done")):
        bench.edit(value=value)
        report = bench.run("refine")
        assert (report.status, report.problems, report.outputs) == (wanted, (), (toy_kind.PATH,))
    assert [k for k in bench.calls() if "settle" in k] == ["0/settle"] * 2 + ["2/settle"] * 2
    group = bench.lake.cube(toy_kind.PATH).group()
    for index in (0, 2):
        np.testing.assert_array_equal(group["t2m"][index], toy_cube.field(2.0))


# -- others, and what is lost --------------------------------------------------------------------------


def test_two_flows_at_once_do_nothing_twice(bench: Bench) -> None:
    bench.edit(partitions=12, sleep=0.03)
    reports: list[Report] = []

    def flow() -> None:
        executor = Threads(2)
        options = Options(flow_run_id=threading.current_thread().name)
        reports.append(runner.run_phase(Lake(bench.lake.url), bench.recipe, "ingest", Window(), options, executor))
        executor.close()

    flows = [threading.Thread(target=flow, name=f"flow-{i}") for i in range(2)]
    for thread in flows:
        thread.start()
    for thread in flows:
        thread.join(30)
    assert [r.exit_code for r in reports] == [ExitCode.DONE] * 2
    assert bench.calls() == [*(f"one/{i:02}" for i in range(12)), "one/settle"]
    assert sum(r.partitions["done"] for r in reports) == 12
    assert sum(r.partitions["skipped"] for r in reports) == 12


def test_what_another_flow_did_since_the_plan_is_not_done_again(bench: Bench) -> None:
    class Overtaken(Threads):
        def submit(self, job: Job) -> Any:
            if not self.overtaken:
                self.overtaken = True
                assert counted(bench.run()) == {"planned": 4, "done": 4}
            return super().submit(job)

        overtaken = False

    executor = Overtaken(2)
    report = runner.run_phase(Lake(bench.lake.url), bench.recipe, "ingest", Window(), Options(), executor)
    executor.close()
    assert (report.status, report.exit_code) == ("nothing to do", ExitCode.DONE)
    assert counted(report) == {"planned": 4, "skipped": 4}
    assert bench.calls() == [*KEYS, "one/settle"]


def test_what_another_flow_loses_is_taken_over(bench: Bench) -> None:
    ledger = bench.lake.ledger("toy")
    bench.lake.prepare()
    partition = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options()).selected[1]
    with patch.object(ledger_module, "owner", lambda: "elsewhere|1|1"):
        claim = ledger.claim("ingest", partition, lineage("other"))
    assert bench.states()[KEYS[1]] is State.BUSY

    def lose() -> None:
        time.sleep(0.3)
        ledger.mark_lost("ingest", claim.record.partition, "the other flow found it lost")

    other = threading.Thread(target=lose)
    other.start()
    report = bench.run()
    other.join()
    assert (report.exit_code, counted(report)) == (ExitCode.DONE, {"planned": 4, "done": 4})
    assert "waiting for 1 partition(s) that another flow works on" in bench.listener.sentences
    assert bench.record(KEYS[1]).attempt == 2


def test_a_dead_flow_leaves_nothing_that_blocks(bench: Bench) -> None:
    bench.lake.prepare()
    partition = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options()).selected[1]
    machine = ledger_module.owner().rsplit("|", 2)[0]
    with patch.object(ledger_module, "owner", lambda: f"{machine}|4194305|1"):
        bench.lake.ledger("toy").claim("ingest", partition, lineage("dead"))
    assert bench.states()[KEYS[1]] is State.LOST
    assert counted(bench.run()) == {"planned": 4, "done": 4}
    assert bench.waits == []
    assert [a.status for a in bench.record(KEYS[1]).history] == [Status.LOST]


class Killing(Threads):
    """A batch with ``poison`` ends its worker: what came before it is done, it is claimed, no result comes."""

    def __init__(self, lake: Lake, poison: str, times: int) -> None:
        super().__init__(2)
        self._lake = lake
        self._poison = poison
        self._left = times
        self.batches: list[tuple[str, ...]] = []

    def submit(self, job: Job) -> Any:
        keys = tuple(p.key for p in job.partitions)
        self.batches.append(keys)
        job = pickle.loads(pickle.dumps(job))
        if self._poison not in keys or not self._left:
            return super().submit(job)
        self._left -= 1
        return self._pool.submit(self._die, job, keys.index(self._poison))

    def _die(self, job: Job, at: int) -> tuple[Outcome, ...]:
        if at:
            work.work(Job(job.lake, job.recipe, job.phase, job.partitions[:at], job.flow_run_id))
        self._lake.ledger("toy").claim(job.phase, job.partitions[at], lineage(job.flow_run_id))
        raise RuntimeError("killed by signal 9\nwith a long trace")


def test_a_lost_batch_is_tried_again_one_by_one(bench: Bench) -> None:
    bench.edit(partitions=16)
    executor = Killing(bench.lake, "one/02", times=1)
    report = bench.run(executor=executor)
    assert (report.exit_code, counted(report)) == (ExitCode.DONE, {"planned": 16, "done": 16})
    first = next(b for b in executor.batches if "one/02" in b)
    assert len(first) == 4
    # What was done before the worker died stands; the rest of its batch goes one by one.
    assert executor.batches[4:] == [("one/02",), ("one/03",)]
    assert bench.calls() == sorted([*(f"one/{i:02}" for i in range(16)), "one/settle"])
    record = bench.record("one/02")
    assert (record.attempt, record.history[0].status) == (2, Status.LOST)
    assert record.history[0].error.message == "its worker was lost (RuntimeError: killed by signal 9)"


def test_a_great_many_lost_partitions_go_on_in_small_batches_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed takes its whole batch along: a thousand task runs would be no answer to that."""
    monkeypatch.setattr(runner, "_FEW", 4)
    monkeypatch.setattr(toy_kind.Objects, "batch_count", 16)
    bench.edit(partitions=64)
    executor = Killing(bench.lake, "one/03", times=2)
    report = bench.run(executor=executor)
    assert (report.exit_code, counted(report)) == (ExitCode.DONE, {"planned": 64, "done": 64})
    sizes = [len(b) for b in executor.batches]
    # 13 of 16 were lost; then two at a time; the two of the batch that was lost again, one by one.
    assert sizes == [16] * 4 + [2] * 6 + [1] + [1, 1]
    assert sorted(k for b in executor.batches[-2:] for k in b) == ["one/03", "one/04"]
    assert bench.calls() == sorted([*(f"one/{i:02}" for i in range(64)), "one/settle"])


def test_passing_faults_of_many_partitions_make_no_batch_each(bench: Bench) -> None:
    bench.edit(partitions=32)
    for i in range(20):
        bench.fault(f"one/{i:02}", "transient", times=3)
    executor = Killing(bench.lake, "nothing", times=0)
    assert counted(bench.run(executor=executor)) == {"planned": 32, "done": 32}
    assert [len(b) for b in executor.batches] == [8] * 4 + [5] * 4


def test_a_kind_may_select_by_what_is_on_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `Phase.picks` says stands above the selection, also for what is done."""
    bench.run()
    bench.calls()
    monkeypatch.setattr(
        toy_kind.Objects, "picks", lambda self, context, record: record is not None and record.partition == KEYS[2]
    )
    for select in Select:
        plan = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options(select))
        assert [p.key for p in plan.selected] == [KEYS[2]]
    assert counted(bench.run()) == {"planned": 4, "skipped": 3, "done": 1}
    assert bench.calls() == [KEYS[2]]


def test_a_partition_that_always_kills_its_worker(bench: Bench) -> None:
    report = bench.run(executor=Killing(bench.lake, KEYS[0], times=99))
    assert (report.status, report.exit_code) == ("failed", ExitCode.FAILED)
    assert counted(report) == {"planned": 4, "done": 3, "failed": 1}
    assert report.problems == (
        "one/00 ended its worker 3 times, the last time alone (its worker was lost (RuntimeError: killed by signal 9))",
    )
    record = bench.record(KEYS[0])
    assert (record.status, record.error.error_class, record.error.reason) == (
        Status.FAILED, ErrorClass.RESOURCE, "ResourceError",
    )  # fmt: skip
    assert [a.status for a in record.history] == [Status.LOST] * 3
    # Another machine may have the memory: the next run takes it up.
    assert bench.states()[KEYS[0]] is State.RETRY
    assert counted(bench.run()) == {"planned": 4, "skipped": 3, "done": 1}


def test_a_lost_batch_leaves_another_flows_claims_alone(bench: Bench) -> None:
    bench.lake.prepare()
    ledger = bench.lake.ledger("toy")
    partition = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options()).selected[0]
    with patch.object(ledger_module, "owner", lambda: "elsewhere|1|1"):
        claim = ledger.claim("ingest", partition, lineage("other"))

    class Refusing(Threads):
        def submit(self, job: Job) -> Any:
            if any(p.key == KEYS[0] for p in job.partitions) and not self.refused:
                self.refused = True
                raise RuntimeError("the scheduler is gone")
            return super().submit(job)

        refused = False

    def finish() -> None:
        time.sleep(0.5)
        produced = toy_kind.Objects().process(toy_kind.Context(bench.lake, bench.recipe), partition)
        ledger.finish("ingest", claim, produced)

    other = threading.Thread(target=finish)
    other.start()
    report = bench.run(executor=Refusing(1))
    other.join()
    assert report.exit_code is ExitCode.DONE
    assert bench.calls() == [*KEYS, "one/settle"]
    assert bench.record(KEYS[0]).attempt == 1


def test_a_result_whose_claim_was_taken_away_is_not_recorded(bench: Bench) -> None:
    bench.fault(KEYS[1], "stolen", times=1)
    report = bench.run()
    assert (report.exit_code, counted(report)) == (ExitCode.DONE, {"planned": 4, "done": 4})
    record = bench.record(KEYS[1])
    assert (record.attempt, [a.status for a in record.history]) == (2, [Status.LOST])


class Gone(Threads):
    """A cluster that goes away with everything that runs on it."""

    def submit(self, job: Job) -> Any:
        return Future()

    def usable(self) -> str | None:
        return "the cluster is gone"


@pytest.mark.slow
def test_a_cluster_that_is_gone(bench: Bench) -> None:
    report = bench.run(executor=Gone(2))
    assert (report.status, report.exit_code) == ("incomplete", ExitCode.TRANSIENT)
    assert counted(report) == {"planned": 4, "lost": 4}
    assert "the cluster is gone" in bench.listener.sentences


def test_leases_are_kept_while_the_work_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ledger_module.timedelta(seconds=0.6)
    monkeypatch.setattr(ledger_module, "LEASE", short)
    monkeypatch.setattr(leases, "LEASE", short)
    bench.edit(partitions=1, sleep=1.5)
    thread = threading.Thread(target=bench.run)
    thread.start()
    ledger = bench.lake.ledger("toy")
    seen = 0
    with patch.object(ledger_module, "_is_dead", lambda who: False):
        while thread.is_alive():
            record = ledger.read("ingest", KEYS[0])
            if record is not None and record.status is Status.RUNNING:
                seen += 1
                with pytest.raises(Busy):
                    ledger.claim("ingest", Partition(KEYS[0], "mine"), lineage())
            time.sleep(0.05)
    thread.join()
    assert seen > 12
    assert (bench.record(KEYS[0]).status, bench.record(KEYS[0]).attempt) == (Status.DONE, 1)


def test_a_cluster_is_no_larger_than_its_plan_has_use_for(bench: Bench) -> None:
    """One worker for as many partitions as it works on at once, or for what one batch may hold in bytes."""
    partitions = [Partition(f"one/{i:02}", "1", bytes=10) for i in range(9)]
    phase = toy_kind.Objects()
    assert worthwhile(phase, partitions) == 5
    assert worthwhile(phase, partitions[:1]) == worthwhile(phase, []) == 1
    phase.batch_bytes = 10
    assert worthwhile(phase, partitions) == 9


def test_a_report_says_what_it_took(bench: Bench) -> None:
    executor = Threads(2, Terms(workers=3, price_hour=36.0))
    report = bench.run(executor=executor)
    assert report.cost.bytes == 40
    assert report.cost.worker_hours == pytest.approx(3 * report.seconds / 3600)
    assert report.cost.usd == pytest.approx(36 * report.seconds / 3600)
    said = report.as_json()
    assert (said["bytes"], said["usd"]) == (40, round(report.cost.usd or 0, 6))
    assert bench.run(executor=Threads(2, Terms(price_hour=None))).as_json()["usd"] is None


def test_requests_to_s3_are_paid_for(bench: Bench, s3) -> None:
    bench.lake = Lake(s3.lake())
    assert bench.run().cost.usd == pytest.approx(2 * 4 / 1000 * prices().storage["STANDARD"].put_1000)
    assert bench.run().cost.usd == 0


def test_the_dashboard_is_said_once(bench: Bench) -> None:
    link = f"http://127.0.0.1/{bench.lake.url}"
    bench.run(executor=Threads(2, Terms(dashboard=link)))
    assert bench.listener.sentences[0] == f"Dask's dashboard: {link}"
    assert bench.run(executor=Threads(2, Terms(dashboard=link)), force=True).status == "done"
    assert bench.listener.sentences == []


def test_a_performance_report_needs_dask(bench: Bench) -> None:
    with pytest.raises(UsageError, match="needs a Dask cluster"):
        bench.run(performance_report=True)


class Leaving(Threads):
    """Batches of workers that are about to go: one partition of each is done, the rest is left."""

    left = 3

    def result(self, handle: Any) -> Any:
        outcomes = super().result(handle)
        if not self.left or len(outcomes) < 2:
            return outcomes
        self.left -= 1
        return (
            outcomes[0],
            *(Outcome(o.key, Status.LOST, work.DRAINED, "its worker is about to go") for o in outcomes[1:]),
        )


def test_what_a_leaving_worker_did_not_begin_is_handed_out_again_at_once(bench: Bench) -> None:
    bench.edit(partitions=12)
    report = bench.run(executor=Leaving(2))
    assert (report.exit_code, report.partitions["lost"]) == (ExitCode.DONE, 0)
    # No try is used up. (What this executor says is left was done in truth: found so after one look.)
    assert not any("tried again" in sentence for sentence in bench.listener.sentences)
    assert bench.waits == [runner._POLL]


def test_a_process_that_is_to_go_begins_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "leaving", lambda: True)
    report = bench.run()
    assert (report.status, report.exit_code) == ("incomplete", ExitCode.TRANSIENT)
    assert bench.calls() == []


def test_a_partition_that_hangs_is_given_back_and_its_process_ended(bench: Bench) -> None:
    bench.lake.prepare()
    ledger = bench.lake.ledger("toy")
    ended = threading.Event()
    partition = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options()).selected[0]
    claim = ledger.claim("ingest", partition, lineage("mine"))
    with leases.Leases(ledger, "ingest", 0.2, ended.set) as held, held.kept(claim):
        assert ended.wait(10)
    record = bench.record(KEYS[0])
    assert record.status is Status.LOST
    assert record.error.message.startswith("one/00 came to no end in 0 s")


def test_large_partitions_may_take_longer(bench: Bench) -> None:
    bench.lake.prepare()
    ledger = bench.lake.ledger("toy")
    ended = threading.Event()
    partition = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options()).selected[0]
    claim = ledger.claim("ingest", partition, lineage("mine"))
    with leases.Leases(ledger, "ingest", 0.1, ended.set) as held, held.kept(claim, size=2**30):
        assert not ended.wait(0.5)
    assert bench.record(KEYS[0]).status is Status.RUNNING


def test_a_claim_of_the_same_run_is_a_dead_workers(bench: Bench) -> None:
    """Dask runs a batch again when its worker died, on another machine, too: nobody waits for that lease."""
    bench.lake.prepare()
    ledger = bench.lake.ledger("toy")
    partition = plan_phase(bench.lake, bench.recipe, "ingest", Window(), Options()).selected[1]
    with patch.object(ledger_module, "owner", lambda: "elsewhere|1|1"):
        ledger.claim("ingest", partition, lineage("this"))
    report = bench.run(flow_run_id="this")
    assert counted(report) == {"planned": 4, "done": 4}
    assert "waiting" not in " ".join(bench.listener.sentences)
    assert [a.status for a in bench.record(KEYS[1]).history] == [Status.LOST]


def test_what_was_never_handed_out_is_lost_without_a_look_at_the_ledger(bench: Bench) -> None:
    class Ended(Threads):
        def submit(self, job: Job) -> Any:
            raise RuntimeError("the client is closed")

        def usable(self) -> str | None:
            return "the cluster is gone"

    bench.edit(partitions=64)
    report = bench.run(executor=Ended(1))
    assert (report.exit_code, counted(report)) == (ExitCode.TRANSIENT, {"planned": 64, "lost": 64})
    assert bench.listener.sentences.count("the cluster is gone") == 1


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 40), st.integers(1, 8))
def test_batches_hold_every_partition_once_and_are_even(count: int, slots: int, most: int, threads: int) -> None:
    phase = toy_kind.Objects()
    phase.threads = threads
    partitions = [Partition(f"one/{i:03}", "sha256:0", bytes=1) for i in range(count)]
    found = batches(phase, partitions, most, slots)
    assert [p for b in found for p in b] == partitions
    lengths = [len(b) for b in found]
    assert not found or max(lengths) - min(lengths) <= 1
    assert all(0 < n <= most for n in lengths)
    assert len(found) <= slots or len(found) % slots == 0 or len(found) == count


def test_a_batch_holds_no_more_bytes_than_the_phase_says() -> None:
    phase = toy_kind.Objects()
    phase.batch_bytes = 100
    partitions = [Partition(f"one/{i}", "sha256:0", bytes=n) for i, n in enumerate((60, 60, 30, 300, 10, 10))]
    found = batches(phase, partitions, 6, 1)
    assert [[p.bytes for p in b] for b in found] == [[60], [60, 30], [300], [10, 10]]
