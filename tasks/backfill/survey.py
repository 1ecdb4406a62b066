"""The state of a range: what the ledger and the plans say of every run in every phase. Read-only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..lake.errors import LakeError
from ..lake.ledger import SELECTED, Select, State
from ..lake.partition import SETTLE, Partition, Status
from ..lake.phase import Context, Window
from ..lake.recipe import PHASES
from ..plan import Options, Plan, plan_phase

_AT_ONCE = 4
_OVER = (State.DONE, State.REJECTED)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run in one phase.

    ``states`` counts its partitions; ``todo`` are those that are not over. ``held`` is why the run goes no further,
    ``waits`` why it cannot be planned yet (an earlier phase is not done). ``settling`` means that only that is left.
    """

    phase: str
    states: Mapping[State, int] = field(default_factory=dict)
    todo: tuple[Partition, ...] = ()
    settling: bool = False
    held: str | None = None
    waits: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.waits is None and not self.todo and not self.settling

    def __str__(self) -> str:
        total, done = sum(self.states.values()), sum(self.states.get(s, 0) for s in _OVER)
        if self.held:
            return "held"
        if self.waits is not None:
            return "waits"
        if self.over:
            return "done" if total else "nothing"
        for state in (State.BUSY, State.FAILED, State.RETRY, State.LOST, State.STALE):
            if count := self.states.get(state, 0):
                return f"{state} {count}/{total}"
        if self.settling and total and done == total:
            return "unsettled"
        return f"{done}/{total}" if done else "-"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the range: its cells by phase."""

    scope: str
    cells: Mapping[str, Cell]

    @property
    def done(self) -> bool:
        """Whether every phase is done."""
        return all(c.over and not c.held for c in self.cells.values())

    @property
    def held(self) -> str | None:
        """Why the run goes no further until somebody decides."""
        return next((c.held for c in self.cells.values() if c.held), None)

    def chosen(self, select: Select) -> bool:
        """Whether a backfill takes the run: one of its partitions is selected, or with ``missing`` and ``all`` a later
        phase has not been begun. A run that is held is left to whoever decides about it."""
        found = {s for cell in self.cells.values() for s, n in cell.states.items() if n}
        if found & SELECTED[select]:
            return True
        if select not in (Select.MISSING, Select.ALL) or State.FAILED in found or self.held:
            return False
        return any(c.settling or c.waits is not None for c in self.cells.values())


def survey(context: Context[Any], scopes: Sequence[str], phases: Sequence[str]) -> list[Run]:
    """The state of every run in every phase, in the order of ``scopes``."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda scope: look(context, scope, phases), scopes))


def look(context: Context[Any], scope: str, phases: Sequence[str]) -> Run:
    """The state of one run. A phase before those asked for that is not done shows as their reason to wait."""
    cells: dict[str, Cell] = {}
    why: str | None = None
    for phase in phases:
        if why is not None:
            cells[phase] = Cell(phase, waits=why)
            continue
        try:
            cells[phase] = _cell(context, scope, phase)
        except LakeError as error:
            why = str(error)
            cells[phase] = Cell(phase, waits=why)
            continue
        if not cells[phase].over or cells[phase].held:
            why = f"{phase} is not done"
    return Run(scope, cells)


def _cell(context: Context[Any], scope: str, phase: str) -> Cell:
    from ..forecasts.runs import parse_run

    plan = plan_phase(context.lake, context.recipe, phase, Window(run=parse_run(scope)), Options(select=Select.ALL))
    record = context.ledger.read(phase, f"{scope}/{SETTLE}")
    over = not plan.selected and not plan.settling
    held = record.held if record is not None and record.status is Status.DONE and over else None
    todo = tuple(row.partition for row in plan.rows if row.state not in _OVER)
    return Cell(phase, Counter(row.state for row in plan.rows), todo, _left_to_settle(plan), held)


def _left_to_settle(plan: Plan) -> bool:
    return bool(plan.settling)


def phases_of(name: str) -> tuple[str, ...]:
    """The phases that a flow (``pipeline``, or a phase by its name) runs."""
    return PHASES if name == "pipeline" else (name,)
