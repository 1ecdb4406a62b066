"""Quality control of one station's series: five families of checks, a QARTOD flag for every value.

Flags: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing (Manual for the Use of Real-Time Oceanographic Data
Quality Control Flags, IOOS 2020). Tolerances of change with time are those of WMO (1993). All of it is Polars
expressions over whole columns; every row is one expected time.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from .limits import Flat, Implies, NotAbove, Quality, Range, Rule
from .prepare import NO_DIRECTION, TRACE
from .schema import FAIL, GOOD, MISSING, NAMES, NOT_EVALUATED, SUSPECT

if TYPE_CHECKING:
    import polars as pl

FAMILIES = ("range", "step", "flat", "consistency", "neighbours")
"""The five families; a value's flag is the worst of theirs."""

_WORTH = {GOOD: 1.0, NOT_EVALUATED: 1.0, SUSPECT: 0.5, FAIL: 0.0}


def assess(
    table: "pl.DataFrame", limits: Quality, every: int, buddies: "Mapping[str, pl.Series] | None" = None
) -> "pl.DataFrame":
    """Flags of a prepared table (`prepare.prepared`), UInt8: ``<family>:<column>`` for every check that was made.

    ``every`` is minutes between rows. ``buddies`` holds, per column, what the neighbours say at each time: their
    median, null where there are too few. 1 is good, 3 suspect, 4 fail; null where the check could not judge.
    """
    import polars as pl

    hour = 60 / every
    present = [n for n in NAMES if table[n].null_count() < table.height]
    flags = table.select(*_ranges(present, limits.ranges), *_spikes(present, limits, hour))
    # Steps are looked for among what is not known to be wrong: else a spike marks the values around it.
    bad = _bad(flags, present)
    kept = table.with_columns(pl.when(~pl.lit(bad[n])).then(pl.col(n)).alias(n) for n in bad)
    steps = kept.select(_steps(present, limits, hour))
    flats = pl.DataFrame([_flat(table[n], limits.flat[n], hour) for n in present if n in limits.flat])
    rules = table.select(_rules(present, limits.consistency))
    near = pl.DataFrame(
        [
            _buddy(table[n], series, limits.neighbours.tolerance[n])
            for n, series in (buddies or {}).items()
            if limits.neighbours is not None and n in present and n in limits.neighbours.tolerance
        ]
    )
    parts = [_worst_of_steps(flags, steps, present), flats, rules, near]
    made = [p for p in parts if p.width]
    return pl.concat(made, how="horizontal") if made else pl.DataFrame()


def flagged(table: "pl.DataFrame", checks: "pl.DataFrame") -> "pl.DataFrame":
    """The table with ``quality_flags`` (a struct, one UInt8 a column) and ``quality_score`` (Float32, 0 to 1).

    A value's flag is the worst of its checks; 2 where none judged, and for a direction that does not exist; 9 without
    a value. The score of a row is the mean over its values of 1 (good or not evaluated), 0.5 (suspect) and 0 (fail);
    0 for a row without any.
    """
    import polars as pl

    by_column: dict[str, list[str]] = {}
    for name in checks.columns:
        by_column.setdefault(name.partition(":")[2], []).append(name)
    both = pl.concat([table, checks], how="horizontal") if checks.width else table
    flags = both.select(_flag(name, by_column.get(name, [])).alias(name) for name in NAMES)
    worth = flags.select(
        pl.col(n).replace_strict(_WORTH, default=None, return_dtype=pl.Float32).alias(n) for n in NAMES
    )
    score = worth.select(pl.mean_horizontal(NAMES, ignore_nulls=True).fill_null(0.0).cast(pl.Float32)).to_series()
    return table.with_columns(score.alias("quality_score"), flags.to_struct("quality_flags"))


def _flag(name: str, checks: list[str]) -> "pl.Expr":
    import polars as pl

    judged = pl.max_horizontal(checks) if checks else pl.lit(None, pl.UInt8)
    value = pl.when(pl.col(name).is_not_null()).then(judged.fill_null(NOT_EVALUATED))
    if name == "wind_direction":
        value = value.when(pl.col(NO_DIRECTION)).then(NOT_EVALUATED)
    return value.otherwise(MISSING).cast(pl.UInt8)


def _marks(name: str, fail: "pl.Expr | None", suspect: "pl.Expr | None") -> "pl.Expr":
    """1, 3 or 4 by what is true of a value; null where there is no value or nothing to compare it with."""
    import polars as pl

    known = [e for e in (fail, suspect) if e is not None]
    flag = pl.when(pl.any_horizontal([e.is_null() for e in known])).then(None)
    if fail is not None:
        flag = flag.when(fail).then(FAIL)
    if suspect is not None:
        flag = flag.when(suspect).then(SUSPECT)
    return flag.otherwise(GOOD).cast(pl.UInt8).alias(name)


def _ranges(present: Iterable[str], ranges: Mapping[str, Range]) -> "list[pl.Expr]":
    import polars as pl

    def outside(name: str, low: float, high: float) -> pl.Expr:
        return (pl.col(name) < low) | (pl.col(name) > high)

    return [
        _marks(f"range:{n}", outside(n, *ranges[n].fail), outside(n, *(ranges[n].suspect or ranges[n].fail)))
        for n in present
        if n in ranges
    ]


