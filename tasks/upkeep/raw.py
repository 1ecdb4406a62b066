"""Copies of the provider's bytes: what becomes of them once their run is published."""

from collections.abc import Sequence

from ..forecasts.recipe import ForecastRecipe
from ..forecasts.retire import copies, retire
from ..lake.phase import Context
from .chore import Chore
from .freshness import published_runs

_COLUMNS = ("run", "copies", "bytes")


def raw(context: Context[ForecastRecipe], fate: str, runs: Sequence[str] | None, *, dry_run: bool) -> Chore:
    """Delete the copies of runs, or move them to a storage class; of all that are published when none is named.

    Raises ``UsageError`` for a named run that is not published, and for a recipe that copies nothing when runs are
    named.
    """
    if fate == "keep" or (runs is None and context.recipe.transfer != "copy"):
        why = "as the recipe says" if fate == "keep" else f"{context.recipe.name} copies nothing"
        return Chore("raw", f"copies: nothing to do, {why}", _COLUMNS, facts={"copies": 0, "bytes": 0})
    rows = []
    for run in published_runs(context)[0] if runs is None else runs:
        if dry_run:
            found = [o for outputs in copies(context, run).values() for o in outputs]
            rows.append((run, len(found), sum(o.bytes for o in found)))
        else:
            done = retire(context, run, fate)
            rows.append((run, done.objects, done.bytes))
    if runs is None:
        rows = [row for row in rows if row[1]]
    count, size = sum(r[1] for r in rows), sum(r[2] for r in rows)
    verb = f"{'would be' if dry_run else 'were'} {'deleted' if fate == 'delete' else f'moved to {fate}'}"
    return Chore(
        "raw", f"{count} copies ({size} bytes) {verb}", _COLUMNS, tuple(rows), facts={"copies": count, "bytes": size}
    )
