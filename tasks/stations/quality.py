"""Quality control of one station's series: five families of checks, a QARTOD flag for every value.

Flags: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing (Manual for the Use of Real-Time Oceanographic Data
Quality Control Flags, IOOS 2020). Tolerances of change with time are those of WMO (1993). Every row is one expected
time. All of it is numpy over whole columns, NaN for null: on a year of hours an expression of Polars costs several
times what the arithmetic does.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from .limits import Flat, Implies, NotAbove, Quality, Range, Rule
from .prepare import NO_DIRECTION, TRACE
from .schema import FAIL, GOOD, MISSING, NAMES, NOT_EVALUATED, SUSPECT

if TYPE_CHECKING:
    import polars as pl

FAMILIES = ("range", "step", "flat", "consistency", "neighbours")
"""The five families; a value's flag is the worst of theirs."""

UNJUDGED = 0
"""In the place of a flag where a check could not judge: below all of them, so that the worst of several is their
maximum."""

type Flags = np.ndarray
"""uint8, a flag or `UNJUDGED` for each row."""
type Values = np.ndarray
"""float64, NaN for null, for each row."""


def assess(
    table: "pl.DataFrame", limits: Quality, every: int, buddies: "Mapping[str, Values] | None" = None
) -> dict[str, Flags]:
    """Flags of a prepared table (`prepare.prepared`): ``<family>:<column>`` for every check that was made.

    ``every`` is minutes between rows. ``buddies`` holds, per column, what the neighbours say at each time: their
    median, NaN where there are too few. 1 is good, 3 suspect, 4 fail; `UNJUDGED` where the check could not judge.
    """
    hour = 60 / every
    values = {c.name: c.to_numpy() for c in table.select(NAMES).get_columns() if c.null_count() < table.height}
    there = {n: ~np.isnan(v) for n, v in values.items()}
    checks: dict[str, Flags] = {}
    for name, series in values.items():
        bad = []
        if name in limits.ranges:
            checks[f"range:{name}"] = _range(series, there[name], limits.ranges[name])
            bad.append(checks[f"range:{name}"] == FAIL)
        if name in limits.steps:
            spikes = _spikes(series, limits.steps[name], hour)
            bad.append(spikes == FAIL)
            # Steps are looked for among what is not known to be wrong: else a spike marks the values around it.
            steps = _steps(np.where(np.logical_or.reduce(bad), np.nan, series), limits.steps[name], hour)
            checks[f"step:{name}"] = spikes if steps is None else np.maximum(spikes, steps)
        if name in limits.flat:
            checks[f"flat:{name}"] = _flat(series, there[name], limits.flat[name], hour)
    checks |= _rules(values, there, table[TRACE].to_numpy(), limits.consistency)
    near = limits.neighbours.tolerance if limits.neighbours is not None else {}
    for name, others in (buddies or {}).items():
        if name in near and name in values:
            known = there[name] & ~np.isnan(others)
            checks[f"neighbours:{name}"] = _marks(known, np.abs(values[name] - others) > near[name])
    return checks


def flagged(table: "pl.DataFrame", checks: Mapping[str, Flags]) -> "pl.DataFrame":
    """The table with ``quality_flags`` (a struct, one UInt8 a column) and ``quality_score`` (Float32, 0 to 1).

    A value's flag is the worst of its checks; 2 where none judged, and for a direction that does not exist; 9 without
    a value. The score of a row is the mean over its values of 1 (good or not evaluated), 0.5 (suspect) and 0 (fail);
    0 for a row without any.
    """
    import polars as pl

    flags = np.empty((len(NAMES), table.height), "uint8")
    for row, column in zip(flags, table.select(NAMES).get_columns(), strict=True):
        name, there = column.name, ~np.isnan(column.to_numpy())
        judged = worst(checks, name)
        sound = NOT_EVALUATED if judged is None else np.where(judged == UNJUDGED, np.uint8(NOT_EVALUATED), judged)
        row[:] = np.where(there, sound, MISSING)
        if name == "wind_direction":
            row[~there & table[NO_DIRECTION].to_numpy()] = NOT_EVALUATED
    count = (flags != MISSING).sum(axis=0, dtype="uint8")
    halves = 2 * (flags <= NOT_EVALUATED).sum(axis=0, dtype="uint8") + (flags == SUSPECT).sum(axis=0, dtype="uint8")
    score = halves / (2 * np.maximum(count, 1)).astype("float32")
    struct = pl.DataFrame(dict(zip(NAMES, flags, strict=True))).to_struct("quality_flags")
    return table.with_columns(pl.Series("quality_score", score, dtype=pl.Float32), struct)


