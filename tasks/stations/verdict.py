"""What quality control says of a station's year, in the words that runs of a forecast are judged with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..checks.verdict import State
from ..lake.registry import Strict
from .limits import Quality
from .quality import FAMILIES, Flags, worst
from .schema import FAIL, NAMES, SUSPECT

if TYPE_CHECKING:
    import polars as pl


class Row(Strict):
    """What one family of checks says of one column."""

    family: str
    column: str
    score: float
    values: int
    failed: int
    suspect: int


class StationVerdict(Strict):
    """State, score between 0 and 1, the reasons (worst first) and what every family said of every column."""

    state: State
    score: float
    outliers: float
    missing: float
    reasons: tuple[str, ...]
    table: tuple[Row, ...]

    @property
    def published(self) -> bool:
        """Whether the year's rows become silver."""
        return self.state in (State.ACCEPTED, State.FLAGGED)


def verdict(table: "pl.DataFrame", checks: Mapping[str, Flags], limits: Quality) -> StationVerdict:
    """The verdict on a prepared table of one station and year.

    For every family and column the score is the share of sound values, a suspect one counting half; the year is as good
    as its worst, and accepted, flagged or quarantined by the recipe's scale. Too many failed values are quarantined
    whatever the score; a year with too many missing ones is rejected.
    """
    rows = [_row(checks[k], f, n) for f in FAMILIES for n in NAMES if (k := f"{f}:{n}") in checks]
    score = min((row.score for row in rows), default=1.0)
    outliers, missing = _outliers(table, checks), _missing(table)
    worst = sorted((r for r in rows if r.score < limits.accept_above), key=lambda r: (r.score, r.family, r.column))
    reasons = [f"{r.column} {r.family}: {r.failed} failed and {r.suspect} suspect of {r.values} values" for r in worst]
    if outliers > limits.most_outliers:
        reasons.insert(0, f"{outliers:.1%} of the values failed, more than {limits.most_outliers:.0%}")
    if missing > limits.most_missing:
        reasons.insert(0, f"{missing:.1%} of the values are missing, more than {limits.most_missing:.0%}")
    if missing > limits.most_missing:
        state = State.REJECTED
    elif outliers > limits.most_outliers or score < limits.flag_above:
        state = State.QUARANTINED
    else:
        state = State.ACCEPTED if score >= limits.accept_above else State.FLAGGED
    return StationVerdict(
        state=state, score=score, outliers=outliers, missing=missing, reasons=tuple(reasons), table=tuple(rows)
    )


def _row(flags: Flags, family: str, name: str) -> Row:
    values = int(np.count_nonzero(flags))
    failed, suspect = int(np.count_nonzero(flags == FAIL)), int(np.count_nonzero(flags == SUSPECT))
    score = 1.0 - (failed + 0.5 * suspect) / values if values else 1.0
    return Row(family=family, column=name, score=score, values=values, failed=failed, suspect=suspect)


def _outliers(table: "pl.DataFrame", checks: Mapping[str, Flags]) -> float:
    """Share of the values that failed any check."""
    values = sum(table.height - c.null_count() for c in table.select(NAMES).get_columns())
    failed = sum(int(np.count_nonzero(flags == FAIL)) for n in NAMES if (flags := worst(checks, n)) is not None)
    return failed / values if values else 0.0


def _missing(table: "pl.DataFrame") -> float:
    """Share of missing values, of the columns that the station measures at all."""
    nulls = [c.null_count() for c in table.select(NAMES).get_columns()]
    measured = [n for n in nulls if n < table.height]
    cells = table.height * len(measured)
    return sum(measured) / cells if cells else 1.0
