"""The gap report: what is missing, when, and why."""

from pathlib import Path

import orjson

from ..gaps import REASONS, gaps
from .exporter import StationExporter, Year, exporters


@exporters.register("gaps")
class Gaps(StationExporter):
    """``gaps.csv``: a row for every run of missing values with its reason; ``summary.json``: shares by station and
    column."""

    def render(self, year: Year, folder: Path) -> list[Path]:
        import polars as pl

        found = pl.concat([gaps(year, s) for s in year.stations]) if year.stations else None
        if found is None:
            return []
        rows = folder / "gaps.csv"
        found.write_csv(rows, datetime_format="%Y-%m-%dT%H:%M:%SZ")
        by_reason = found.group_by("station_id", "reason").agg(pl.col("count").sum()).sort("station_id", "reason")
        summary = {
            "recipe": year.recipe,
            "year": year.year,
            "expected_per_column": len(year.expected),
            "columns": list(year.parameters),
            "reasons": REASONS,
            "missing": by_reason.rows(named=True),
            "held": {s.station: s.held for s in year.stations if s.held is not None},
        }
        path = folder / "summary.json"
        path.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        return [rows, path]
