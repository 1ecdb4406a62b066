"""A Dask cluster whose scheduler and workers are processes of their own, to be killed one by one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from distributed import Client

ROOT = Path(__file__).resolve().parents[2]
_UP = 60.0


@dataclass
class Processes:
    """A scheduler and workers with nannies, as `dask scheduler` and `dask worker` start them."""

    folder: Path
    environment: dict[str, str]
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    nannies: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_scheduler(self) -> None:
        file = self.folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard",
                                     "--scheduler-file", str(file))  # fmt: skip
        self.address = _until(lambda: _address(file))

    def start_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = self._start("dask_worker", self.address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1",
                              "--local-directory", str(self.folder), *arguments)  # fmt: skip
        self.nannies.append(process)
        return process

    def wait_for(self, workers: int) -> None:
        with self.client() as client:
            client.wait_for_workers(workers, timeout=_UP)

    @contextmanager
    def client(self) -> Iterator[Any]:
        with Client(self.address, set_as_default=False, timeout=30) as client:
            yield client

    def workers(self) -> list[psutil.Process]:
        """The processes that work, one below each nanny."""
        found = []
        for nanny in self.nannies:
            if nanny.poll() is None:
                children = psutil.Process(nanny.pid).children(recursive=True)
                found += [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        return found

    def stop(self) -> None:
        for process in (*self.nannies, self.scheduler):
            if process is not None and process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{module}-{len(self.nannies)}.log").open("wb")
        with log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{module}", *arguments],
                cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip


@contextmanager
def processes(folder: Path, workers: int = 2, code: Path = ROOT, **environment: str) -> Iterator[Processes]:
    """A running cluster. ``code`` is the folder that its processes import this project from."""
    folder.mkdir(exist_ok=True)
    preload = str(ROOT / "tests" / "runner" / "toy_preload.py")
    path = os.pathsep.join(dict.fromkeys([str(code), str(ROOT)]))
    # The first worker that dies with a batch ends it: the runner decides on the rest.
    quick = {
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
        "DASK_DISTRIBUTED__WORKER__PRELOAD": preload,
        "PYTHONPATH": path,
    }
    clean: Mapping[str, str] = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONWARNINGS", "PREFECT_"))}
    made = Processes(folder, {**clean, **quick, **environment})
    try:
        made.start_scheduler()
        for _ in range(workers):
            made.start_worker()
        if workers:
            made.wait_for(workers)
        yield made
    finally:
        made.stop()


def kill(process: psutil.Process) -> None:
    """SIGKILL, if it is still there."""
    if process.is_running():
        process.send_signal(signal.SIGKILL)


def _address(file: Path) -> str:
    import orjson

    try:
        return str(orjson.loads(file.read_bytes())["address"])
    except (OSError, ValueError):
        return ""


def _until(look: Any) -> Any:
    end = time.monotonic() + _UP
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come up in time")
