"""The API as a process of its own, as a user starts it."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

HTTP = httpx.Client(verify=False, trust_env=False, timeout=60)
"""A client that is made once: loading certificates takes longer than a request."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """A server at work: its address, its process, and what it has logged."""

    url: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **parameters: str) -> httpx.Response:
        """GET with query parameters; ``parameter_name`` stands for ``parameter-name``."""
        query = {k.replace("_", "-") if k == "parameter_name" else k: v for k, v in parameters.items()}
        return HTTP.get(f"{self.url}{path}", params=query, timeout=60)

    def end(self) -> int:
        """Ask it to end, and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _answers(server: Server) -> None:
    """Wait for the first answer: several processes say where they run before one of them listens."""
    for _ in range(600):
        try:
            HTTP.get(f"{server.url}/health/live")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("".join(server.log))


@contextmanager
def running(lake: str, *flags: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """``python -m deployments.api`` on a free port while the block lasts."""
    command = [sys.executable, "-m", "deployments.api", "--lake", lake, "--port", "0", *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    server, reader = Server("", process), None
    try:
        for line in process.stdout:
            server.log.append(line)
            if found := re.search(r"running on (http://[\d.]+:\d+)", line):
                server.url = found[1]
                break
        assert server.url, "".join(server.log)
        reader = threading.Thread(target=lambda: server.log.extend(process.stdout or ()), daemon=True)
        reader.start()
        _answers(server)
        yield server
    finally:
        process.kill()
        process.wait(30)
        if reader is not None:
            # Its workers have the other end of the pipe until they see that it is gone.
            reader.join(30)
        process.stdout.close()
