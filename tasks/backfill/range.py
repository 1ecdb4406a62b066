"""A backfill: which runs, in which phases and order, what is left of each, and when it was first asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from .. import kinds
from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import parse_run, run_id
from ..lake.errors import ConflictError, UsageError
from ..lake.lake import Lake
from ..lake.ledger import Select, utcnow
from ..lake.partition import digest_json
from ..lake.phase import Context, Window
from ..lake.recipe import PHASES, Recipe
from ..report import Report
from .drive import Budget, Driven, drive
from .estimate import Amount, Rates, rates, spent, total
from .survey import Run, phases_of, survey

Order = Literal["newest", "oldest"]


@dataclass(frozen=True)
class Backfill:
    """A range as it is now: every run, those that are taken (in the order they are worked on), and what they take."""

    context: Context[ForecastRecipe]
    phases: tuple[str, ...]
    select: Select
    runs: tuple[Run, ...]
    taken: tuple[str, ...]
    rates: Rates

    @classmethod
    def of(
        cls, lake: Lake, recipe: Recipe, scopes: Sequence[str], flow: str, select: Select, order: Order, force: bool
    ) -> "Backfill":
        """Look at a range. ``force`` takes what is done, too."""
        context = Context(lake, forecast(recipe))
        phases = phases_of(flow)
        runs = tuple(survey(context, scopes, phases))
        taken = sorted(r.scope for r in runs if force or r.chosen(select))
        if order == "newest":
            taken.reverse()
        return cls(context, phases, select, runs, tuple(taken), rates(context, phases, scopes))

    def estimate(self, scope: str, force: bool = False) -> Amount:
        """What is left to do of a run; all of it when what is done is to be done again."""
        run = next(r for r in self.runs if r.scope == scope)
        if force:
            return total(self.rates.partition[p] * self.rates.count[p] for p in self.phases)
        return self.rates.of_run(run)

    @property
    def within(self) -> Select:
        """What is selected inside a run: everything that is not over, once the run is taken. What failed for good is
        tried again where that was asked for."""
        return Select.ALL if self.select in (Select.FAILED, Select.ALL) else Select.MISSING

    def drive(
        self,
        work: Callable[[str], list[Report]],
        *,
        at_once: int,
        budget: float | None,
        force: bool,
        tell: Callable[[str, Driven], None] = lambda _scope, _so_far: None,
    ) -> Driven:
        """Work on what is taken; see `drive.drive`. What was spent counts from when the range was first asked for."""
        scopes = [r.scope for r in self.runs]
        since = begun(self.context, scopes, self.phases)
        before = spent(self.context, self.phases, scopes, since)

        def cost(scope: str) -> float:
            return spent(self.context, self.phases, [scope], since)[scope] - before[scope]

        return drive(
            self.taken, work, at_once=at_once, budget=Budget(budget, sum(before.values()), cost), tell=tell,
            estimates={s: self.estimate(s, force).usd for s in self.taken},
        )  # fmt: skip

    def again(self) -> tuple[Run, ...]:
        """The whole range as it is by now."""
        return tuple(survey(self.context, [r.scope for r in self.runs], self.phases))


def forecast(recipe: Recipe) -> ForecastRecipe:
    """The recipe, which must be of a forecast. Raises ``UsageError``."""
    if not isinstance(recipe, ForecastRecipe):
        raise UsageError(
            f"a backfill is for runs of a forecast; {recipe.name} is a {recipe.kind} recipe, whose phases take a range "
            f"as they are: python -m flows.pipeline {recipe.name} --start A --end B"
        )
    return recipe


def scopes_of(context: Context[Any], window: Window, listed: Sequence[str]) -> list[str]:
    """The runs that are meant, oldest first: those of a range, or of a list of runs and partitions
    (``2026-11-20T00/step-006`` means its run). Raises ``UsageError``."""
    ingest = kinds.phase(context.recipe, PHASES[0])
    if listed:
        if window.start is not None or window.end is not None:
            raise UsageError("a backfill is of a range or of a list of runs, not of both")
        runs = dict.fromkeys(parse_run(key.split("/", 1)[0]) for key in listed)
        return sorted(scope for run in runs for scope in ingest.scopes(context, Window(run=run)))
    if window.start is None:
        raise UsageError("a backfill needs a first run (--start) or a list of runs (--runs)")
    return ingest.scopes(context, window)


def begun(context: Context[Any], scopes: Sequence[str], phases: Sequence[str]) -> datetime:
    """When a backfill of exactly these runs and phases was first asked for; now, which is noted, when it is new."""
    objects, now = context.lake.objects, utcnow()
    name = digest_json([list(scopes), list(phases)]).removeprefix("sha256:")[:12]
    key = f"backfills/{context.recipe.name}/{name}.json"
    document = {"recipe": context.recipe.name, "phases": list(phases), "runs": list(scopes), "begun": now.isoformat()}
    try:
        objects.put_new(key, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    except ConflictError:
        return datetime.fromisoformat(orjson.loads(objects.get(key))["begun"])
    return now


def label(scopes: Sequence[str]) -> str:
    """The range in a word: ``2026-11-01T00..2026-11-20T18``."""
    ends = sorted({scopes[0], scopes[-1]}) if scopes else []
    return "..".join(run_id(parse_run(s)) for s in ends)
