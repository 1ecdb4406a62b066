"""One conversion of a scene in a process of its own: what it took, as the kernel counted it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds, CPU seconds, peak resident bytes of one process."""

    seconds: float
    cpu: float
    peak: int


_LAUNCH = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(json.dumps([time.perf_counter() - begun, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime,
                  usage.ru_maxrss]))
"""
"""Starts a command from a process that is itself small: the kernel counts the memory of the starter, until the
command's own program is loaded, as the command's."""


def measured(command: Sequence[str]) -> Cost:
    """Run a command to its end. Raises ``RuntimeError`` with the end of its output when it fails."""
    # Into a file: a pipe that a child of the command still holds open would keep this waiting, or stay open itself.
    with tempfile.TemporaryFile("w+") as said:
        launch = [sys.executable, "-S", "-c", _LAUNCH, *command]
        done = subprocess.run(launch, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True, check=True)
        said.seek(0)
        text = said.read()
    seconds, code, cpu, peak = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{command[:4]} ended with {code}: {text[-2000:]}")
    return Cost(seconds, cpu, peak * 1024)


def weatherlake(item: Path, lake: Path, groups: Sequence[str], *settings: str) -> list[str]:
    """The command that converts an item in two threads, through all five phases."""
    return [
        sys.executable, "-m", "flows.pipeline", "sentinel2-l2a", "--item", str(item), "--lake", str(lake),
        "--no-prefect", "--cluster", "none", "--groups", " ".join(groups), "--set=outputs.quicklook=[]",
        *(f"--set={s}" for s in settings),
    ]  # fmt: skip
