"""Ingests, refines and validates runs one after the other, to be killed at any point and started again.

``python -m tests.flows.publishing LAKE ARCHIVE RUNS``: prints the number of each run that came to its end.
"""

import sys
from datetime import timedelta
from pathlib import Path

import tasks  # noqa: F401  (loads PROJ before anything can load ecCodes)
from tests.forecasts.small_archive import RUN, Place, variables

SELECT = {"members": [0, 1], "variables": variables("t2m", "tp")}
CHECKS = {"policy": {"rejected": "roll_back"}, "climatology": 0}


def place(lake: Path, archive: Path) -> Place:
    """The recipe that every process works on."""
    return Place.of(lake, archive, select=SELECT, checks=CHECKS)


def main(lake: str, archive: str, runs: str) -> None:
    """Work through all runs; what is done already costs a look."""
    at = place(Path(lake), Path(archive))
    for number in range(int(runs)):
        at.at(RUN + number * timedelta(hours=12))("ingest", "refine", "validate")
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
