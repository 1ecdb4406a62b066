"""All chores by name, in the order that makes sense: what is freed first is collected after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..forecasts.recipe import ForecastRecipe
from ..lake.errors import ExitCode, UsageError
from ..lake.phase import Context
from ..lake.retention import Fate
from .audit import SAMPLE, audit
from .chore import Chore
from .cost import cost
from .cubes import GRACE, cubes
from .freshness import freshness
from .leases import leases
from .raw import raw
from .staged import clear


@dataclass(frozen=True, slots=True)
class How:
    """How chores are done. ``staging`` and ``raw`` stand in the place of what the recipe says; ``runs`` are the runs
    whose raw copies are meant, all that are published when absent."""

    dry_run: bool = False
    staging: Fate | None = None
    raw: str | None = None
    runs: Sequence[str] | None = None
    grace: timedelta = GRACE
    sample: int = SAMPLE


_CHORES: Mapping[str, Callable[[Context[Any], How], Chore]] = {
    "leases": lambda c, how: leases(c, dry_run=how.dry_run),
    "staging": lambda c, how: clear(c, how.staging or c.recipe.retention.staging, dry_run=how.dry_run),
    "raw": lambda c, how: raw(c, how.raw or c.recipe.retention.raw, how.runs, dry_run=how.dry_run),
    "cubes": lambda c, how: cubes(c, dry_run=how.dry_run, grace=how.grace),
    "audit": lambda c, how: audit(c, sample=how.sample),
    "freshness": lambda c, _: freshness(c),
    "cost": lambda c, _: cost(c.lake),
}

_ANY_KIND = frozenset({"leases", "audit", "cost"})

_BAD: Mapping[str, ExitCode] = {"audit": ExitCode.FAILED}
"""Exit code of a chore that found problems; those of the others pass when it is done again later."""


def names(context: Context[Any]) -> list[str]:
    """The chores that there are for a recipe."""
    return [name for name in _CHORES if _is_for(context, name)]


def do(name: str, context: Context[Any], how: How) -> Chore:
    """Do one chore, or say what there would be to do. Raises ``UsageError`` for one that the recipe does not have."""
    if not _is_for(context, name):
        known = ", ".join(names(context))
        raise UsageError(f"{context.recipe.kind} recipes have no chore {name!r}", expected=known, found=name)
    return _CHORES[name](context, how)


def exit_code(chores: Sequence[Chore]) -> ExitCode:
    """What is wrong after some chores: for good, in passing, or nothing."""
    bad = {_BAD.get(c.name, ExitCode.TRANSIENT) for c in chores if c.problems}
    return min(bad, default=ExitCode.DONE)


def _is_for(context: Context[Any], name: str) -> bool:
    return name in _CHORES and (name in _ANY_KIND or isinstance(context.recipe, ForecastRecipe))
