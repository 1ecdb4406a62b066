"""A Prefect server and a process worker as an operator runs them, on loopback and with a home of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from flows.server import _die_with_parent

ROOT = Path(__file__).resolve().parents[2]
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Production:
    """The server's API, and what an operator does with it."""

    home: Path
    url: str
    env: dict[str, str]
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def post(self, path: str, body: Any) -> Any:
        answer = httpx.post(f"{self.url}/{path}", json=body, timeout=60)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}/{path}", timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def command(self, *words: object, code: int = 0) -> str:
        """Run ``python -m ...`` to its end; what it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", *map(str, words)], cwd=ROOT, env=self.env, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def start(self, log: str, *words: str) -> None:
        with (self.home / log).open("w") as out:
            self.started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *words],
                    cwd=self.home,
                    env=self.env,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )

    def run(self, deployment: str, **parameters: Any) -> str:
        """Start a deployment as the form of the UI does; the flow run's id."""
        found = self.get(f"deployments/name/{deployment}")
        made = self.post(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def retry(self, flow_run: str) -> None:
        """What the UI's button does."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        told = self.post(f"flow_runs/{flow_run}/set_state", {"state": state, "force": False})
        assert told["status"] == "ACCEPT", told

    def ended(self, flow_run: str, seconds: float = 150) -> dict[str, Any]:
        """Wait for the end of a flow run; the run."""
        return wait(lambda: (r := self.get(f"flow_runs/{flow_run}"))["state_type"] in FINAL and r, seconds, self.logs)

    def children(self, flow_run: str) -> list[dict[str, Any]]:
        """The flow runs inside one, oldest first."""
        body = {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}}, "sort": "START_TIME_ASC"}
        return self.post("flow_runs/filter", body)

    def artifacts(self, flow_runs: list[str]) -> dict[str, dict[str, Any]]:
        """Artifacts of flow runs by their keys."""
        found = self.post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": flow_runs}}})
        return {a["key"]: a for a in found}

    def logs(self) -> str:
        """What the server and the worker printed, the end of it."""
        return "\n".join(path.read_text()[-4000:] for path in self.home.glob("*.log"))


def wait(look: Callable[[], Any], seconds: float, why: Callable[[], str] = str) -> Any:
    """Look until something is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if found := look():
                return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s\n{why()}")


@contextmanager
def production(home: Path, **more: str) -> Iterator[Production]:
    """A server and, once `Production.start` is called, a worker; they end with the block."""
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hidden = ("PYTHONWARNINGS", "PREFECT_", "AWS_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
        "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
        "PREFECT_SERVER_UI_ENABLED": "false", "AWS_EC2_METADATA_DISABLED": "true", "COLUMNS": "200", **more,
    }  # fmt: skip
    made = Production(home, f"http://127.0.0.1:{port}/api", env)
    try:
        made.start("server.log", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        made.env = env | {"PREFECT_API_URL": made.url}
        wait(lambda: httpx.get(f"{made.url}/health").is_success, 90, made.logs)
        yield made
    finally:
        for process in reversed(made.started):
            process.send_signal(signal.SIGINT)
        for process in reversed(made.started):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
