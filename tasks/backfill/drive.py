"""One run after the other, a few at once, as long as the budget lasts."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ..lake.errors import ExitCode, LakeError, as_lake_error
from ..report import Report


@dataclass
class Driven:
    """What became of the runs: their reports, or the error that ended them; those that the budget left out."""

    reports: dict[str, list[Report]] = field(default_factory=dict)
    errors: dict[str, LakeError] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    spent: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """The worst that happened: failed for good, wrong usage, in passing (or the budget is used up), held."""
        codes = {e.exit_code for e in self.errors.values()}
        codes |= {r.exit_code for reports in self.reports.values() for r in reports}
        codes |= {ExitCode.TRANSIENT} if self.left else set()
        ranked = (ExitCode.FAILED, ExitCode.USAGE, ExitCode.TRANSIENT, ExitCode.HELD)
        return next((code for code in ranked if code in codes), ExitCode.DONE)


@dataclass(frozen=True)
class Budget:
    """Money: at most ``limit`` USD with ``before`` spent already; ``cost`` says what a run took that is over."""

    limit: float | None = None
    before: float = 0.0
    cost: Callable[[str], float] = lambda _: 0.0


def drive(
    scopes: Sequence[str],
    work: Callable[[str], list[Report]],
    *,
    at_once: int = 1,
    estimates: Mapping[str, float],
    budget: Budget,
    tell: Callable[[str, Driven], None] = lambda _scope, _so_far: None,
) -> Driven:
    """Work on the runs in this order, at most so many at once; what ends one of them leaves the others alone.

    A run is begun only while what was spent, what those under way are estimated to take and its own estimate stay
    within the budget; the first that does not fit ends the backfill, so that the order is kept. ``tell`` is called
    whenever a run is over.
    """
    made = Driven(spent=budget.before)
    waiting = list(scopes)
    active: dict[Future[list[Report]], str] = {}
    with ThreadPoolExecutor(max(1, at_once), thread_name_prefix="backfill") as pool:
        try:
            while waiting or active:
                while waiting and len(active) < at_once:
                    promised = made.spent + sum(estimates[s] for s in active.values()) + estimates[waiting[0]]
                    if budget.limit is not None and promised > budget.limit:
                        made.left, waiting = waiting, []
                        break
                    scope = waiting.pop(0)
                    active[pool.submit(work, scope)] = scope
                over, _ = wait(active, return_when=FIRST_COMPLETED) if active else (set(), set())
                for future in over:
                    scope = active.pop(future)
                    try:
                        made.reports[scope] = future.result()
                    except Exception as error:
                        made.errors[scope] = as_lake_error(error, scope)
                    made.spent += budget.cost(scope)
                    tell(scope, made)
        except BaseException:
            # Interrupted: what is under way comes to its end, nothing else is begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return made
