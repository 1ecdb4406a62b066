"""Child processes for what may crash: each limited in time and memory, ended and reaped when it exceeds them, reused.

What goes wrong in a child - a library that crashes, one that never returns, a file that unpacks to 50 GB - is an
exception here and nothing more: `TimedOut`, `OutOfMemory` or `Crashed`.
"""

import atexit
import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

from .errors import LakeError, ResourceError
from .zygote import RETIRE

REUSED = 500
"""Requests after which a child is replaced by a new one."""

_START = 120.0
_ENVIRONMENT = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GDAL_DATA",
    "PROJ_DATA", "PROJ_LIB", "ECCODES_DEFINITION_PATH", "ECCODES_SAMPLES_PATH",
)  # fmt: skip
"""All that children see of the environment: whatever reads a strange file has no business with keys and passwords."""

_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES} | {
    "NUMEXPR_MAX_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""A process with threads must not be forked; these libraries start theirs when they are imported."""

_MEMORY = re.compile(
    rb"bad_alloc|out of memory|cannot allocate|can't allocate|unable to allocate|memory allocation", re.IGNORECASE
)


class Died(Exception):
    """A child came to no answer; the sentence says how it ended."""


class TimedOut(Died):
    """The child was at it for too long, and was ended."""


class OutOfMemory(Died):
    """The child wanted more memory than it may have."""


class Crashed(Died):
    """The child ended by itself, by a signal or otherwise."""


class Child:
    """One child: a connection, and where its standard error went."""

    def __init__(self, pid: int, connection: Connection, errors: int, memory: int) -> None:
        self.pid = pid
        self.memory = memory
        self.handle = os.pidfd_open(pid)
        self.connection = connection
        self.errors = errors
        self.requests = 0

    def said(self) -> bytes:
        """The last of what the child wrote to its standard error."""
        size = os.fstat(self.errors).st_size
        return os.pread(self.errors, 4000, max(0, size - 4000))

    def kill(self) -> None:
        """End the child now."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)

    def close(self) -> None:
        """Hang up; a child that waits for a request ends."""
        self.connection.close()
        os.close(self.errors)
        os.close(self.handle)


class Pool:
    """Children that run one function (``module:function``, bytes in and out).

    Thread-safe: as many children as threads ask at once. The first request starts the process they are forked from.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._idle: list[Child] = []
        self._lock = threading.Lock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.threads = 0

    def run(self, request: bytes, seconds: float, memory: int) -> bytes:
        """The answer to a request, from a child that may take so long and allocate so many bytes.

        Raises `TimedOut`, `OutOfMemory`, `Crashed`; ``ResourceError`` when no child can be started.
        """
        child = self._take(request, seconds, memory)
        try:
            if not child.connection.poll(seconds):
                child.kill()
                self._over(child)
                raise TimedOut(f"it was not done after {seconds:g} s")
            answer = child.connection.recv_bytes()
        except (EOFError, OSError):
            raise self._death(child) from None
        child.requests += 1
        if answer[:1] == RETIRE or child.requests >= REUSED:
            self._over(child)
        else:
            os.ftruncate(child.errors, 0)
            with self._lock:
                self._idle.append(child)
        return answer[1:]

    def close(self) -> None:
        """End all children that wait for work, and what they are forked from."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            self._over(child)
        with self._lock:
            self._end_zygote()

    # -- children --------------------------------------------------------------------------------------

    def _take(self, request: bytes, seconds: float, memory: int) -> Child:
        """A child that has been sent the request."""
        while True:
            with self._lock:
                child = next((c for c in self._idle if c.memory == memory), None)
                if child is not None:
                    self._idle.remove(child)
            fresh = child is None
            if child is None:
                child = self._fork(memory)
            try:
                child.connection.send_bytes(str(seconds).encode())
                child.connection.send_bytes(request)
            except OSError:
                # It ended while it waited: another one, unless it never lived.
                death = self._death(child)
                if fresh:
                    raise death from None
                continue
            return child

    def _fork(self, memory: int) -> Child:
        ours, theirs = socket.socketpair()
        errors = os.memfd_create("errors")
        # Or what is written after a truncation would begin where the last words ended, with zeros before it.
        fcntl.fcntl(errors, fcntl.F_SETFL, os.O_APPEND)
        with theirs:
            try:
                pid = int(self._command(f"fork {memory}", [theirs.fileno(), errors]))
            except BaseException:
                ours.close()
                os.close(errors)
                raise
        return Child(pid, Connection(ours.detach()), errors, memory)

    def _death(self, child: Child) -> Died:
        """How a child that hung up came to its end."""
        said = child.said()
        status, peak = self._over(child)
        words = " ".join(said.decode(errors="replace").split())[-300:]
        because = f": {words}" if words else ""
        if _MEMORY.search(said):
            return OutOfMemory(f"it wanted more than {child.memory >> 20} MiB of memory{because}")
        if status == signal.SIGKILL:
            # Nobody here sent it: the kernel does when the machine runs out of memory.
            return OutOfMemory(f"it was killed by the system at {peak >> 10} MiB of memory")
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGALRM:
                return TimedOut("it ended itself, long past its limit of time")
            return Crashed(f"it was ended by {signal.Signals(number).name}{because}")
        code = os.WEXITSTATUS(status) if status >= 0 else "unknown"
        return Crashed(f"it ended without an answer, exit code {code}{because}")

    def _over(self, child: Child) -> tuple[int, int]:
        """Hang up and reap; wait status (-1 when it is not known) and peak memory in KiB."""
        child.close()
        try:
            status, peak = self._command(f"wait {child.pid}").split()
        except LakeError:
            return -1, 0
        return int(status), int(peak)

    # -- what they are forked from ---------------------------------------------------------------------

    def _command(self, text: str, files: list[int] | None = None) -> str:
        with self._lock:
            if self._control is None:
                self._start()
            control = self._control
            assert control is not None
            try:
                socket.send_fds(control, [text.encode()], files or [])
                answer = control.recv(64)
            except OSError:
                answer = b""
            if not answer:
                self._end_zygote()
                raise ResourceError("the process that children are forked from is gone")
            return answer.decode()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT} | _ONE_THREAD
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        # Not through multiprocessing: Dask's workers are daemons, which it does not let have children.
        with theirs:
            self._zygote = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tasks.lake.zygote", self.target],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        ours.settimeout(_START)
        try:
            ready = ours.recv(64).decode().split()
        except OSError:
            ready = []
        if not ready:
            ours.close()
            self._zygote.kill()
            said = self._zygote.communicate()[1].decode(errors="replace").strip().splitlines()
            self._zygote = None
            raise ResourceError(f"no child process can be started ({said[-1] if said else 'it said nothing'})")
        ours.settimeout(None)
        self.threads = int(ready[1])
        self._control = ours

    def _end_zygote(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.communicate()
            self._zygote = None


_pools: dict[str, Pool] = {}
_making = threading.Lock()


def pool(target: str) -> Pool:
    """The pool of this process for a function; ended with the process."""
    with _making:
        if not _pools:
            atexit.register(close_all)
        return _pools.setdefault(target, Pool(target))


def close_all() -> None:
    """End the children of all pools of this process."""
    with _making:
        while _pools:
            _pools.popitem()[1].close()
