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
from ..lake.run_axis import FIELD_STATUS
from .completeness import MATRIX
from .recipe import ForecastRecipe
from .runs import lead_times, one_run

if TYPE_CHECKING:
    import xarray as xr

_MAPS = 6
_MOST = 24
"""Maps on a page: so many of faultless variables at most, and so many at all."""


def report(
    context: Context[ForecastRecipe],
    scope: str,
    verdict: Verdict,
    documents: Mapping[str, Mapping[str, Any]],
    cube: Cube,
    statuses: Mapping[str, np.ndarray],
) -> str:
    """The report as one HTML page.

    ``documents`` is what validation kept of each variable (statistics, histogram), ``statuses`` what became of its
    fields.
    """
    recipe = context.recipe
    matrix = completeness_matrix(recipe, statuses)
    maps = _maps(cube.open(f"run/{scope}", published_only=False), scope, verdict, documents)
    title = f"{recipe.title or recipe.name}, run {scope}"
    return html(verdict, matrix, title, subtitle=recipe.attribution, maps=maps)


def completeness_matrix(recipe: ForecastRecipe, statuses: Mapping[str, np.ndarray]) -> Completeness:
    """The share of usable fields, and how many have which status, by variable and step."""
    steps = lead_times(recipe)
    names = [v.name for v in recipe.select.variables]
    share = np.full((len(names), len(steps)), np.nan)
    counts: list[list[dict[str, int]]] = []
    usable = [FIELD_STATUS["present"], FIELD_STATUS["flagged"]]
    for row, name in enumerate(names):
        found = statuses[name].reshape(len(steps), -1)
        counts.append([])
        for column, values in enumerate(found):
            expected = values != FIELD_STATUS["not_produced"]
            if expected.any():
                share[row, column] = np.isin(values[expected], usable).mean()
            numbers, amounts = np.unique(values, return_counts=True)
            counts[-1].append({MATRIX[int(n)]: int(c) for n, c in zip(numbers, amounts, strict=True)})
    return Completeness(names, list(steps), share, counts)


def _maps(cube: "xr.Dataset", scope: str, verdict: Verdict, documents: Mapping[str, Mapping[str, Any]]) -> list[Map]:
    """A map and a histogram per variable with faults (of the others as many as there is room for), each at its first
    offending field."""
    run = one_run(cube, scope)
    worst: dict[str, Row] = {}
    for row in sorted(verdict.table, key=lambda r: r.counted):
        worst.setdefault(row.variable, row)
    maps = []
    faulty = sum(row.score < 1 or row.fatal for row in worst.values())
    for name, row in list(worst.items())[: min(_MOST, max(_MAPS, faulty))]:
        cell = row.cells[0] if row.cells else (int(run["lead_time"].values[-1] / np.timedelta64(1, "h")), None, None)
        fields: dict[str, Any] = {"type": "map", "name": name.replace("_", "-"), "variable": name, "lead_time": cell[0]}
        if "member" in run[name].dims and cell[1] is not None:
            fields["member"] = cell[1]
        if "level" in run[name].dims:
            fields["level"] = cell[2] if cell[2] is not None else float(run["level"].values[0])
        numbers = ", ".join(f"{k} {v:.6g}" for k, v in documents[name]["statistics"].items() if v is not None)
        caption = f"at +{cell[0]} h; of the whole run: {numbers} {run[name].attrs.get('units', '')}"
        try:
            with tempfile.TemporaryDirectory(prefix="weatherlake-") as folder:
                picture = exporters.build(fields).render(run, Path(folder))[0].read_bytes()
        except LakeError as error:
            # A field that cannot be drawn must not keep the report from saying so.
            caption, picture = f"{caption}; no map: {error}", b""
        values = documents[name]["histogram"]
        maps.append(Map(name, caption, picture, values["counts"], values["edges"]))
    return maps
