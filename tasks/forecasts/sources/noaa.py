"""What NOAA's models have in common: public buckets, runs by the hour, an index that wgrib2 made."""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

import pyarrow as pa

from ...lake.errors import UsageError
from ..noaa_index import read_noaa
from .eras import Eras, Steps, by_hour, era_of, hours_after
from .source import Source, SourceFile

SIX_HOURLY = (0, 6, 12, 18)
"""Hours of the day (UTC) at which the global models start."""


class Noaa(Source):
    """Base of NOAA's models. A model says where its files are and which steps it has at which hour of the day."""

    mirrors: tuple[str, ...]

    latencies: ClassVar[tuple[tuple[int, float], ...]]
    """Steps and the hours after the initialisation time at which they are usually there."""

    @abstractmethod
    def schedule(self) -> Eras[dict[Sequence[int], Steps]]:
        """Steps (h) of a complete run by the hour of the day, era by era."""

    @abstractmethod
    def keys(self, run: datetime, step: int) -> Sequence[tuple[str, int | None]]:
        """The GRIB files of a step and the member each belongs to, None for a single run."""

    @property
    def _what(self) -> str:
        return f"NOAA {self.type.upper()}"

    def roots(self) -> tuple[str, ...]:
        return self.mirrors

    def steps(self, run: datetime) -> tuple[int, ...]:
        return by_hour(self.schedule().at(run, self._what), run, self._what)

    def files(self, root: str, run: datetime, step: int) -> Sequence[SourceFile]:
        del root
        steps = self.steps(run)
        if step not in steps:
            raise UsageError(
                f"{self._what} {run:%Y-%m-%dT%H} has no step {step}", expected=f"one of {len(steps)} up to {steps[-1]}"
            )
        return [SourceFile(key, f"{key}.idx", step, member) for key, member in self.keys(run, step)]

    def parse(self, file: SourceFile, run: datetime, index: bytes, size: int | None) -> pa.Table:
        where = file.index_url or file.url
        return read_noaa(index, url=file.url, where=where, run=run, step=file.step, member=file.member, size=size)

    def era(self, run: datetime) -> str:
        return era_of(run, self.schedule())

    def latency(self, step: int) -> float:
        return hours_after(self.latencies, step)