def _rows(hours: float, hour: float) -> int:
    return round(hours * hour)


def _spikes(present: Iterable[str], limits: Quality, hour: float) -> "list[pl.Expr]":
    """A value that is off both its neighbours in time, in the same direction, by more than the shortest tolerance."""
    import polars as pl

    made = []
    for name in present:
        if name not in limits.steps:
            continue
        hours, tolerance = min(limits.steps[name].items())
        value, rows = pl.col(name), max(1, _rows(hours, hour))
        before, after = value - value.shift(rows), value - value.shift(-rows)
        spike = ((before > tolerance) & (after > tolerance)) | ((before < -tolerance) & (after < -tolerance))
        made.append(_marks(f"spike:{name}", spike, None))
    return made


def _steps(present: Iterable[str], limits: Quality, hour: float) -> "list[pl.Expr]":
    """A change over any of the hours that is larger than its tolerance."""
    import polars as pl

    made = []
    for name in present:
        tolerances = limits.steps.get(name, {})
        changes = [
            (pl.col(name) - pl.col(name).shift(_rows(h, hour))).abs() > tolerance
            for h, tolerance in tolerances.items()
            if _rows(h, hour) >= 1
        ]
        if changes:
            # A change that cannot be seen, because a value is missing, is none.
            made.append(_marks(f"step:{name}", None, pl.any_horizontal([c.fill_null(False) for c in changes])))
    return made


def _bad(flags: "pl.DataFrame", present: Iterable[str]) -> "dict[str, pl.Series]":
    """Column -> where its value fails by itself."""
    import polars as pl

    found = {}
    for name in present:
        mine = [c for c in (f"range:{name}", f"spike:{name}") if c in flags.columns]
        if mine:
            found[name] = flags.select((pl.max_horizontal(mine) == FAIL).fill_null(False)).to_series()
    return found


def _worst_of_steps(flags: "pl.DataFrame", steps: "pl.DataFrame", present: Iterable[str]) -> "pl.DataFrame":
    """Ranges as they are, spikes and steps as one family."""
    import polars as pl

    both = pl.concat([flags, steps], how="horizontal") if steps.width else flags
    ranges = [pl.col(c) for c in flags.columns if c.startswith("range:")]
    changes = [
        pl.max_horizontal([c for c in (f"spike:{n}", f"step:{n}") if c in both.columns]).alias(f"step:{n}")
        for n in present
        if f"step:{n}" in both.columns or f"spike:{n}" in both.columns
    ]
    return both.select(*ranges, *changes) if ranges or changes else pl.DataFrame()


def _flat(values: "pl.Series", limit: Flat, hour: float) -> "pl.Series":
    """Runs of the same value that are too long; a value that is missing ends a run."""
    import polars as pl

    there = values.to_numpy()
    begins = np.flatnonzero(np.r_[True, ~(np.abs(np.diff(there)) <= limit.within)])
    lengths = np.diff(np.r_[begins, len(there)])
    length = np.repeat(lengths, lengths)
    length[np.isin(there, limit.unless)] = 0
    flag = np.where(length >= _rows(limit.suspect, hour), SUSPECT, GOOD).astype("uint8")
    if limit.fail is not None:
        flag[length >= _rows(limit.fail, hour)] = FAIL
    return pl.select(
        pl.when(pl.lit(values.is_not_null())).then(pl.lit(pl.Series(flag))).alias(f"flat:{values.name}")
    ).to_series()


def _rules(present: Iterable[str], rules: Iterable[Rule]) -> "list[pl.Expr]":
    """Both columns of a rule are flagged where it is broken: it does not say which is wrong."""
    import polars as pl

    broken: dict[str, list[pl.Expr]] = {}
    there = set(present)
    for rule in rules:
        names, wrong = _broken(rule)
        if set(names) <= there:
            flag = pl.when(wrong.is_null()).then(None).when(wrong).then(rule.flag).otherwise(GOOD).cast(pl.UInt8)
            for name in names:
                broken.setdefault(name, []).append(flag)
    return [pl.max_horizontal(flags).alias(f"consistency:{name}") for name, flags in broken.items()]


def _broken(rule: Rule) -> "tuple[tuple[str, str], pl.Expr]":
    import polars as pl

    if isinstance(rule, NotAbove):
        return (rule.lower, rule.upper), pl.col(rule.lower) > pl.col(rule.upper) + rule.within
    one, other = pl.col(rule.one) > 0, pl.col(rule.other) > 0
    if isinstance(rule, Implies):
        return (rule.one, rule.other), one & ~other
    # A trace has a duration, but its amount was set to 0.
    return (rule.one, rule.other), (one != other) & ~pl.col(TRACE)


def _buddy(values: "pl.Series", others: "pl.Series", tolerance: float) -> "pl.Series":
    import polars as pl

    apart = (values - others).abs() > tolerance
    frame = pl.DataFrame({"apart": apart})
    return frame.select(_marks(f"neighbours:{values.name}", None, pl.col("apart"))).to_series()
