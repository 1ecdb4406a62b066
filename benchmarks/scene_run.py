"""One conversion of a scene in a process of its own: what it took, as the kernel counted it."""

import os
import subprocess
import sys
import tempfile
import time
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


def measured(command: Sequence[str]) -> Cost:
    """Run a command to its end. Raises ``RuntimeError`` with the end of its output when it fails."""
    begun = time.perf_counter()
    # Into a file: a pipe that a child of the command still holds open would keep this waiting, or stay open itself.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}: {text[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def weatherlake(item: Path, lake: Path, groups: Sequence[str], *settings: str) -> list[str]:
    """The command that converts an item in two threads, through all five phases."""
    return [
        sys.executable, "-m", "flows.pipeline", "sentinel2-l2a", "--item", str(item), "--lake", str(lake),
        "--no-prefect", "--cluster", "none", "--groups", " ".join(groups), "--set=outputs.quicklook=[]",
        *(f"--set={s}" for s in settings),
    ]  # fmt: skip
