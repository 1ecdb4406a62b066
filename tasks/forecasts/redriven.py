"""Messages that stand in for quarantined ones in a run's manifest (see `redrive`)."""

from collections.abc import Mapping

import msgspec
import pyarrow as pa

from ..lake.errors import NotFound
from ..lake.phase import Context
from . import manifest
from .quarantine import cell_of, folder
from .recipe import ForecastRecipe


class Redriven(msgspec.Struct, frozen=True):
    """A message fetched again: the cell, where it came from, and where it lies in the lake now."""

    cell: str
    url: str
    key: str
    length: int
    sub: int
    digest: str


def redriven(context: Context[ForecastRecipe], scope: str) -> dict[str, Redriven]:
    """Cell -> the message that stands in for the one in the manifest."""
    try:
        data = context.lake.objects.get(_redriven_key(context, scope))
    except NotFound:
        return {}
    return {r.cell: r for r in msgspec.json.decode(data, type=list[Redriven])}


def overridden(context: Context[ForecastRecipe], scope: str, rows: pa.Table) -> pa.Table:
    """The manifest of a run with the messages that were fetched again in the place of the quarantined ones."""
    others = redriven(context, scope)
    if not others:
        return rows
    numbers = {
        f"{row['variable']}/{cell_of(context.recipe, row).key}": number
        for number, row in enumerate(rows.select(["variable", "lead_time", "member", "level"]).to_pylist())
    }
    columns = {name: rows[name].to_pylist() for name in ("url", "offset", "length", "sub", "etag")}
    for cell, other in others.items():
        if cell in numbers:
            values = (other.key, 0, other.length, other.sub, other.digest)
            for name, value in zip(columns, values, strict=True):
                columns[name][numbers[cell]] = value
    for name, values in columns.items():
        rows = manifest.with_column(rows, name, values)
    return rows


def enter(context: Context[ForecastRecipe], scope: str, done: Mapping[str, Redriven]) -> None:
    """Have these messages stand in from now on, besides those that do already."""
    together = redriven(context, scope) | dict(done)
    context.lake.objects.put(_redriven_key(context, scope), msgspec.json.encode(list(together.values())))


def _redriven_key(context: Context[ForecastRecipe], scope: str) -> str:
    return f"{folder(context.recipe.name, scope)}/redriven.json"
