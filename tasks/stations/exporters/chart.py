"""A chart a station: a year of its main quantities, with what quality control doubts and what is missing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ..limits import ColumnName
from ..schema import FAIL, SUSPECT, UNITS
from .exporter import StationExporter, StationYear, Year, exporters

if TYPE_CHECKING:
    import polars as pl

_LINE, _BAD, _DOUBT, _GAP = "#2b6cb0", "#c53030", "#d69e2e", "#e2e8f0"
_ADDED = ("precipitation", "precipitation_duration", "sunshine_duration", "radiation")


@exporters.register("chart")
class Chart(StationExporter):
    """``<station>-<year>.png``: a panel for each column; grey where there is no value, red and yellow points for
    failed and suspect ones. Sums are drawn per day."""

    columns: tuple[ColumnName, ...] = Field(
        default=("temperature", "pressure", "wind_speed", "precipitation", "radiation"), min_length=1
    )
    width: float = Field(default=11.0, gt=2, description="Inches.")

    def render(self, year: Year, folder: Path) -> list[Path]:
        paths = []
        for station in year.stations:
            if station.silver is not None:
                path = folder / f"{station.station}-{year.year}.png"
                path.write_bytes(self._draw(year, station, station.silver))
                paths.append(path)
        return paths

    def _draw(self, year: Year, station: StationYear, table: pl.DataFrame) -> bytes:
        # The object interface and the Agg canvas: pyplot keeps state that threads would share.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure

        shown = [c for c in self.columns if table[c].null_count() < table.height] or list(self.columns[:1])
        figure = Figure(figsize=(self.width, 0.7 + 1.5 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        rows = (
            year.expected.alias("timestamp").to_frame().join(table, on="timestamp", how="left", maintain_order="left")
        )
        times = rows["timestamp"].dt.replace_time_zone(None).to_numpy()
        for axis, name in zip(axes, shown, strict=True):
            _panel(axis, name, times, rows, np.timedelta64(year.step, "m"))
        locator = AutoDateLocator()
        axes[-1].xaxis.set_major_locator(locator)
        axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes[-1].set_xlim(times[0], times[-1])
        score = float(table["quality_score"].mean() or 0)  # type: ignore[arg-type]
        figure.suptitle(
            f"{station.name.title()} ({station.station}), {year.year}    {table.height:,} of {len(rows):,} rows, "
            f"mean quality {score:.3f}    {year.attribution}", fontsize=10, x=0.01, ha="left",
        )  # fmt: skip
        buffer = BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()


def _panel(axis: Any, name: str, times: np.ndarray, rows: pl.DataFrame, step: np.timedelta64) -> None:
    values = rows[name].to_numpy()
    flags = rows["quality_flags"].struct.field(name).fill_null(9).to_numpy()
    missing = np.isnan(values)
    said: list[tuple[str, str]] = []
    for start, stop in _stretches(missing):
        axis.axvspan(times[start], times[min(stop, len(times) - 1)], color=_GAP, lw=0, zorder=0)
    if name in _ADDED:
        # A timestamp marks the end of its interval: midnight belongs to the day before.
        days = (times - step).astype("datetime64[D]")
        first = np.flatnonzero(np.r_[True, days[1:] != days[:-1]])
        sums = np.add.reduceat(np.nan_to_num(values), first)
        # One outline: a bar a day is 366 patches, and takes seconds.
        axis.fill_between(days[first], sums, step="post", color=_LINE, lw=0)
        unit = f"{UNITS[name]} / day"
    else:
        axis.plot(times, values, color=_LINE, lw=0.6)
        for flag, colour, label in ((SUSPECT, _DOUBT, "suspect"), (FAIL, _BAD, "failed")):
            here = (flags == flag) & ~missing
            if here.any():
                axis.plot(times[here], values[here], ".", ms=4, color=colour)
                said.append((f"{here.sum():,} {label}", colour))
        for place, (text, colour) in enumerate(said):
            axis.text(
                1 - 0.12 * place, 1.0, text, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=colour
            )
        unit = UNITS[name]
    axis.set_ylabel(f"{name.replace('_', ' ')}\n{unit}", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.margins(y=0.08)
    axis.set_axisbelow(True)
    axis.grid(axis="y", color="#edf2f7", lw=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and past-the-last index of every stretch that is true."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False].astype("int8")))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
