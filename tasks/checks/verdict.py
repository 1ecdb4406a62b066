"""The verdict on a run: how findings become one score, what follows for each cell, what for the run."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import Field, ValidationError

from ..lake.errors import CorruptInput
from ..lake.registry import Strict, sentence
from .acceptance import CheckConfig
from .check import Action, Cell, Check, Finding, checks

KEPT_CELLS = 100
"""Offending fields that a verdict lists for each finding; ``faults`` counts all of them."""

EVERYTHING = "all"
"""What a waiver names that releases a whole run."""


class State(StrEnum):
    """How good a run is. Rejected ones are never published; the others as the recipe's policy says."""

    ACCEPTED = "accepted"
    FLAGGED = "flagged"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


class Outcome(StrEnum):
    """What is done with a run."""

    PUBLISH = "publish"
    HOLD = "hold"
    ROLL_BACK = "roll_back"


class Row(Strict):
    """What one check says of one variable; ``cells`` are (lead_time in hours, member, level).

    ``action`` is what follows, ``source`` where the message lies that the sentence speaks of.
    """

    check: str
    variable: str
    score: float
    weight: float
    fatal: bool
    sentence: str
    faults: int
    cells: tuple[tuple[int, int | None, float | None], ...] = ()
    action: Action = Action.ACCEPT
    source: str = ""

    @property
    def counted(self) -> float:
        """The score as it counts: score ** weight."""
        return self.score**self.weight


class Spot(Strict):
    """A cell of a variable that something follows for, and why: check and sentence."""

    variable: str
    lead_time: int
    member: int | None = None
    level: float | None = None
    check: str = ""
    reason: str = ""

    @property
    def cell(self) -> Cell:
        """The place of the cell within its variable."""
        return Cell(self.lead_time, self.member, self.level)

    @property
    def key(self) -> str:
        """The cell as commands and keys write it: ``tp/024-m01``."""
        return f"{self.variable}/{self.cell.key}"


class Waiver(Strict):
    """A named person's decision that a cell (``tp/024-m01``), a variable or ``all`` of a run may be used."""

    cell: str
    by: str = Field(min_length=1)
    why: str = Field(min_length=1)
    at: datetime


class Verdict(Strict):
    """State, score between 0 and 1, the reasons (worst first), what every check said of every variable, and what
    follows: the outcome for the run, the cells taken out, the cells flagged, and who released what."""

    state: State
    score: float
    reasons: tuple[str, ...]
    table: tuple[Row, ...]
    outcome: Outcome = Outcome.PUBLISH
    quarantined: tuple[Spot, ...] = ()
    flagged: tuple[Spot, ...] = ()
    released: tuple[Waiver, ...] = ()

    def to_json(self) -> bytes:
        """The verdict as JSON, UTF-8."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> "Verdict":
        """A verdict from `to_json`. Raises ``CorruptInput`` when it is not one."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptInput(sentence(error, "verdict")) from None

    @property
    def variables(self) -> dict[str, float]:
        """Variable -> the worst score of its checks, as it counts; in the order of the table."""
        out: dict[str, float] = {}
        for row in self.table:
            out[row.variable] = min(out.get(row.variable, 1.0), row.counted)
        return out


def suite(config: CheckConfig) -> list[Check]:
    """The checks that run, by name: the default suite, where ``config.run`` replaces or adds, or only ``run``."""
    chosen: dict[str, Check] = {}
    if config.defaults:
        chosen = {name: checks.build(name) for name in checks if checks[name].standard}
    chosen |= {check.type: check for check in config.run}
    return [chosen[name] for name in sorted(chosen)]


