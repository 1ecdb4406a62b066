"""What an exporter of station data is: a year of published observations in, files a user takes away out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ...lake.recipe import Name
from ...lake.registry import Plugin, Registry

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class StationYear:
    """What exporters are given of one station and year.

    ``silver`` is the published table (`schema.silver_schema`), None when the year is held back; ``refined`` what the
    provider gave, by the provider's names. ``asked`` has the timestamps that finished requests cover (``timestamp``,
    ``_asked`` true). ``measured`` are the provider's parameters of the station, None where it does not say.
    """

    station: str
    name: str
    latitude: float
    longitude: float
    height: float | None
    silver: pl.DataFrame | None
    refined: pl.DataFrame | None
    asked: pl.DataFrame
    measured: frozenset[str] | None = None
    held: str | None = None


@dataclass(frozen=True)
class Year:
    """A year of a recipe's stations. ``step`` is minutes between timestamps; ``parameters`` column -> provider's name;
    ``expected`` every timestamp that there should be by now."""

    recipe: str
    year: int
    title: str
    attribution: str
    step: int
    parameters: Mapping[str, str]
    expected: pl.Series
    stations: tuple[StationYear, ...]


class StationExporter(Plugin):
    """Turns one year into files. Registers with ``@exporters.register(name)``; its fields are the keys of an entry of
    the recipe's ``exports``."""

    name: Name = Field(description="Name of the export: its folder in the lake's exports zone.")

    @abstractmethod
    def render(self, year: Year, folder: Path) -> list[Path]:
        """Write the product into ``folder`` and name the files made. The same input gives the same bytes."""


exporters: Registry[StationExporter] = Registry("station exporter", "tasks.stations.exporters")
