"""Workers, scheduler, connection lost in the middle of a phase: what comes out is the same, or is named as missing."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from tasks import runner, spot
from tasks.executor import DaskExecutor, Threads
from tasks.lake.errors import ErrorClass, ExitCode
from tasks.lake.lake import Lake
from tasks.lake.ledger import Record, State
from tasks.lake.partition import Status
from tasks.lake.phase import Window
from tasks.plan import Options, plan_phase
from tasks.report import Progress, Report
from tasks.scheduler import Scheduler

from .. import toy_kind
from ..toy_kind import Fault, Recipe, calls
from .clusters import Processes, kill, processes

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


@dataclass
class Toy:
    """A lake, a recipe of the toy kind, and what becomes of runs."""

    lake: Lake
    recipe: Recipe
    sentences: list[str] = field(default_factory=list)

    def edit(self, **changes: Any) -> None:
        self.recipe = self.recipe.model_copy(update=changes)

    def run(self, address: str | None, hang: float = 600.0, patience: float = 60.0) -> Report:
        """Run the phase on a scheduler, or in threads when there is none."""
        progress = Progress()
        progress.said = self.sentences.append  # type: ignore[method-assign]
        if address is None:
            executor: Any = Threads(2)
        else:
            executor = DaskExecutor(Client(address, set_as_default=False, timeout=5), 2)
            executor.scheduler = Scheduler(executor._client, patience)
        try:
            return runner.run_phase(
                Lake(self.lake.url), self.recipe, "ingest", Window(), Options(hang=hang), executor, progress
            )
        finally:
            executor.close()

    def meanwhile(self, after: int, act: Callable[[], None]) -> threading.Thread:
        """Do something once so many partitions were begun."""

        def wait() -> None:
            end = time.monotonic() + 60
            while len(calls(self.recipe)) < after and time.monotonic() < end:
                time.sleep(0.02)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread

    def records(self) -> dict[str, Record]:
        return self.lake.ledger("toy").read_all("ingest")

    def states(self) -> dict[str, State]:
        plan = plan_phase(Lake(self.lake.url), self.recipe, "ingest", Window(), Options())
        return {row.partition.key: row.state for row in plan.rows}

    def assert_whole(self) -> None:
        """Every object of an undisturbed run is there, as it is there; everything is on record, nothing more."""
        assert set(self.states().values()) == {State.DONE}
        keys = [f"one/{i:02}" for i in range(self.recipe.partitions)]
        objects = {m.key: self.lake.objects.get(m.key) for m in self.lake.objects.listing("out")}
        listing = "\n".join(f"{k} done" for k in keys).encode()
        assert objects == {**{f"out/{k}": f"{k}=1".encode() for k in keys}, "out/one.list": listing}
        assert sorted(self.records()) == [*keys, "one/settle"]
        assert {r.status for r in self.records().values()} == {Status.DONE}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    toy_kind.register(monkeypatch)
    (tmp_path / "scratch").mkdir()
    recipe = Recipe(name="toy", scratch=str(tmp_path / "scratch"), partitions=16, sleep=0.1)
    return Toy(Lake(str(tmp_path / "lake")), recipe)


def test_a_worker_dies_with_its_batch(toy: Toy, tmp_path: Path):
    toy.edit(faults={"one/03": Fault(how="dies", times=1)})
    with processes(tmp_path / "cluster") as cluster:
        report = toy.run(cluster.address)
    assert (report.status, report.problems) == ("done", ())
    toy.assert_whole()
    record = toy.records()["one/03"]
    assert [a.status for a in record.history] == [Status.LOST]
    assert "KilledWorker" in (record.history[0].error.message if record.history[0].error else "")


def test_dask_itself_runs_a_batch_again(toy: Toy, tmp_path: Path):
    """What the dead worker had claimed is taken over at once: its lease, on another machine, would hold two minutes."""
    toy.edit(faults={"one/03": Fault(how="dies", times=1)})
    elsewhere = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "WEATHERLAKE_TEST_MACHINE": "each its own"}
    with processes(tmp_path / "cluster", **elsewhere) as cluster:
        begun = time.monotonic()
        assert toy.run(cluster.address).status == "done"
        assert time.monotonic() - begun < 60
    toy.assert_whole()


def test_a_batch_that_always_kills_its_worker(toy: Toy, tmp_path: Path):
    toy.edit(faults={"one/03": Fault(how="dies")})
    with processes(tmp_path / "cluster") as cluster:
        report = toy.run(cluster.address)
    assert (report.status, report.exit_code) == ("failed", ExitCode.FAILED)
    assert report.partitions["done"] == 15
    assert [p[:64] for p in report.problems] == ["one/03 ended its worker 3 times, the last time alone (its worker"]
    record = toy.records()["one/03"]
    assert record.error is not None
    assert (record.status, record.error.error_class) == (Status.FAILED, ErrorClass.RESOURCE)
    assert [a.status for a in record.history] == [Status.LOST] * 3
    # Nothing is published of a scope that is not whole; with more memory, the same command goes on.
    assert "out/one.list" not in {m.key for m in toy.lake.objects.listing("out")}
    toy.edit(faults={})
    assert toy.run(None).partitions["done"] == 1
    toy.assert_whole()


def test_a_worker_that_hangs(toy: Toy, tmp_path: Path):
    toy.edit(faults={"one/03": Fault(how="hangs", times=1)})
    with processes(tmp_path / "cluster") as cluster:
        before = {w.pid for w in cluster.workers()}
        assert toy.run(cluster.address, hang=2.0).status == "done"
        assert {w.pid for w in cluster.workers()} != before
    toy.assert_whole()
    error = toy.records()["one/03"].history[0].error
    assert error is not None
    assert error.message == "one/03 came to no end in 2 s; its worker was ended"


def test_a_worker_that_stands_still(toy: Toy, tmp_path: Path):
    """Not even its heart beats: Dask finds that out, and its nanny starts another."""
    toy.edit(sleep=0.3)
    with processes(tmp_path / "cluster", DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s") as cluster:
        stopping = toy.meanwhile(3, lambda: cluster.workers()[0].send_signal(signal.SIGSTOP))
        report = toy.run(cluster.address)
        stopping.join()
    assert (report.status, report.problems) == ("done", ())
    toy.assert_whole()


def test_all_workers_are_killed(toy: Toy, tmp_path: Path):
    toy.edit(sleep=0.3)
    with processes(tmp_path / "cluster") as cluster:
        killing = toy.meanwhile(5, lambda: [kill(w) for w in cluster.workers()] and None)
        report = toy.run(cluster.address)
        killing.join()
    assert (report.status, report.problems) == ("done", ())
    toy.assert_whole()


def test_all_machines_are_gone_and_another_comes(toy: Toy, tmp_path: Path):
    """Nannies and all; a worker that joins later does the rest."""
    toy.edit(sleep=0.3)

    def replace(cluster: Processes) -> None:
        for nanny in cluster.nannies:
            for process in (psutil.Process(nanny.pid), *psutil.Process(nanny.pid).children(recursive=True)):
                kill(process)
        time.sleep(1)
        cluster.start_worker()

    with processes(tmp_path / "cluster") as cluster:
        replacing = toy.meanwhile(5, lambda: replace(cluster))
        report = toy.run(cluster.address)
        replacing.join()
    assert (report.status, report.problems) == ("done", ())
    toy.assert_whole()


def test_no_worker_comes_back(toy: Toy, tmp_path: Path):
    toy.edit(sleep=0.3)

    def end(cluster: Processes) -> None:
        for nanny in cluster.nannies:
            for process in (psutil.Process(nanny.pid), *psutil.Process(nanny.pid).children(recursive=True)):
                kill(process)

    with processes(tmp_path / "cluster") as cluster:
        ending = toy.meanwhile(5, lambda: end(cluster))
        report = toy.run(cluster.address, patience=2.0)
        ending.join()
    _assert_settled_and_goes_on(toy, report)
    assert any("has had no worker for" in s for s in toy.sentences)


def test_the_scheduler_is_killed(toy: Toy, tmp_path: Path):
    toy.edit(sleep=0.3)
    with processes(tmp_path / "cluster") as cluster:
        assert cluster.scheduler is not None
        killing = toy.meanwhile(5, cluster.scheduler.kill)
        report = toy.run(cluster.address)
        killing.join()
        _assert_settled_and_goes_on(toy, report)
    assert any("the Dask scheduler is gone" in s for s in toy.sentences)


def _assert_settled_and_goes_on(toy: Toy, report: Report) -> None:
    """The report names what is missing, the ledger holds nothing that seems to run, and the same command goes on."""
    assert (report.status, report.exit_code) == ("incomplete", ExitCode.TRANSIENT)
    counts = report.partitions
    assert counts["done"] + counts["lost"] == counts["planned"] == 16
    assert counts["lost"] == len(report.problems) > 0
    # A worker that was cut off, too, may still have ended what it was at; that counts, and is not done again.
    done = list(toy.states().values()).count(State.DONE)
    assert counts["done"] <= done < 16
    again = toy.run(None)
    assert again.exit_code is ExitCode.DONE
    assert again.partitions["skipped"] >= done
    toy.assert_whole()


class Line:
    """A connection that can be cut: forwards a port of this machine to another one."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._cut = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Break every connection, and answer none for a while."""
        self._cut.set()
        for end in self._ends:
            end.close()
        time.sleep(seconds)
        self._cut.clear()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("seconds", [1.0, 12.0], ids=["for a moment", "for longer than the client waits"])
