"""What an exporter is: published data in, files a user takes away out."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ..lake.recipe import Name
from ..lake.registry import Plugin, Registry

if TYPE_CHECKING:
    import xarray as xr


class Exporter(Plugin):
    """Turns one published run into files. Registers with ``@exporters.register(name)``; its fields are the
    keys of an entry of the recipe's ``exports``."""

    name: Name = Field(description="Name of the export: its folder in the lake's exports zone.")
    zone: str = Field(default="refined", description="What it reads: 'refined', or the name of a target grid.")

    @abstractmethod
    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        """Write the product of one run into ``folder`` and name the files made.

        ``run`` is one run of a cube, lazily opened: no ``init_time`` dimension but a scalar coordinate,
        dimensions ``lead_time [member] [level] latitude longitude`` (or ``y x`` with 2-D latitude and
        longitude), ``valid_time`` along ``lead_time``, CF attributes. Time is UTC throughout.
        The same input must give the same bytes. Raises ``UsageError`` when a field of the exporter does
        not fit the data (unknown variable, point outside the grid).
        """


exporters: Registry[Exporter] = Registry("exporter", "tasks.exports")