def worst(checks: Mapping[str, Flags], name: str) -> Flags | None:
    """The worst flag of each value of a column; None when no check was made of it."""
    mine = [checks[key] for family in FAMILIES if (key := f"{family}:{name}") in checks]
    return reduce(np.maximum, mine) if mine else None


def _marks(known: np.ndarray, suspect: np.ndarray, flag: int = SUSPECT) -> Flags:
    """GOOD or ``flag`` by what is true of a value, where it is known."""
    return np.where(known, np.where(suspect, np.uint8(flag), np.uint8(GOOD)), np.uint8(UNJUDGED))


def _range(values: Values, there: np.ndarray, limit: Range) -> Flags:
    (low, high), (least, most) = limit.fail, limit.suspect or limit.fail
    flag = there.astype("uint8")
    flag[(values < least) | (values > most)] = SUSPECT
    flag[(values < low) | (values > high)] = FAIL
    return flag


def _rows(hours: float, hour: float) -> int:
    return round(hours * hour)


def _spikes(values: Values, steps: Mapping[float, float], hour: float) -> Flags:
    """A value that is off both its neighbours in time, in the same direction, by more than the shortest tolerance."""
    hours, tolerance = min(steps.items())
    rows = max(1, _rows(hours, hour))
    before, after = np.full((2, len(values)), np.nan)
    before[rows:] = values[rows:] - values[:-rows]
    after[:-rows] = -before[rows:]
    no_before, no_after = np.isnan(before), np.isnan(after)
    off_before, off_after = np.abs(before) > tolerance, np.abs(after) > tolerance
    flag = np.where(off_before & off_after & ((before > 0) == (after > 0)), np.uint8(FAIL), np.uint8(GOOD))
    # One neighbour is enough to see that a value is no spike; not to see that it is one.
    flag[(no_before & (no_after | off_after)) | (no_after & off_before)] = UNJUDGED
    return flag


def _steps(values: Values, steps: Mapping[float, float], hour: float) -> Flags | None:
    """A change over any of the hours that is larger than its tolerance; None when all are shorter than a row."""
    apart = [(rows, tolerance) for hours, tolerance in steps.items() if (rows := _rows(hours, hour)) >= 1]
    if not apart:
        return None
    flag = np.full(len(values), GOOD, "uint8")
    for rows, tolerance in apart:
        # A change that cannot be seen, because a value is missing, is none.
        flag[rows:][np.abs(values[rows:] - values[:-rows]) > tolerance] = SUSPECT
    return flag


def _flat(values: Values, there: np.ndarray, limit: Flat, hour: float) -> Flags:
    """Runs of the same value that are too long; a value that is missing ends a run."""
    begins = np.flatnonzero(np.r_[True, ~(np.abs(np.diff(values)) <= limit.within)])
    lengths = np.diff(np.r_[begins, len(values)])
    marks = np.full(len(lengths), GOOD, "uint8")
    marks[lengths >= _rows(limit.suspect, hour)] = SUSPECT
    if limit.fail is not None:
        marks[lengths >= _rows(limit.fail, hour)] = FAIL
    flag = np.repeat(marks, lengths)
    if limit.unless and marks.max() > GOOD:
        flag[np.isin(values, limit.unless)] = GOOD
    flag[~there] = UNJUDGED
    return flag


def _rules(
    values: Mapping[str, Values], there: Mapping[str, np.ndarray], trace: np.ndarray, rules: Iterable[Rule]
) -> dict[str, Flags]:
    """Both columns of a rule are flagged where it is broken: it does not say which is wrong."""
    broken: dict[str, Flags] = {}
    for rule in rules:
        names = (rule.lower, rule.upper) if isinstance(rule, NotAbove) else (rule.one, rule.other)
        if not set(names) <= set(values):
            continue
        (one, other), (has_one, has_other) = [values[n] for n in names], [there[n] for n in names]
        if isinstance(rule, NotAbove):
            known, wrong = has_one & has_other, one > other + rule.within
        elif isinstance(rule, Implies):
            # It holds where one is 0 or the other is not, whatever is missing of the pair.
            known, wrong = (has_one | (other > 0)) & (has_other | ~(one > 0)), (one > 0) & ~(other > 0)
        else:
            # A trace has a duration, but its amount was set to 0.
            known, wrong = (has_one & has_other) | trace, ((one > 0) != (other > 0)) & ~trace
        flag = _marks(known, wrong, rule.flag)
        for name in names:
            key = f"consistency:{name}"
            broken[key] = np.maximum(broken[key], flag) if key in broken else flag
    return broken