def test_the_client_is_cut_off(toy: Toy, tmp_path: Path, seconds: float):
    toy.edit(sleep=0.3)
    with processes(tmp_path / "cluster") as cluster:
        line = Line(int(cluster.address.rpartition(":")[2]))
        cutting = toy.meanwhile(5, lambda: line.cut(seconds))
        report = toy.run(f"tcp://127.0.0.1:{line.port}")
        cutting.join()
        line.close()
        if seconds > 5:
            _assert_settled_and_goes_on(toy, report)
        else:
            assert (report.status, report.problems) == ("done", ())
            toy.assert_whole()


def test_a_worker_that_is_told_to_end_finishes_what_it_began(toy: Toy, tmp_path: Path):
    """SIGTERM to the nanny, as ECS sends it to a container: nothing is lost, nothing is done twice."""
    toy.edit(sleep=0.5, partitions=24)
    with processes(tmp_path / "cluster") as cluster:
        with cluster.client() as client:
            spot.register(client, grace=20)
        telling = toy.meanwhile(5, cluster.nannies[0].terminate)
        report = toy.run(cluster.address)
        telling.join()
        assert cluster.nannies[0].wait(20) == 0
    assert (report.status, report.problems) == ("done", ())
    toy.assert_whole()
    assert len(calls(toy.recipe)) == 25
    assert {r.attempt for r in toy.records().values()} == {1}


