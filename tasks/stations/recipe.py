"""The recipe of station observations: source and quota, selection, columns, checks, resampling, grids and exports."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from ..grids.spec import GridSpec
from ..lake.rate import Rate
from ..lake.recipe import Name, Recipe
from ..lake.registry import Strict
from .exporters.exporter import exporters
from .limits import ColumnName, Quality
from .schema import NAMES

ALL = "all"
"""The group of stations that every recipe has."""


def _text(value: object) -> object:
    """YAML and command lines read 06260 as a number; a station is a word."""
    return str(value) if isinstance(value, int) else value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Station = Annotated[str, BeforeValidator(_text)]
Moment = Annotated[datetime, AfterValidator(_utc)]


class Window(Strict):
    """One window of the provider's quota."""

    requests: int = Field(gt=0)
    seconds: float = Field(gt=0)

    @property
    def rate(self) -> Rate:
        """As the quota takes it."""
        return Rate(self.requests, self.seconds)


class Source(Strict):
    """An OGC API - EDR and what it permits."""

    url: str = Field(description="Base of the API, up to /collections.")
    collection: str
    key: str | None = Field(default=None, description="Reference to the key for the Authorization header (env:NAME).")
    quota: Name = Field(default="edr", description="Recipes with the same name share one quota of the lake.")
    windows: tuple[Window, ...] = Field(min_length=1, description="All of them hold.")
    patience: float = Field(default=7200, gt=0, description="Longest wait for the quota in seconds.")
    points: int = Field(default=376_000, gt=0, description="Data points of a request; less when the provider says so.")
    share: float = Field(default=0.95, gt=0, le=1, description="Part of the points that a request is planned with.")
    several: bool = Field(default=True, description="Whether a request may name several stations.")
    concurrency: int = Field(default=10, gt=0, description="Requests under way at once, to begin with.")
    workers: int = Field(default=32, gt=0, le=32, description="Most requests under way at once.")
    open_months: int = Field(default=1, ge=1, description="Months up to now that are asked for again and again.")
    refresh: float = Field(default=3600, gt=0, description="Seconds after which they are.")


class Select(Strict):
    """Which stations, parameters and times. All times are UTC, and mark the end of an interval."""

    stations: tuple[Station, ...] = Field(default=(ALL,), min_length=1, description="Identifiers or groups.")
    parameters: tuple[str, ...] | None = Field(default=None, description="All of the collection when absent.")
    start: Moment = Field(description="First timestamp.")
    end: Moment | None = Field(default=None, description="Last timestamp; now when absent.")
    years: tuple[int, ...] | None = Field(default=None, description="Calendar years in the place of start and end.")

    @field_validator("years")
    @classmethod
    def _possible(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        for year in value or ():
            if not 1900 <= year <= 2200:
                raise ValueError(f"holds {year}, which is no year of observations")
        return tuple(sorted(set(value))) if value else None


class Mapped(Strict):
    """Where a column of the silver table comes from."""

    parameter: str = Field(description="The provider's name.")
    factor: float = Field(default=1.0, description="What values are multiplied with.")
    trace: float | None = Field(default=None, description="Value that means a trace: it becomes 0 (RH -1).")
    calm: float | None = Field(
        default=None, description="Value that means no direction, because there is no wind (DD 0)."
    )
    variable: float | None = Field(
        default=None, description="Value that means no direction, because it varies (DD 990)."
    )


class Resample(Strict):
    """A longer interval to combine the silver rows to."""

    name: Name
    to: Literal["1h", "1d"]
    complete: float = Field(default=0.75, gt=0, le=1, description="Smallest share of values that makes one.")
    without: tuple[Literal[3, 4], ...] = Field(default=(4,), description="Values with these flags are left out.")


class StationGrid(GridSpec):
    """A grid that station values are interpolated to, one field per timestamp."""

    method: Literal["inverse-distance", "nearest"] = "inverse-distance"  # type: ignore[assignment]
    variables: tuple[ColumnName, ...] = Field(min_length=1)  # type: ignore[assignment]
    of: Name | None = Field(default=None, description="Name of a resampling to read; the silver table when absent.")
    radius: float = Field(default=75.0, gt=0, description="Kilometres; cells with no station so near are empty.")
    stations: int = Field(default=6, ge=1, description="Nearest stations that a cell is made of.")
    power: float = Field(default=2.0, gt=0, description="Weights are 1 / distance ** power.")

    @model_validator(mode="after")
    def _no_directions(self) -> "StationGrid":
        if "wind_direction" in self.variables:
            raise ValueError("wind_direction cannot be interpolated as a number")
        return self


class StationRecipe(Recipe):
    """Observations of stations and what to make of them."""

    kind: Literal["station"] = "station"
    source: Source
    every: int = Field(default=60, description="Minutes between two timestamps.")
    groups: Mapping[Name, tuple[Station, ...]] = Field(
        default_factory=dict, description="Stations by the name of a group."
    )
    select: Select
    columns: Mapping[ColumnName, Mapped]
    checks: Quality = Quality()
    resample: tuple[Resample, ...] = ()
    grids: tuple[StationGrid, ...] = ()
    exports: tuple[exporters.field, ...] = ()  # type: ignore[valid-type]

    @property
    def step(self) -> timedelta:
        """Time between two timestamps."""
        return timedelta(minutes=self.every)

    @model_validator(mode="after")
    def _consistent(self) -> "StationRecipe":
        if self.every < 1 or 1440 % self.every:
            raise ValueError(f"every ({self.every}) must divide the minutes of a day")
        if ALL in self.groups:
            raise ValueError(f"the group {ALL!r} is there already: every station of the collection")
        for what, names in (
            ("a resampling", [r.name for r in self.resample]),
            ("a grid", [g.name for g in self.grids]),
            ("an export", [e.name for e in self.exports]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"names {what} twice: {', '.join(names)}")
        for grid in self.grids:
            if grid.of is not None and grid.of not in {r.name for r in self.resample}:
                raise ValueError(f"grid {grid.name!r} reads {grid.of!r}, which is no resampling of the recipe")
        return self

    @property
    def mapped(self) -> tuple[str, ...]:
        """Columns of the silver table that this recipe fills, in the table's order."""
        return tuple(n for n in NAMES if n in self.columns)
