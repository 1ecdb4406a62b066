"""Runs: initialisation times as scopes, and which steps and members one has."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from ..lake.errors import UsageError
from ..lake.phase import Context, Window
from .recipe import ForecastRecipe

if TYPE_CHECKING:
    import xarray as xr

_RUN_ONLY = ("status", "expected_forecast_length", "ingested_forecast_length")
"""Coordinates that speak of the cube, not of a run's data."""

_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


def run_id(run: datetime) -> str:
    """A run as scopes, branches and keys write it: ``2026-11-20T00``, UTC always."""
    return f"{run:%Y-%m-%dT%H}"


def parse_run(text: str) -> datetime:
    """A run from its text form (``2026-11-20T00``; minutes may follow, as zero). Raises ``UsageError``."""
    text = text.strip().removesuffix("Z")
    match = re.fullmatch(r"(\d{4}-\d{2}-\d{2}T\d{2})(:00(:00)?)?", text)
    if match is None:
        raise UsageError(
            f"{text!r} is no run", expected="a UTC initialisation time such as 2026-11-20T00", found=repr(text)
        )
    try:
        return datetime.strptime(match[1], "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(f"{text!r} is no run ({error})") from None


def lead_times(recipe: ForecastRecipe) -> tuple[int, ...]:
    """Lead times (h) of the cube, the same for every run: those selected, or all that any run of a day has."""
    if recipe.select.steps is not None:
        return tuple(sorted(set(recipe.select.steps)))
    steps: set[int] = set()
    for number in range(24 // recipe.runs.every or 1):
        steps.update(recipe.source.steps(_FUTURE + number * recipe.runs.interval))
    return tuple(sorted(steps))


def steps_of(recipe: ForecastRecipe, run: datetime) -> tuple[int, ...]:
    """Lead times (h) of the cube that this run has at the provider."""
    there = set(recipe.source.steps(run))
    return tuple(s for s in lead_times(recipe) if s in there)


def index_of(recipe: ForecastRecipe, run: datetime) -> int:
    """Place of a run along init_time. Raises ``UsageError`` for a run that is none of the recipe's."""
    steps, rest = divmod(run - recipe.runs.start, recipe.runs.interval)
    if rest or steps < 0:
        raise UsageError(
            f"{run_id(run)} is no run of {recipe.name}",
            expected=f"{run_id(recipe.runs.start)} or a multiple of {recipe.runs.every} h later",
            found=run_id(run),
        )
    return steps


def scopes(context: Context[ForecastRecipe], window: Window) -> list[str]:
    """The runs that a window means, oldest first. Raises ``UsageError``."""
    recipe = context.recipe
    if window.run is not None:
        runs = [window.run]
    elif window.start is not None or window.end is not None:
        runs = _range(recipe, window)
    elif not window.latest and recipe.runs.default is not None:
        runs = [parse_run(recipe.runs.default)]
    else:
        runs = [latest(recipe)]
    for run in runs:
        index_of(recipe, run)
    return [run_id(run) for run in runs]


def ingested_scopes(context: Context[ForecastRecipe], window: Window) -> list[str]:
    """Like `scopes`, but the latest run is the latest that was ingested: for the phases after ingest."""
    if window.latest or (
        window.run is None and window.start is None and window.end is None and context.recipe.runs.default is None
    ):
        known = {key.split("/", 1)[0] for key in context.ledger.read_all("ingest")}
        if not known:
            name = context.recipe.name
            raise UsageError(f"no run of {name} was ingested yet; start with: python -m flows.ingest {name}")
        return [max(known)]
    return scopes(context, window)


def latest(recipe: ForecastRecipe, now: datetime | None = None) -> datetime:
    """The newest run whose last step is usually there by ``now`` (UTC)."""
    now = now or datetime.now(UTC)
    count = (now - recipe.runs.start) // recipe.runs.interval
    for number in range(count, max(count - 40, -1), -1):
        run = recipe.runs.start + number * recipe.runs.interval
        steps = steps_of(recipe, run)
        if steps and run + timedelta(hours=recipe.source.latency(steps[-1])) <= now:
            return run
    raise UsageError(
        f"{recipe.name} has no complete run yet",
        expected=f"one after {run_id(recipe.runs.start)}",
        found=f"now {run_id(now)}",
    )


def _range(recipe: ForecastRecipe, window: Window) -> list[datetime]:
    start = window.start or recipe.runs.start
    end = window.end or latest(recipe)
    if end < start:
        raise UsageError(
            "the range of runs ends before it starts", expected=f"an end not before {run_id(start)}", found=run_id(end)
        )
    first = max(0, -((recipe.runs.start - start) // recipe.runs.interval))
    runs = []
    run = recipe.runs.start + first * recipe.runs.interval
    while run <= end:
        if run >= start:
            runs.append(run)
        run += recipe.runs.interval
    if not runs:
        raise UsageError(f"{recipe.name} has no run between {run_id(start)} and {run_id(end)}")
    return runs


def one_run(cube: "xr.Dataset", scope: str) -> "xr.Dataset":
    """One run of a cube as exporters take it: ``init_time`` a scalar, the cube's bookkeeping left out."""
    return some_runs(cube, [scope]).isel(init_time=0)


def some_runs(cube: "xr.Dataset", scopes: Sequence[str]) -> "xr.Dataset":
    """Some runs of a cube along ``init_time``, in order, the cube's bookkeeping left out."""
    bookkeeping = [n for n in cube.coords if n in _RUN_ONLY or str(n).endswith("_status")]
    return cube.drop_vars(bookkeeping).sel(init_time=np.array(list(scopes), dtype="datetime64[ns]"))