@pytest.fixture
def metadata() -> Iterator[Any]:
    """The metadata service of an EC2 instance (version 2); ``notice`` is what it says of a spot interruption."""

    class Service(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(b"token" if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else None)

        def do_GET(self) -> None:
            known = self.headers.get("X-aws-ec2-metadata-token") == "token"
            server.asked += 1
            self._answer(server.notice if known and self.path == "/latest/meta-data/spot/instance-action" else None)

        def _answer(self, body: bytes | None) -> None:
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.notice, server.asked = None, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_spot_notice_drains_the_worker(toy: Toy, tmp_path: Path, metadata: Any, monkeypatch: pytest.MonkeyPatch):
    toy.edit(sleep=0.5, partitions=24)
    with processes(tmp_path / "cluster", workers=1) as cluster:
        # The second machine is an instance that is about to go.
        cluster.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{metadata.server_port}"
        doomed = cluster.start_worker()
        cluster.wait_for(2)
        with cluster.client() as client:
            client.register_plugin(spot.SpotNotice(grace=20, look=0.2))

        def notify() -> None:
            metadata.notice = b'{"action": "terminate", "time": "2026-11-21T00:00:00Z"}'

        telling = toy.meanwhile(5, notify)
        report = toy.run(cluster.address)
        telling.join()
        assert doomed.wait(20) == 0
        with cluster.client() as client:
            assert len(client.scheduler_info()["workers"]) == 1
    assert metadata.asked > 1
    assert (report.status, report.problems) == ("done", ())
    toy.assert_whole()
    assert len(calls(toy.recipe)) == 25
