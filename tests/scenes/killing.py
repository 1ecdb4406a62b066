"""Converts an item again and again in processes that are killed: ``python -m tests.scenes.killing ITEM FOLDER KILLS``.

Everything is imported once; each attempt is a fork of this process, which has no threads itself. An attempt goes on in
the lake that the one before left. A lake that is complete is kept, and a new one begun, until there were enough kills.
Prints how many lakes were completed.
"""

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from .converting import SMALL, run

SETTINGS = {k.replace(".", "__"): v for k, v in SMALL.items()}


def attempt(item: str, lake: Path, moment: float | None) -> bool:
    """Whether a conversion in a process of its own came to its end before it was killed ``moment`` seconds later."""
    pid = os.fork()
    if pid == 0:
        reports = run(lake, source__items=[item], **SETTINGS)
        os._exit(0 if [int(r.exit_code) for r in reports.values()] == [0] * 5 else 1)
    ended, status = 0, 0
    begun = time.monotonic()
    while not ended:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended and moment is not None and time.monotonic() - begun > moment:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            raise SystemExit(f"the conversion into {lake} failed")
        return True
    return False


def main(item: str, folder: str, kills: int) -> None:
    """Kill ``kills`` attempts at random moments of a conversion, and let the last lake be completed."""
    for name in ("ingest", "refine", "validate", "regrid", "export"):
        importlib.import_module(f"tasks.scenes.{name}")
    for name in ("zarr.codecs", "zarr_cm", "pystac", "matplotlib.image", "pyproj"):
        importlib.import_module(name)
    begun = time.monotonic()
    attempt(item, Path(folder) / "undisturbed", None)
    whole = time.monotonic() - begun
    moments = random.Random(11)
    number = hits = 0
    while hits < kills:
        if attempt(item, Path(folder) / f"killed-{number:02}", moments.uniform(0.0, whole * 0.6)):
            number += 1
        else:
            hits += 1
    attempt(item, Path(folder) / f"killed-{number:02}", None)
    print(number + 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
