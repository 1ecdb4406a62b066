"""The verdict on a run: which checks run, how their findings become one score, and what follows from it."""

from collections.abc import Sequence
from enum import StrEnum

from pydantic import ValidationError

from ..lake.errors import CorruptInput
from ..lake.registry import Strict, sentence
from .check import Check, CheckConfig, Finding, checks

KEPT_CELLS = 100
"""Offending fields that a verdict lists for each finding; ``faults`` counts all of them."""


class State(StrEnum):
    """What becomes of a run. Accepted and flagged runs are published, the others are not."""

    ACCEPTED = "accepted"
    FLAGGED = "flagged"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


class Row(Strict):
    """What one check says of one variable; ``cells`` are (lead_time in hours, member, level)."""

    check: str
    variable: str
    score: float
    weight: float
    fatal: bool
    sentence: str
    faults: int
    cells: tuple[tuple[int, int | None, float | None], ...] = ()

    @property
    def counted(self) -> float:
        """The score as it counts: score ** weight."""
        return self.score**self.weight


class Verdict(Strict):
    """State, score between 0 and 1, the reasons (worst first) and what every check said of every variable."""

    state: State
    score: float
    reasons: tuple[str, ...]
    table: tuple[Row, ...]

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


def judge(findings: Sequence[Finding], config: CheckConfig) -> Verdict:
    """A verdict from the findings on all variables of a run.

    The score is the smallest of ``score ** weight`` over all findings. A run is no better than its worst
    variable: a mean over twenty variables and ten checks would give 0.995 to a run with one check failed
    completely, and publish it.

    Any fatal finding: rejected. Else ``score >= accept_above``: accepted; ``score >= flag_above``: flagged;
    below: quarantined. No finding at all is quarantined, with score 0: nothing was checked.
    """
    rows = tuple(_row(finding) for finding in sorted(findings, key=lambda f: (f.variable, f.check, f.sentence)))
    if not rows:
        return Verdict(state=State.QUARANTINED, score=0.0, reasons=("Nothing was checked.",), table=())
    score = min(row.counted for row in rows)
    faults = [row for row in rows if row.score < 1 or row.fatal]
    faults.sort(key=lambda row: (not row.fatal, row.counted, row.variable, row.check))
    return Verdict(
        state=_state(score, any(row.fatal for row in rows), config),
        score=score,
        reasons=tuple(f"{row.check}: {row.sentence}" for row in faults),
        table=rows,
    )


def _state(score: float, fatal: bool, config: CheckConfig) -> State:
    if fatal:
        return State.REJECTED
    if score >= config.accept_above:
        return State.ACCEPTED
    return State.FLAGGED if score >= config.flag_above else State.QUARANTINED


def _row(finding: Finding) -> Row:
    return Row(
        check=finding.check,
        variable=finding.variable,
        score=min(1.0, max(0.0, float(finding.score))),
        weight=finding.weight,
        fatal=finding.fatal,
        sentence=finding.sentence,
        faults=len(finding.cells),
        cells=tuple((c.lead_time, c.member, c.level) for c in finding.cells[:KEPT_CELLS]),
    )
