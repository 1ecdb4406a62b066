"""The report on a run that validation writes: verdict, completeness matrix, maps of what was found fault with."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks.report import Completeness, Map, html
from ..checks.verdict import Row, Verdict
from ..exports.exporter import exporters
from ..lake.cubes import Cube
from ..lake.errors import LakeError
from ..lake.phase import Context
from .recipe import ForecastRecipe
from .runs import lead_times, one_run, parse_run, steps_of

if TYPE_CHECKING:
    import xarray as xr

_MAPS = 6


def report(
    context: Context[ForecastRecipe],
    scope: str,
    verdict: Verdict,
    statistics: Mapping[str, Mapping[str, float | None]],
    cube: Cube,
    present: Mapping[str, np.ndarray],
) -> str:
    """The report as one HTML page.

    ``statistics`` holds minimum, mean and maximum per variable; ``present`` is `validate.presence`.
    """
    recipe = context.recipe
    matrix = _completeness(recipe, scope, present)
    maps = _maps(cube.open(f"run/{scope}", published_only=False), scope, verdict, statistics)
    title = f"{recipe.title or recipe.name}, run {scope}"
    return html(verdict, matrix, title, subtitle=recipe.attribution, maps=maps)


def _completeness(recipe: ForecastRecipe, scope: str, present: Mapping[str, np.ndarray]) -> Completeness:
    steps = lead_times(recipe)
    there = steps_of(recipe, parse_run(scope))
    share = np.full((len(present), len(steps)), np.nan)
    for row, variable in enumerate(recipe.select.variables):
        for column, step in enumerate(steps):
            if step in there and step not in variable.not_at:
                share[row, column] = present[variable.name][column].mean()
    return Completeness([v.name for v in recipe.select.variables], list(steps), share)


def _maps(
    cube: "xr.Dataset", scope: str, verdict: Verdict, statistics: Mapping[str, Mapping[str, float | None]]
) -> list[Map]:
    """A map per variable, those with faults first, each at its first offending field."""
    run = one_run(cube, scope)
    worst: dict[str, Row] = {}
    for row in sorted(verdict.table, key=lambda r: r.counted):
        worst.setdefault(row.variable, row)
    maps = []
    for name, row in list(worst.items())[:_MAPS]:
        cell = row.cells[0] if row.cells else (int(run["lead_time"].values[-1] / np.timedelta64(1, "h")), None, None)
        fields: dict[str, Any] = {"type": "map", "name": name.replace("_", "-"), "variable": name, "lead_time": cell[0]}
        if "member" in run[name].dims and cell[1] is not None:
            fields["member"] = cell[1]
        if "level" in run[name].dims:
            fields["level"] = cell[2] if cell[2] is not None else float(run["level"].values[0])
        numbers = ", ".join(f"{k} {v:.6g}" for k, v in statistics[name].items() if v is not None)
        caption = f"at +{cell[0]} h; of the whole run: {numbers} {run[name].attrs.get('units', '')}"
        try:
            with tempfile.TemporaryDirectory(prefix="weatherlake-") as folder:
                picture = exporters.build(fields).render(run, Path(folder))[0].read_bytes()
        except LakeError as error:
            # A field that cannot be drawn must not keep the report from saying so.
            caption, picture = f"{caption}; no map: {error}", b""
        if picture:
            maps.append(Map(name, caption, picture))
    return maps
