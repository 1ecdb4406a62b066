"""How far a run is at its provider: up to which step every file is there, by the steps of its era."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..forecasts import mirrors
from ..forecasts.archive import Archive
from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import steps_of
from ..forecasts.stock import take_stock
from ..lake.ledger import utcnow
from ..lake.phase import Context

_AHEAD = 8
"""Steps looked at at once where every file costs a request."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a run is: the last step (h) up to which nothing is missing (None: not even the first), of which last
    one, and what is missing first."""

    usable_to: int | None
    last: int
    lacks: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every step is there."""
        return self.usable_to == self.last


class Prober:
    """Looks at a provider again and again, and only at what was not there before. One request a folder where the store
    can list; otherwise a few steps ahead of the first that is missing."""

    def __init__(self, context: Context[ForecastRecipe]) -> None:
        self._context = context
        self.archive = Archive(context)
        self._there: dict[datetime, set[int]] = {}

    def reach(self, run: datetime, now: datetime | None = None) -> Reach:
        """How far a run (UTC) is. Raises ``Unreachable`` and its like when no mirror answers."""
        steps = steps_of(self._context.recipe, run)
        there = self._there.setdefault(run, set())
        lacks = self._by_clock(run, steps, there, now) if self.archive.own else self._look(run, steps, there)
        reached = None
        for step in steps:
            if step not in there:
                break
            reached = step
        return Reach(reached, steps[-1], lacks)

    def _by_clock(self, run: datetime, steps: Sequence[int], there: set[int], now: datetime | None) -> str | None:
        """A source that makes its own files has them when they are due."""
        source, now = self._context.recipe.source, now or utcnow()
        there.update(s for s in steps if run + timedelta(hours=source.latency(s)) <= now)
        late = [s for s in steps if s not in there]
        return f"+{late[0]} h is not due yet" if late else None

    def _look(self, run: datetime, steps: Sequence[int], there: set[int]) -> str | None:
        """Note what is there by now; what is missing first."""
        left = [s for s in steps if s not in there]
        order = mirrors.preferred(mirrors.read(self._context, self.archive))
        ahead = len(left) if all(m.can_list for m in self.archive.mirrors) else _AHEAD
        while left:
            some, left = left[:ahead], left[ahead:]
            files = {s: self.archive.files(run, s) for s in some}
            stock = take_stock(self.archive, [f for s in some for f in files[s]], order)
            missing = None
            for step in some:
                lacks = next((what for f in files[step] if (what := stock[f].lacks(f))), None)
                if lacks is None:
                    there.add(step)
                missing = missing or lacks
            if missing:
                return missing
        return None

    def keys(self, run: datetime) -> dict[tuple[str, str], int]:
        """Place of every file of a run in S3, (bucket, key) on each mirror there, with its step."""
        found = {}
        for number, store in enumerate(self.archive.mirrors):
            at = store.location
            if at.scheme != "s3":
                continue
            prefix = f"{at.prefix}/" if at.prefix else ""
            for step in steps_of(self._context.recipe, run):
                for file in self._context.recipe.source.files(self.archive.mirrors[number].url, run, step):
                    for key in (file.url, file.index_url):
                        if key is not None:
                            found[at.bucket, prefix + key] = step
        return found


def candidates(recipe: ForecastRecipe, back: timedelta, now: datetime | None = None) -> list[datetime]:
    """The runs begun within ``back``, newest first: those that may become complete now."""
    now = now or utcnow()
    number = (now - recipe.runs.start) // recipe.runs.interval
    found = []
    while number >= 0 and (run := recipe.runs.start + number * recipe.runs.interval) >= now - back:
        if steps_of(recipe, run):
            found.append(run)
        number -= 1
    return found
