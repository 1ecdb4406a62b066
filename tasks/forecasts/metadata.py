"""The metadata of recipes' cubes as they are checked in, to be reviewed as a diff when a recipe changes.

``deployments/templates/<recipe>/`` holds what is learnt of a source's messages - ``headers.json`` and ``grid.grib``, a
message without data - and ``store.json``, the Zarr metadata of the cube that the recipe makes of them.
"""

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from ..lake import structure
from ..lake.errors import NotFound, UsageError
from .recipe import ForecastRecipe
from .template import Learnt, Template, changed

FOLDER = Path(__file__).resolve().parents[2] / "deployments" / "templates"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


def text(template: Template, recipe: ForecastRecipe) -> str:
    """The Zarr metadata of the cube that a recipe makes, a line a value; numbers of an axis stay on one line."""
    return _compact(structure.metadata(template.cube(recipe)))


def learnt(recipe: ForecastRecipe, folder: Path | None = None) -> Template:
    """What is checked in of a recipe's source. Raises ``NotFound`` where nothing is."""
    here = (folder or FOLDER) / recipe.name
    try:
        headers = orjson.loads((here / "headers.json").read_bytes())
        return Template({n: Learnt(**v) for n, v in headers.items()}, (here / "grid.grib").read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{recipe.name} has no template in {folder or FOLDER}") from None


def differences(template: Template, recipe: ForecastRecipe, folder: Path | None = None) -> list[str]:
    """Lines of a unified diff from the metadata that is checked in to what the recipe makes now; none when equal.

    Raises ``NotFound`` where none is checked in, ``UsageError`` when a variable was never learnt.
    """
    lacking = [v.name for v in recipe.select.variables if v.name not in template.variables]
    if lacking:
        raise UsageError(
            f"nothing is known of {', '.join(lacking)} of {recipe.name}; "
            f"ingest a run of it, then: python -m flows.template {recipe.name} --lake URL --write"
        )
    path = (folder or FOLDER) / recipe.name / "store.json"
    try:
        before = path.read_text("utf-8")
    except FileNotFoundError:
        raise NotFound(f"{recipe.name} has no template in {folder or FOLDER}") from None
    now = text(template, recipe)
    lines = (before.splitlines(), now.splitlines())
    return list(difflib.unified_diff(*lines, f"{recipe.name} as checked in", f"{recipe.name} now", lineterm=""))


def write(template: Template, recipe: ForecastRecipe, folder: Path | None = None) -> list[Path]:
    """Check in a template: the files written."""
    here = (folder or FOLDER) / recipe.name
    here.mkdir(parents=True, exist_ok=True)
    headers = {v.name: asdict(template.variables[v.name]) for v in recipe.select.variables}
    contents = {
        "headers.json": orjson.dumps(headers, option=_OPTIONS),
        "grid.grib": template.message,
        "store.json": text(template, recipe).encode(),
    }
    for name, data in contents.items():
        (here / name).write_bytes(data)
    return [here / name for name in contents]


def departures(template: Template, recipe: ForecastRecipe) -> list[str]:
    """How a lake's template differs from the one checked in for this recipe, a sentence each; none where none is."""
    try:
        return changed(learnt(recipe), template)
    except NotFound:
        return []


def _compact(value: Any, depth: int = 0) -> str:
    """JSON with a key a line, sorted, and lists of plain values on one line."""
    pad = " " * (2 * depth + 2)
    if isinstance(value, dict) and value:
        rows = [f"{pad}{_plain(k)}: {_compact(v, depth + 1).lstrip()}" for k, v in sorted(value.items())]
        return "{\n" + ",\n".join(rows) + f"\n{' ' * 2 * depth}}}" + ("\n" if depth == 0 else "")
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        rows = [f"{pad}{_compact(v, depth + 1)}" for v in value]
        return "[\n" + ",\n".join(rows) + f"\n{' ' * 2 * depth}]"
    return _plain(value)


def _plain(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
