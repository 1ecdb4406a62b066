"""Publishes some runs of the small archive, to be killed at any point, while others publish and garbage is collected.

``python -m tests.flows.collecting LAKE ARCHIVE FIRST COUNT``: prints the number of each run that came to its end.
"""

import sys
from datetime import timedelta
from pathlib import Path

import tasks  # noqa: F401  (loads PROJ before anything can load ecCodes)
from tests.forecasts.small_archive import RUN, Place

from .publishing import place


def run(number: int, at: Place) -> Place:
    """The place at a run, by its number."""
    return at.at(RUN + number * timedelta(hours=12))


def main(lake: str, archive: str, first: str, count: str) -> None:
    """Work through the runs; what is done already costs a look."""
    at = place(Path(lake), Path(archive))
    for number in range(int(first), int(first) + int(count)):
        for report in run(number, at)("ingest", "refine", "validate"):
            assert report.exit_code == 0, report.problems
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
