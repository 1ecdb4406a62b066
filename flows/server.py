"""The Prefect server of a run: the configured one, or a temporary one that lives as long as the run."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tasks.lake.errors import LakeError, Unreachable

_START = 120.0
_HEALTH = 10.0
_POLL = 0.1
_STOP = 10.0


class Server:
    """Started early and in the background, waited for late.

    Prefect has a launcher of its own (``SubprocessASGIServer``), but importing it costs this process more than
    the whole of the rest of Prefect, waits for the server before anything else can be done, and leaves the
    server behind when this process is killed. The command it runs is the same.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def start(self) -> None:
        """Begin to start a temporary server, unless one is configured. Returns at once.

        To be called from the main thread: the kernel ends the server when the thread that started it ends.
        """
        from prefect.settings import PREFECT_API_URL

        self._url = PREFECT_API_URL.value() or ""
        if self._url:
            return
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}/api"
        self._process = subprocess.Popen(
            _command(port), env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent,
        )  # fmt: skip

    @contextlib.contextmanager
    def ready(self) -> Iterator[str]:
        """Wait until the server answers; what it is, in words. In the block, Prefect uses it."""
        if self._process is None:
            _answers(self._url)
            yield f"Prefect server {self._url}"
            return
        self._wait()
        from prefect.settings import PREFECT_API_URL, temporary_settings

        # Dask workers are processes of their own; Prefect sends these settings along with each task.
        with temporary_settings({PREFECT_API_URL: self._url}):
            yield "a temporary Prefect server"

    def stop(self) -> None:
        """End a temporary server, once it was told everything."""
        if self._process is None:
            return
        if self._process.poll() is None:
            _flush()
            self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _wait(self) -> None:
        import httpx

        assert self._process is not None
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise LakeError(f"the temporary Prefect server ended with exit code {code}; --no-prefect runs without")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self._url}/health", timeout=_HEALTH).is_success:
                    return
            time.sleep(_POLL)
        raise Unreachable(
            f"the temporary Prefect server did not answer within {_START:.0f} s; --no-prefect runs without"
        )


def _command(port: int) -> list[str]:
    import prefect

    application = [
        "--app-dir",
        str(prefect.__module_path__.parent),
        "--factory",
        "prefect.server.api.server:create_app",
    ]
    listen = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "critical", "--lifespan", "on"]
    return [sys.executable, "-m", "uvicorn", *application, *listen]


def _environment() -> dict[str, str]:
    from prefect.settings import get_current_settings

    ephemeral = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return os.environ | get_current_settings().to_environment_variables(exclude_unset=True) | ephemeral


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _die_with_parent() -> None:
    """In the child, before the server starts: have the kernel end it when this process is gone, SIGKILL included."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _answers(url: str) -> None:
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=_HEALTH).raise_for_status()
    except httpx.HTTPError as error:
        kind = type(error).__name__
        raise Unreachable(f"the Prefect server at {url} does not answer ({kind}); --no-prefect runs without") from None


def _flush() -> None:
    """Wait until Prefect's background threads have handed over every log line and event."""
    if "prefect.flows" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        drain: Callable[..., Any] = worker.drain_all
        with contextlib.suppress(Exception):
            drain(timeout=10)
