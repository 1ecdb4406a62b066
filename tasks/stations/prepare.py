"""From the provider's table to the columns of the silver one: names, units, special values, every expected time."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from ..lake.errors import CorruptInput
from .recipe import Mapped
from .schema import NAMES

if TYPE_CHECKING:
    import polars as pl

NO_DIRECTION = "_no_direction"
TRACE = "_trace"
"""Columns beside the measured ones, bool: there is no direction (calm, variable); precipitation was only a trace."""


def prepared(table: "pl.DataFrame", columns: Mapping[str, Mapped], step: timedelta) -> "pl.DataFrame":
    """A refined table (``timestamp`` and the provider's parameters) as silver columns, before any check.

    ``columns`` are the recipe's, ``step`` the time between two rows. Columns that the recipe does not fill or the
    station does not measure are null. A trace of precipitation (RH -1) becomes 0; a direction that means calm (0) or
    variable (990) becomes null, and the row says so. One row for each expected time between the first and the last.
    Raises ``CorruptInput`` for times that are off the interval.
    """
    import polars as pl

    wanted: list[pl.Expr] = []
    nothing: dict[str, pl.Expr] = {NO_DIRECTION: pl.lit(False), TRACE: pl.lit(False)}
    for name in NAMES:
        mapped = columns.get(name)
        if mapped is None or mapped.parameter not in table.columns:
            wanted.append(pl.lit(None, pl.Float64).alias(name))
            continue
        raw = pl.col(mapped.parameter)
        wanted.append(_value(raw, mapped).alias(name))
        if mapped.calm is not None or mapped.variable is not None:
            nothing[NO_DIRECTION] = raw.is_in(_special(mapped)).fill_null(False)
        if mapped.trace is not None and name == "precipitation":
            nothing[TRACE] = (raw == mapped.trace).fill_null(False)
    made = table.select("timestamp", *wanted, *[e.alias(n) for n, e in nothing.items()])
    return _regular(made, step)


def _value(raw: "pl.Expr", mapped: Mapped) -> "pl.Expr":
    import polars as pl

    value = raw
    if mapped.trace is not None:
        value = pl.when(raw == mapped.trace).then(0.0).otherwise(value)
    if special := _special(mapped):
        value = pl.when(raw.is_in(special)).then(None).otherwise(value)
    return value * mapped.factor if mapped.factor != 1 else value


def _special(mapped: Mapped) -> list[float]:
    return [v for v in (mapped.calm, mapped.variable) if v is not None]


def _regular(table: "pl.DataFrame", step: timedelta) -> "pl.DataFrame":
    """The table with a row for every time between its first and last; those that were not there are null."""
    import polars as pl

    if table.is_empty():
        return table
    micros = int(step.total_seconds() * 1e6)
    off = np.flatnonzero(table["timestamp"].to_physical().to_numpy() % micros)
    if len(off):
        found = str(table["timestamp"][int(off[0])])
        raise CorruptInput("an observation lies between two times", expected=f"multiples of {step}", found=found)
    first, last = table["timestamp"][0], table["timestamp"][-1]
    if (last - first) // step + 1 == table.height:
        return table
    times = pl.datetime_range(first, last, step, time_unit="us", time_zone="UTC", eager=True).alias("timestamp")
    filled = times.to_frame().join(table, on="timestamp", how="left", maintain_order="left")
    return filled.with_columns(pl.col(NO_DIRECTION, TRACE).fill_null(False))
