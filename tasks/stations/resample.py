"""Observations combined to longer intervals, with the operator that each quantity asks for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .recipe import Resample
from .schema import NAMES, OPERATORS

if TYPE_CHECKING:
    import polars as pl

_MINUTES = {"1h": 60, "1d": 1440}
_CALM = 0.05
"""Mean wind vectors shorter than this (m/s) have no direction."""


def minutes(spec: Resample) -> int:
    """Length of the longer interval."""
    return _MINUTES[spec.to]


def resampled(silver: "pl.DataFrame", spec: Resample, every: int) -> "pl.DataFrame":
    """Silver rows of one station as rows of longer intervals, stamped like them with the END of the interval.

    Timestamps mark ends, so the interval that ends at T takes the rows with ``T - to < timestamp <= T``: for a day the
    hours 01:00 to 24:00. A value is null where less than ``spec.complete`` of its rows have one. Values with a flag of
    ``spec.without`` count as missing. Columns: ``timestamp``, the measured columns, and ``rows``.

    Means, sums, extremes and last values by `schema.OPERATORS`. The wind's direction is that of the mean of the vectors
    (speed and direction together; WMO-No. 8, part I, chapter 5), null where that vector is shorter than 0.05 m/s.
    """
    import polars as pl

    flags = pl.col("quality_flags")
    kept = silver.select(
        "timestamp",
        *[
            pl.when(flags.struct.field(n).is_in(list(spec.without))).then(None).otherwise(pl.col(n)).alias(n)
            for n in NAMES
        ],
    ).sort("timestamp")
    radians = pl.col("wind_direction").radians()
    kept = kept.with_columns(
        # A calm has no direction, but it is a vector of length 0.
        _u=pl.when(pl.col("wind_speed") == 0).then(0.0).otherwise(pl.col("wind_speed") * radians.sin()),
        _v=pl.when(pl.col("wind_speed") == 0).then(0.0).otherwise(pl.col("wind_speed") * radians.cos()),
    )
    expected = minutes(spec) // every
    least = spec.complete * expected
    grouped = kept.group_by_dynamic("timestamp", every=spec.to, closed="right", label="right").agg(
        *[_enough(pl.col(n), _combined(n), least).alias(n) for n in NAMES if n != "wind_direction"],
        _enough(pl.col("_u"), pl.col("_u").mean(), least).alias("_u"),
        _enough(pl.col("_v"), pl.col("_v").mean(), least).alias("_v"),
        pl.len().cast(pl.UInt32).alias("rows"),
    )
    u, v = pl.col("_u"), pl.col("_v")
    direction = (pl.arctan2(u, v).degrees() + 360) % 360
    long_enough = (u**2 + v**2).sqrt() >= _CALM
    return grouped.with_columns(wind_direction=pl.when(long_enough).then(direction)).select("timestamp", *NAMES, "rows")


def _combined(name: str) -> "pl.Expr":
    import polars as pl

    column = pl.col(name)
    match OPERATORS[name]:
        case "sum":
            return column.sum()
        case "min":
            return column.min()
        case "max":
            return column.max()
        case "last":
            return column.drop_nulls().last()
        case _:
            return column.mean()


def _enough(column: "pl.Expr", combined: "pl.Expr", least: float) -> "pl.Expr":
    import polars as pl

    return pl.when(column.count() >= least).then(combined)


def joined(tables: "Sequence[pl.DataFrame]") -> "pl.DataFrame":
    """Tables of the same columns, one after the other in time."""
    import polars as pl

    return pl.concat(tables).sort("timestamp")
