"""How far the newest published run is behind what the provider should have by now."""

from datetime import datetime

from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import latest, parse_run, run_id
from ..lake.errors import UsageError
from ..lake.ledger import utcnow
from ..lake.partition import SETTLE, Status
from ..lake.phase import Context
from .chore import Chore, counted


def freshness(context: Context[ForecastRecipe], now: datetime | None = None) -> Chore:
    """The newest published run against the provider's schedule. Late is a problem once a whole run is missing."""
    now = now or utcnow()
    recipe = context.recipe
    runs, held = published_runs(context)
    newest = runs[-1] if runs else None
    try:
        due = run_id(latest(recipe, now))
    except UsageError:
        due = None
    behind = 0
    if due is not None:
        since = parse_run(newest) if newest else recipe.runs.start - recipe.runs.interval
        behind = max(0, (parse_run(due) - since) // recipe.runs.interval)
    age = (now - parse_run(newest)).total_seconds() / 3600 if newest else None
    said = f"newest published run: {newest or 'none'}" + (f", {age:.1f} h old" if age is not None else "")
    said += f"; due by now: {due or 'none'}"
    later = [run for run in held if newest is None or run > newest]
    problems = []
    if behind:
        why = f"; held back by validation: {', '.join(later)}" if later else ""
        problems.append(f"{recipe.name} is {counted(behind, 'run')} behind its provider ({newest} < {due}){why}")
    row = (newest, due, behind, round(age, 1) if age is not None else None, len(later))
    columns = ("newest", "due", "runs behind", "age (h)", "held since")
    facts = {"newest": newest, "due": due, "runs_behind": behind, "age_hours": row[3]}
    return Chore("freshness", said, columns, (row,), tuple(problems), facts)


def published_runs(context: Context[ForecastRecipe]) -> tuple[list[str], list[str]]:
    """The runs that are published, and those that validation holds back; oldest first."""
    records = context.ledger.read_all("validate").items()
    settled = {k: r for k, r in records if k.endswith(f"/{SETTLE}") and r.status is Status.DONE}
    runs = {k.removesuffix(f"/{SETTLE}"): r.held for k, r in sorted(settled.items())}
    return [k for k, why in runs.items() if not why], [k for k, why in runs.items() if why]
