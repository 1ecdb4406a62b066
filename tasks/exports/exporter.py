"""What an exporter is: published data in, files a user takes away out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from ..lake.lake import Lake
from ..lake.partition import Input, Output
from ..lake.recipe import Name
from ..lake.registry import Plugin, Registry
from .placing import place

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr
    import zarr

Span = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}[hd]$")]
"""A length of time as recipes write it: ``7d``, ``36h``."""


def duration(span: str) -> timedelta:
    """A `Span` as a length of time."""
    return timedelta(**{{"h": "hours", "d": "days"}[span[-1]]: int(span[:-1])})


class Source(ABC):
    """What the export phase hands to an exporter: one published run, those before it, and what they are made of."""

    lake: Lake
    scope: str
    """The run, as keys write it."""
    prefix: str
    """Where the files of this export go: ``exports/<recipe>/<run>/<name>``."""

    @abstractmethod
    def run(self) -> xr.Dataset:
        """The run of the exporter's zone, lazily opened: no ``init_time`` dimension but a scalar coordinate, dimensions
        ``lead_time [member] [level] latitude longitude`` (or ``y x`` with 2-D latitude and longitude), ``valid_time``
        along ``lead_time``, CF attributes. Time is UTC throughout."""

    @abstractmethod
    def runs(self) -> xr.Dataset:
        """The published runs of the exporter's `Exporter.span`, oldest first: like `run`, with the dimension
        ``init_time`` before the others and ``valid_time`` along both."""

    def stored(self) -> tuple[zarr.Group, Sequence[int]] | None:
        """The arrays behind `runs` as they are stored, and the place of each run along their first dimension; None,
        the default, where there is no such thing."""
        return None

    @abstractmethod
    def manifest(self) -> pa.Table:
        """A row for each source message of the run: variable, level, member, lead_time, url, offset, length, sub ...
        (`tasks.forecasts.manifest`)."""

    @abstractmethod
    def messages(self, rows: pa.Table) -> Iterator[bytes]:
        """The bytes of the messages of manifest rows, in the order of the rows, fetched many at once in bounded
        memory. Raises ``CorruptInput`` for bytes that are no such message."""


@dataclass(frozen=True)
class Planned:
    """What an exporter says of its work beforehand: all that it depends on, bytes to be moved, peak memory in bytes,
    and what a person should know."""

    inputs: tuple[Input, ...]
    bytes: int = 0
    memory: int = 0
    notes: tuple[str, ...] = ()


class Exporter(Plugin):
    """Turns published runs into files. Registers with ``@exporters.register(name)``; its fields are the keys of an
    entry of the recipe's ``exports``.

    Most exporters write one run: they define `render`. One that takes several runs, or the source's own messages,
    defines `write`; one that puts its results elsewhere than into files of its own, `export`.
    """

    name: Name = Field(description="Name of the export: its folder in the lake's exports zone.")
    zone: str = Field(default="refined", description="What it reads: 'refined', or the name of a target grid.")

    made_of: ClassVar[Literal["cube", "messages"]] = "cube"
    """Whether the published cube or the source's messages are its input: what it is done again for."""

    @property
    def span(self) -> timedelta:
        """How long before the run the oldest run it takes may have begun; nothing: the run alone."""
        return timedelta(0)

    def plan(self, source: Source) -> Planned | None:
        """What is known of the work before it begins. None, the default: its input is what `made_of` says."""
        del source
        return None

    def export(self, source: Source) -> Sequence[Output]:
        """Make the product and put it into the lake, each object in one step; what was put there."""
        return place(source.lake, source.prefix, lambda folder: self.write(source, folder))

    def write(self, source: Source, folder: Path) -> list[Path]:
        """Write the product into ``folder`` and name the files made."""
        return self.render(source.run(), folder)

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        """Write the product of one run (see `Source.run`) into ``folder`` and name the files made.

        The same input must give the same bytes. Raises ``UsageError`` when a field of the exporter does
        not fit the data (unknown variable, point outside the grid).
        """
        raise NotImplementedError(f"exporter {self.type} says neither how it writes one run nor how it writes several")


exporters: Registry[Exporter] = Registry("exporter", "tasks.exports")
"""The exporters; a kind of data adds the package with those that only it can have (`Registry.extend`)."""
