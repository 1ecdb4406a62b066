"""The rolling climatology: what the last accepted runs were like, from the numbers validation kept of them."""

import contextlib
from collections.abc import Sequence

import numpy as np
import orjson

from ..checks.check import Climate
from ..checks.statistics import NAMES, Summary
from ..lake.errors import ConflictError, NotFound
from ..lake.phase import Context
from .recipe import ForecastRecipe

_KEPT = 1000
_TRIES = 20


def summary_key(recipe: str, scope: str, variable: str) -> str:
    """Where the numbers of a variable of a run lie in the lake."""
    return f"verdicts/{recipe}/{scope}/{variable}.npz"


def accepted(context: Context[ForecastRecipe]) -> list[str]:
    """Runs that were accepted without a doubt, oldest first."""
    return _read(context)[0]


def remember(context: Context[ForecastRecipe], scope: str, is_accepted: bool) -> None:
    """Have a run counted among the accepted ones, or not any more."""
    for _ in range(_TRIES):
        runs, etag = _read(context)
        wanted = sorted({*runs, scope} if is_accepted else {*runs} - {scope})[-_KEPT:]
        if wanted == runs:
            return
        data = orjson.dumps({"accepted": wanted})
        objects, key = context.lake.objects, _key(context.recipe.name)
        with contextlib.suppress(ConflictError):
            objects.put_new(key, data) if etag is None else objects.replace(key, data, etag)
            return
    raise ConflictError(f"{_key(context.recipe.name)} kept changing, {scope} could not be entered")


def load(
    context: Context[ForecastRecipe], scope: str, variable: str, leads: np.ndarray, levels: Sequence[float]
) -> Climate | None:
    """The last accepted runs before ``scope`` at these lead times (h) and levels; None when there are none."""
    before = [run for run in accepted(context) if run < scope][-context.recipe.checks.climatology :]
    if not before or not context.recipe.checks.climatology:
        return None
    found: list[tuple[str, Summary]] = []
    for run in before:
        with contextlib.suppress(NotFound):
            data = context.lake.objects.get(summary_key(context.recipe.name, run, variable))
            found.append((run, Summary.from_bytes(data)))
    if not found:
        return None
    shape = (len(found), len(leads), max(1, len(levels)))
    statistics = np.full((*shape, 2 * len(NAMES)), np.nan)
    pattern = np.full((*shape, found[0][1].pattern.shape[-1]), np.nan)
    digests: dict[int, tuple[str, int]] = {}
    for number, (run, summary) in enumerate(found):
        at, there = _matching(leads, summary.lead_time)
        level, known = _matching(np.asarray(levels, float), summary.level) if len(levels) else ([0], [0])
        put, take = np.ix_([number], at, level), np.ix_(there, known)
        statistics[put] = np.concatenate([summary.statistics[take], summary.spread[take]], axis=-1)[None]
        pattern[put] = summary.pattern[take][None]
        for (time, _), digest in np.ndenumerate(summary.digests):
            if digest:
                digests[int(digest)] = (run, int(summary.lead_time[time]))
    return Climate(tuple(run for run, _ in found), statistics, pattern, digests)


def _matching(wanted: np.ndarray, have: np.ndarray) -> tuple[list[int], list[int]]:
    """Positions of the common values in both."""
    places = {float(v): i for i, v in enumerate(have)}
    pairs = [(i, places[float(v)]) for i, v in enumerate(wanted) if float(v) in places]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _read(context: Context[ForecastRecipe]) -> tuple[list[str], str | None]:
    try:
        data, etag = context.lake.objects.get_with_etag(_key(context.recipe.name))
    except NotFound:
        return [], None
    return list(orjson.loads(data)["accepted"]), etag


def _key(recipe: str) -> str:
    return f"verdicts/{recipe}/accepted.json"
