"""One Parquet file of the silver table: all stations of a year."""

from pathlib import Path

from .. import tables
from .exporter import StationExporter, Year, exporters


@exporters.register("parquet")
class Parquet(StationExporter):
    """``<recipe>-<year>.parquet``: rows of all stations, sorted by time and station."""

    def render(self, year: Year, folder: Path) -> list[Path]:
        import polars as pl

        published = [s.silver for s in year.stations if s.silver is not None]
        if not published:
            return []
        rows = pl.concat(published).unique(["timestamp", "station_id"], keep="last").sort("timestamp", "station_id")
        path = folder / f"{year.recipe}-{year.year}.parquet"
        path.write_bytes(tables.write(rows, {"title": year.title, "attribution": year.attribution}))
        return [path]