def judge(
    findings: Sequence[Finding],
    config: CheckConfig,
    *,
    sizes: Mapping[str, int] | None = None,
    waivers: Sequence[Waiver] = (),
) -> Verdict:
    """A verdict from the findings on all variables of a run.

    The score is the smallest of ``score ** weight`` over all findings. A run is no better than its worst
    variable: a mean over twenty variables and ten checks would give 0.995 to a run with one check failed
    completely, and publish it.

    A finding at or above its check's ``accept_above`` is accepted, at or above ``flag_above`` its cells are flagged,
    below the check's action is taken. Fatal cells are taken out at least; a fatal finding on a whole variable rejects
    the run, and so do more quarantined cells of a variable than ``quarantine_at_most`` of ``sizes`` (variable -> cells
    expected).
    What a waiver names is flagged instead. No finding at all is a rejection with score 0: nothing was checked.
    """
    if not findings:
        return Verdict(
            state=State.REJECTED, score=0.0, reasons=("Nothing was checked.",), table=(),
            outcome=_outcome(State.REJECTED, config),
        )  # fmt: skip
    scale = {check.type: check for check in suite(config)}
    ordered = sorted(findings, key=lambda f: (f.variable, f.check, f.sentence))
    rows = tuple(_row(f, _action(f, scale.get(f.check), config)) for f in ordered)
    released = {w.cell for w in waivers}
    out, flags = _spots(ordered, rows, released)
    rejected = [
        row.variable
        for row in rows
        if row.action is Action.REJECT and not released & {EVERYTHING, row.variable}
    ] + _too_many(out, sizes or {}, config)  # fmt: skip
    state = _state(rejected, out, [r for r in rows if r.action is not Action.ACCEPT])
    faults = [row for row in rows if row.score < 1 or row.fatal]
    faults.sort(key=lambda row: (not row.fatal, row.counted, row.variable, row.check))
    return Verdict(
        state=state,
        score=min(row.counted for row in rows),
        reasons=tuple(f"{row.check}: {row.sentence}" for row in faults),
        table=rows,
        outcome=_outcome(state, config),
        quarantined=tuple(out.values()),
        flagged=tuple(spot for key, spot in flags.items() if key not in out),
        released=tuple(waivers),
    )


def _action(finding: Finding, check: Check | None, config: CheckConfig) -> Action:
    """What follows from a finding."""
    wished = check.action if check is not None else Action.QUARANTINE
    if finding.fatal:
        return Action.REJECT if wished is Action.REJECT or not finding.cells else Action.QUARANTINE
    accept, flag = (config.accept_above, config.flag_above) if check is None else config.thresholds(check)
    counted = finding.score**finding.weight
    if counted >= accept or finding.score >= 1:
        return Action.ACCEPT
    if counted >= flag:
        return Action.ACCEPT if wished is Action.ACCEPT else Action.FLAG
    if wished is Action.QUARANTINE and not finding.cells:
        return Action.REJECT
    return wished


def _spots(
    findings: Iterable[Finding], rows: Iterable[Row], released: set[str]
) -> tuple[dict[str, Spot], dict[str, Spot]]:
    """The cells to take out and those to flag, by key; the first reason counts."""
    out: dict[str, Spot] = {}
    flags: dict[str, Spot] = {}
    for finding, row in zip(findings, rows, strict=True):
        if row.action is Action.ACCEPT:
            continue
        for cell in finding.cells:
            spot = Spot(
                variable=finding.variable, lead_time=cell.lead_time, member=cell.member, level=cell.level,
                check=finding.check, reason=finding.sentence,
            )  # fmt: skip
            free = released & {EVERYTHING, finding.variable, spot.key}
            # A whole rejected variable is no matter of cells; what is absent cannot be taken out.
            target = out if row.action is Action.QUARANTINE and not free else flags
            target.setdefault(spot.key, spot)
    return out, flags


def _too_many(out: Mapping[str, Spot], sizes: Mapping[str, int], config: CheckConfig) -> list[str]:
    count: dict[str, int] = {}
    for spot in out.values():
        count[spot.variable] = count.get(spot.variable, 0) + 1
    return [name for name, bad in count.items() if bad > config.quarantine_at_most * sizes.get(name, bad * 10**9)]


def _state(rejected: Sequence[str], out: Mapping[str, Spot], followed: Sequence[Row]) -> State:
    if rejected:
        return State.REJECTED
    if out:
        return State.QUARANTINED
    return State.FLAGGED if followed else State.ACCEPTED


def _outcome(state: State, config: CheckConfig) -> Outcome:
    policy = config.policy
    by_state: dict[State, str] = {
        State.ACCEPTED: "publish",
        State.FLAGGED: policy.flagged,
        State.QUARANTINED: policy.quarantined,
        State.REJECTED: policy.rejected,
    }
    return Outcome(by_state[state])


def _row(finding: Finding, action: Action) -> Row:
    return Row(
        check=finding.check,
        variable=finding.variable,
        score=min(1.0, max(0.0, float(finding.score))),
        weight=finding.weight,
        fatal=finding.fatal,
        sentence=finding.sentence,
        faults=len(finding.cells),
        cells=tuple((c.lead_time, c.member, c.level) for c in finding.cells[:KEPT_CELLS]),
        action=action,
        source=finding.source,
    )
