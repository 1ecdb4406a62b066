"""Runs the phases of a scene in this process, and finds what they made."""

from pathlib import Path
from typing import Any

from tasks.executor import Threads
from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode
from tasks.lake.lake import Lake
from tasks.lake.phase import Window
from tasks.lake.recipe import PHASES
from tasks.plan import Options
from tasks.report import Report
from tasks.runner import run_phase

RECIPE = "sentinel2-l2a"
SMALL: dict[str, Any] = {"overviews.min_dimension": 40, "layout.spatial_chunk": 64, "layout.shard": 256}
"""Settings that give a small item several chunks, shards and levels."""


def run(
    lake: object, phases: tuple[str, ...] = PHASES, window: Window | None = None, **settings: Any
) -> dict[str, Report]:
    """Phase -> report; stops at a phase that is not all done. Dots in the names of settings are written as ``__``."""
    recipe = recipes.load(RECIPE, {k.replace("__", "."): v for k, v in settings.items()})
    reports: dict[str, Report] = {}
    executor = Threads(2)
    try:
        for phase in phases:
            reports[phase] = run_phase(Lake(str(lake)), recipe, phase, window or Window(), Options(), executor)
            if reports[phase].exit_code is not ExitCode.DONE:
                break
    finally:
        executor.close()
    return reports


def convert(lake: object, item: object, **settings: Any) -> Path:
    """All phases of one item with small settings, which must all be done; the folder of the GeoZarr store."""
    small = {k.replace(".", "__"): v for k, v in SMALL.items()}
    reports = run(lake, source__items=[str(item)], **(small | settings))
    assert [r.exit_code for r in reports.values()] == [0] * 5, [r.problems for r in reports.values()]
    return store(lake)


def store(lake: object) -> Path:
    """The one GeoZarr store of a lake in a folder."""
    (found,) = Path(str(lake)).glob(f"scenes/{RECIPE}/*/*/*.zarr")
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
