"""Gaps: which station, column and time is missing, and why."""

from typing import TYPE_CHECKING

from .exporters.exporter import StationYear, Year

if TYPE_CHECKING:
    import polars as pl

REASONS = {
    "not measured": "the provider names no such parameter for the station, or gave it no value all year",
    "not fetched": "no finished request covers the time: not asked for yet, or the request failed",
    "no row": "the provider was asked and gave no row for the time",
    "no value": "the provider gave a row whose value is null",
    "quarantined": "there is a value, and quality control held its row or its year back",
    "not refined": "the answer is there, but refine has not taken it yet",
}
"""Why values are missing, in the words of the report."""


def gaps(year: Year, station: StationYear) -> "pl.DataFrame":
    """Missing values of one station and year as runs: ``station_id, column, start, end, count, reason``.

    ``start`` and ``end`` are the first and last timestamp without a value; a run is as long as its reason is the same.
    """
    import polars as pl

    frame = year.expected.alias("timestamp").to_frame()
    frame = _with(frame, station.refined, sorted(set(year.parameters.values())), "_raw:")
    frame = _with(frame, station.silver, list(year.parameters), "_silver:")
    frame = frame.join(station.asked, on="timestamp", how="left", maintain_order="left").with_columns(
        pl.col("_asked").fill_null(False)
    )
    runs = []
    for column, parameter in year.parameters.items():
        reason = _reason(frame, station, column, parameter)
        marked = frame.select("timestamp", reason.alias("reason")).with_columns(run=pl.col("reason").rle_id())
        runs.append(
            marked.filter(pl.col("reason").is_not_null())
            .group_by("run", maintain_order=True)
            .agg(
                start=pl.col("timestamp").first(),
                end=pl.col("timestamp").last(),
                count=pl.len().cast(pl.UInt32),
                reason=pl.col("reason").first(),
            )
            .select(
                pl.lit(station.station).alias("station_id"),
                pl.lit(column).alias("column"),
                "start",
                "end",
                "count",
                "reason",
            )
        )
    return pl.concat(runs)


def _with(frame: "pl.DataFrame", table: "pl.DataFrame | None", columns: list[str], prefix: str) -> "pl.DataFrame":
    """Columns of a table beside the expected times, and whether it has the row."""
    import polars as pl

    if table is None:
        return frame.with_columns(
            pl.lit(False).alias(f"{prefix}row"), *[pl.lit(None, pl.Float64).alias(prefix + c) for c in columns]
        )
    there = [c for c in columns if c in table.columns]
    part = table.select(
        "timestamp", pl.lit(True).alias(f"{prefix}row"), *[pl.col(c).alias(prefix + c) for c in there],
        *[pl.lit(None, pl.Float64).alias(prefix + c) for c in columns if c not in there],
    )  # fmt: skip
    joined = frame.join(part, on="timestamp", how="left", maintain_order="left")
    return joined.with_columns(pl.col(f"{prefix}row").fill_null(False))


def _reason(frame: "pl.DataFrame", station: StationYear, column: str, parameter: str) -> "pl.Expr":
    import polars as pl

    raw, silver = pl.col(f"_raw:{parameter}"), pl.col(f"_silver:{column}")
    measured = station.measured is None or parameter in station.measured
    never = not measured or (
        station.refined is not None
        and frame[f"_raw:{parameter}"].null_count() == frame.height
        and bool(frame["_raw:row"].any())
    )
    special = raw.is_not_null() & pl.col("_silver:row")
    return (
        # A direction in a calm is no gap: the row is there, and its value says that there is none.
        pl.when(silver.is_not_null() | special).then(None)
        .when(pl.lit(never)).then(pl.lit("not measured"))
        .when(raw.is_not_null()).then(pl.lit("quarantined"))
        .when(pl.col("_raw:row")).then(pl.lit("no value"))
        .when(~pl.col("_asked")).then(pl.lit("not fetched"))
        .when(pl.lit(station.refined is None)).then(pl.lit("not refined"))
        .otherwise(pl.lit("no row"))
    )  # fmt: skip
