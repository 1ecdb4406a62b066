"""Limits of quality control, as a recipe writes them: five families, and the scale of acceptance."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ..lake.registry import Strict
from .schema import NAMES


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"is no column of the silver table; there are: {', '.join(NAMES)}")
    return name


ColumnName = Annotated[str, AfterValidator(_known)]
"""A measured column of the silver table."""

Positive = Annotated[float, Field(gt=0)]


class Range(Strict):
    """Gross range: outside ``fail`` no instrument or climate gives such a value, outside ``suspect`` hardly ever."""

    fail: tuple[float, float]
    suspect: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        for low, high in (self.fail, self.suspect or self.fail):
            if low > high:
                raise ValueError(f"a range goes from low to high, not from {low:g} to {high:g}")
        return self


class Flat(Strict):
    """Flat line: the same value (``within``) for so many hours. ``unless`` are values that may last: no rain, calm."""

    suspect: Positive = Field(description="Hours.")
    fail: Positive | None = Field(default=None, description="Hours.")
    within: float = Field(default=0.0, ge=0)
    unless: tuple[float, ...] = ()


class NotAbove(Strict):
    """``lower`` is never above ``upper`` (by more than ``within``): dew point and temperature, mean wind and gust."""

    rule: Literal["not_above"]
    lower: ColumnName
    upper: ColumnName
    within: float = Field(default=0.0, ge=0)
    flag: Literal[3, 4] = 4


class Together(Strict):
    """One is above 0 exactly when the other is: duration and amount of precipitation."""

    rule: Literal["together"]
    one: ColumnName
    other: ColumnName
    flag: Literal[3, 4] = 3


class Implies(Strict):
    """Where one is above 0, the other is too: sunshine and radiation."""

    rule: Literal["implies"]
    one: ColumnName
    other: ColumnName
    flag: Literal[3, 4] = 3


Rule = Annotated[NotAbove | Together | Implies, Field(discriminator="rule")]


class Neighbours(Strict):
    """Buddy check: a value against the median of the nearest stations at the same time."""

    radius: Positive = Field(default=75.0, description="Kilometres.")
    height: Positive = Field(default=100.0, description="Largest difference in height, metres.")
    least: int = Field(default=3, ge=1, description="Fewer neighbours with a value: not evaluated.")
    most: int = Field(default=5, ge=1)
    tolerance: Mapping[ColumnName, Positive] = Field(default_factory=dict)


class Quality(Strict):
    """What is checked, and what follows from it.

    A station-year is accepted, flagged, quarantined or rejected on the scale of the runs of a forecast: its score is
    that of its worst column (`checks.verdict.judge`).
    """

    accept_above: float = Field(default=0.9, ge=0, le=1)
    flag_above: float = Field(default=0.7, ge=0, le=1, description="From here a station-year is published flagged.")
    row_above: float = Field(default=0.7, ge=0, le=1, description="Rows with a lower quality_score are quarantined.")
    most_outliers: float = Field(default=0.1, ge=0, le=1, description="Largest share of failed values.")
    most_missing: float = Field(default=0.9, ge=0, le=1, description="Largest share of missing values.")
    hold_below: float = Field(
        default=0.5, ge=0, le=1, description="A year with a lower share of accepted stations is held."
    )
    ranges: Mapping[ColumnName, Range] = Field(default_factory=dict)
    steps: Mapping[ColumnName, Mapping[Positive, Positive]] = Field(
        default_factory=dict, description="Column -> hours -> largest change over them (WMO 1993)."
    )
    flat: Mapping[ColumnName, Flat] = Field(default_factory=dict)
    consistency: tuple[Rule, ...] = ()
    neighbours: Neighbours | None = None

    @model_validator(mode="after")
    def _scale(self) -> "Quality":
        if self.flag_above > self.accept_above:
            raise ValueError(f"flag_above ({self.flag_above}) is higher than accept_above ({self.accept_above})")
        return self
