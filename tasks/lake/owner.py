"""Who holds a claim: a process by its machine, its id and when it started, so that a dead one is known for dead."""

import os
import socket
from functools import cache
from pathlib import Path


@cache
def _machine() -> str:
    """This machine and process-id name space: where a process id means what it says."""
    try:
        space = os.readlink("/proc/self/ns/pid")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        space, boot = "", ""
    return f"{socket.gethostname()}|{boot}|{space}"


def _started(pid: int) -> str:
    """When a process of this machine started (clock ticks since boot), '' when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def owner() -> str:
    """This process as an owner of claims: machine, process id and when it started."""
    return f"{_machine()}|{os.getpid()}|{_started(os.getpid())}"


def is_dead(who: str) -> bool:
    """Whether an owner was a process of this machine that does not run any more."""
    machine, _, rest = who.rpartition("|")
    machine, _, pid = machine.rpartition("|")
    if machine != _machine() or not rest or not pid.isdigit():
        return False
    return _started(int(pid)) != rest
