"""Looking at runs, and telling of each stage that is reached: once, whoever looks and however often."""

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import run_id
from ..lake.errors import LakeError, UsageError
from ..lake.phase import Context
from .availability import Prober, Reach
from .register import COMPLETE, Available, Register


class Watch:
    """Watches runs of one recipe. ``usable_to`` are the lead times (h) that are stages of their own; that a run is
    complete always is one. ``tell`` is called with each stage once; what it raises leaves the stage untold."""

    def __init__(
        self, context: Context[ForecastRecipe], usable_to: Sequence[int], tell: Callable[[Available], None]
    ) -> None:
        self.context = context
        self.prober = Prober(context)
        self._register = Register(context.lake.objects, context.recipe.name)
        self._hours = sorted(set(usable_to))
        self._tell = tell
        self._over: set[datetime] = set()
        self._lock = threading.Lock()
        if any(h < 0 for h in self._hours):
            raise UsageError("a run is usable to a lead time in hours", expected="0 or more", found=self._hours[0])

    def look(self, runs: Iterable[datetime], say: Callable[[str], None] = lambda _: None) -> list[Available]:
        """Look at runs (UTC) and tell what is new; what was told. A provider that does not answer is said and passed
        over: the next look may find it."""
        found = []
        with self._lock:
            for run in runs:
                if run in self._over:
                    continue
                try:
                    found += self._one(run, say)
                except UsageError:
                    raise
                except LakeError as error:
                    say(f"{run_id(run)}: {error}")
        return found

    def complete(self, run: datetime) -> bool:
        """Whether a run was seen to be complete."""
        return run in self._over

    def _one(self, run: datetime, say: Callable[[str], None]) -> list[Available]:
        scope = run_id(run)
        told = self._register.told(scope)
        if COMPLETE in told:
            self._over.add(run)
            return []
        reach = self.prober.reach(run)
        if reach.usable_to is None:
            say(f"{scope}: not begun ({reach.lacks})")
            return []
        stages = self._reached(reach)
        if not reach.complete:
            say(f"{scope}: usable to +{reach.usable_to} h of +{reach.last} h ({reach.lacks})")
        if not stages:
            return []
        if reach.complete:
            self._over.add(run)
        one = Available(
            self.context.recipe.name, scope, self.context.lake.url, reach.usable_to, reach.complete, stages[-1]
        )
        if one.stage in told or (etag := self._register.claim(one)) is None:
            return []
        try:
            self._tell(one)
        except BaseException:
            self._over.discard(run)
            self._register.release(one)
            raise
        self._register.done(one, etag)
        for stage in stages[:-1]:
            if stage not in told:
                self._register.passed(one, stage)
        return [one]

    def _reached(self, reach: Reach) -> list[str]:
        """The stages that a run has reached, the last one last."""
        assert reach.usable_to is not None
        stages = [f"to-{h:03d}" for h in self._hours if h <= reach.usable_to and h < reach.last]
        return [*stages, COMPLETE] if reach.complete else stages
