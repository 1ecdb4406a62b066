"""Machines of the emulated cloud: local processes, on addresses of their own or in network namespaces of their own."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

ROOT = Path(__file__).resolve().parents[2]


class Network(Protocol):
    """Where machines get their addresses."""

    host: str
    """Address at which machines reach the cloud itself."""
    metadata: str
    """Address at which they reach the metadata service."""

    def connect(self) -> str:
        """A new address."""
        ...

    def inside(self, address: str) -> list[str]:
        """What has to stand before a command that is to run at an address."""
        ...

    def close(self) -> None:
        """Take everything down."""
        ...


class Loopback:
    """Addresses of the loopback network, another part of it for every process of tests."""

    host = metadata = "127.0.0.1"

    def __init__(self) -> None:
        self._net = f"127.{16 + os.getpid() % 200}.{os.getpid() // 200 % 250}"
        self._next = 1

    def connect(self) -> str:
        self._next = self._next % 250 + 1
        return f"{self._net}.{self._next}"

    def inside(self, address: str) -> list[str]:
        del address
        return []

    def close(self) -> None:
        pass


class Namespaces:
    """A network namespace for each machine, joined by a bridge: machines see nothing of each other but the network."""

    def __init__(self) -> None:
        number = os.getpid() % 200
        self._name = f"wl{os.getpid() % 100000}"
        self._net = f"10.{number}.77"
        self.host = f"{self._net}.1"
        self._made: dict[str, str] = {}
        _ip("link", "add", self._name, "type", "bridge")
        _ip("addr", "add", f"{self.host}/24", "dev", self._name)
        # Where ECS has it; the AWS SDK asks for credentials nowhere else.
        self.metadata = "169.254.170.2"
        _ip("addr", "add", f"{self.metadata}/32", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def connect(self) -> str:
        number = len(self._made) + 10
        address, space = f"{self._net}.{number}", f"{self._name}-{number}"
        here, there = f"{self._name}h{number}", f"{self._name}n{number}"
        _ip("netns", "add", space)
        self._made[address] = space
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        _ip("link", "set", here, "master", self._name, "up")
        _ip("link", "set", there, "netns", space)
        for command in (f"addr add {address}/24 dev {there}", f"link set {there} up", "link set lo up",
                        f"route add default via {self.host}"):  # fmt: skip
            _ip("-n", space, *command.split())
        return address

    def inside(self, address: str) -> list[str]:
        return ["ip", "netns", "exec", self._made[address]]

    def close(self) -> None:
        for space in self._made.values():
            _ip("netns", "delete", space)
        # Ends of links that were not in a namespace yet when a start was interrupted go with their bridge, or here.
        found = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
        for name in (line.split(": ")[1].split("@")[0] for line in found):
            if name == self._name or name.startswith(f"{self._name}h"):
                subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)

    @staticmethod
    def lacking() -> str | None:
        """Why there can be none on this machine, or None."""
        if shutil.which("ip") is None:
            return "iproute2 is not installed"
        probe = f"wlp{os.getpid()}"
        add = ["ip", "link", "add", probe, "type", "bridge"]
        made = subprocess.run(add, capture_output=True, text=True, check=False)
        if made.returncode:
            return f"network devices cannot be made here ({made.stderr.strip()})"
        _ip("link", "delete", probe)
        space = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
        if space.returncode:
            return f"network namespaces cannot be made here ({space.stderr.strip()})"
        _ip("netns", "delete", probe)
        return None


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass
class Machine:
    """A process that stands for a container."""

    address: str
    command: list[str]
    environment: dict[str, str]
    ended: Callable[[], None] | None = None
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(default_factory=lambda: Path(tempfile.mkstemp(prefix="machine-", suffix=".log")[1]))
    stopped: bool = False

    def start(self, before: Sequence[str]) -> None:
        """Run the command: the image has this checkout and this Python in it, and nothing of our environment."""
        command = [sys.executable if word == "python" else word for word in self.command]
        image = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*before, *command], env=image | self.environment, cwd=tempfile.gettempdir(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        assert self.process is not None
        self.process.wait()
        if self.ended is not None:
            self.ended()

    @property
    def running(self) -> bool:
        """Whether the container runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def said(self) -> str:
        """What it has written."""
        return self.log.read_text("utf-8", "replace")

    def stop(self, grace: float = 5.0) -> None:
        """End it as Docker does: SIGTERM, and SIGKILL for the whole container after a while. Returns at once."""
        self.stopped = True
        if self.running:
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            threading.Timer(grace, self.kill).start()

    def kill(self) -> None:
        """Take the container away, without notice."""
        if self.process is None:
            return
        for found in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.kill()

    def family(self) -> list[psutil.Process]:
        """Processes of the container that are there: all of its session."""
        assert self.process is not None
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def docker_run(line: str) -> tuple[str, list[str], dict[str, str]] | None:
    """Image, command and environment of a `docker run`; None for any other command."""
    words = shlex.split(line)
    if words[:2] != ["docker", "run"]:
        return None
    environment: dict[str, str] = {}
    words = words[2:]
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "-e":
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
    return words[0], words[1:], environment
