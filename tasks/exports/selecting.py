"""Exporters that take a part of the cube: the keys which say what part, and the selection they mean."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import Field

from .box import Box
from .exporter import Exporter, Span, duration
from .selection import Selection, select

if TYPE_CHECKING:
    import xarray as xr


class Cutting(Exporter):
    """Takes variables, a box and lead times."""

    variables: tuple[str, ...] | None = Field(default=None, description="Variables to export; all when absent.")
    bbox: Box | None = Field(
        default=None, description="West, south, east, north in degrees; west > east crosses the date line."
    )
    steps: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="Lead times in hours; all when absent."
    )

    def selected(self, run: xr.Dataset) -> Selection:
        """What is exported of a run, or of several along ``init_time``. Raises ``UsageError`` for what is not there."""
        return select(run, self.variables, self.bbox, self.steps)


class Selecting(Cutting):
    """Takes members and levels, too."""

    members: tuple[int, ...] | None = Field(default=None, min_length=1, description="Members; all when absent.")
    levels: tuple[float, ...] | None = Field(
        default=None, min_length=1, description="Levels of variables that have several; all when absent."
    )

    def selected(self, run: xr.Dataset) -> Selection:
        return select(run, self.variables, self.bbox, self.steps, self.members, self.levels)


class Spanning(Selecting):
    """Takes the runs of some days, too."""

    runs: Span | None = Field(default=None, description="Takes the runs of so long a time (7d, 36h); one when absent.")

    @property
    def span(self) -> timedelta:
        return duration(self.runs) if self.runs is not None else timedelta(0)
