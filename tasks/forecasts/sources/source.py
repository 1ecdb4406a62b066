"""What a forecast source is: where its runs lie, which steps they have, how its index reads."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from ...lake.registry import Plugin, Registry


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One GRIB file of a run at one step.

    ``url`` and ``index_url`` are keys relative to the root (mirror) that `Source.files` was asked for, without
    the root's query: the caller opens one store per root. ``index_url`` is None where the provider has no
    index and the file is scanned. ``member`` is the ensemble member every message of the file belongs to (0 is
    the control), or None when the index itself tells.
    """

    url: str
    index_url: str | None
    step: int
    member: int | None = None


class Source(Plugin):
    """A provider's archive of model runs. Registers with ``@sources.register(name)``; its fields are the
    keys of the recipe's ``source``."""

    @abstractmethod
    def roots(self) -> tuple[str, ...]:
        """Mirrors in order of preference: the URL prefixes that `files` can be asked for.

        ``file://``, ``https://`` or ``s3://``, the last with options as the objects layer knows them
        (``?region=eu-central-1&anonymous=true``). Empty for a source that generates its archive.
        """

    @abstractmethod
    def steps(self, run: datetime) -> tuple[int, ...]:
        """Lead times in hours that a complete run has, sorted, by the era ``run`` (UTC) is in.

        Raises ``UsageError`` for a run before the first era, or at an hour that has no run.
        """

    @abstractmethod
    def members(self, run: datetime) -> tuple[int, ...] | None:
        """Ensemble members of a complete run (0 is the control), or None for a single run."""

    @abstractmethod
    def files(self, root: str, run: datetime, step: int) -> Sequence[SourceFile]:
        """The files that together hold one step of a run, under the mirror ``root``."""

    @abstractmethod
    def parse(self, file: SourceFile, run: datetime, index: bytes, size: int | None) -> pa.Table:
        """An index as a table in `manifest.SCHEMA`, a row per field, in file order.

        ``size`` is the length of the GRIB file in bytes where the index cannot say where its last message
        ends (NOAA). Raises ``CorruptInput`` when the text is no index or belongs to another run or step.
        """

    def era(self, run: datetime) -> str:
        """The provider's era a run (UTC) is in, by the first run of it: within an era, runs hold the same fields."""
        del run
        return "all"

    def not_yet(self, run: datetime, param: str, level: float | None) -> str | None:
        """Why a run (UTC) cannot have a field: its era is before the field's. None when it can, or nothing is known."""
        del run, param, level
        return None

    def latency(self, step: int) -> float:
        """Hours after the initialisation time at which ``step`` is usually there."""
        return 8.0

    def generate(self, run: datetime) -> Iterator[tuple[str, bytes]]:
        """The archive of a run (UTC) as (key relative to the root, content), where the source makes its own (the
        demo); nothing for real providers. The same run gives the same bytes."""
        del run
        return iter(())


sources: Registry[Source] = Registry("source", "tasks.forecasts.sources")
