"""CSV: one file a station."""

from pathlib import Path

from pydantic import Field

from .exporter import StationExporter, Year, exporters


@exporters.register("csv")
class Csv(StationExporter):
    """``<station>-<year>.csv``: RFC 4180, UTF-8, times as ISO 8601 in UTC, an empty field for no value."""

    flags: bool = Field(default=True, description="A column <name>_flag after each value.")

    def render(self, year: Year, folder: Path) -> list[Path]:
        import polars as pl

        paths = []
        for station in year.stations:
            if station.silver is None:
                continue
            columns = list(year.parameters)
            values = [
                c
                for name in columns
                for c in (
                    pl.col(name),
                    *([pl.col("quality_flags").struct.field(name).alias(f"{name}_flag")] if self.flags else []),
                )
            ]
            rows = station.silver.select("timestamp", "station_id", *values, pl.col("quality_score").round(4))
            path = folder / f"{station.station}-{year.year}.csv"
            rows.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%SZ")
            paths.append(path)
        return paths
