"""What is known of a parameter: its physical range and its nature, from ``ranges.csv``.

Traits: ``sparse`` may hold one value everywhere or have isolated peaks (rain, snow, cloud); ``rising`` never
falls when accumulated; ``masked`` has no value on part of the grid (sea or land only); ``steady`` may stay the
same from step to step; ``static`` never changes and is the same in all members; ``rough`` may differ
at will from one point to the next (cloud, snow, soil, codes); ``circular`` is a direction.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .check import Subject

TABLE = Path(__file__).with_name("ranges.csv")

SPELLINGS = {
    "~": "1",
    "dimensionless": "1",
    "fraction": "1",
    "proportion": "1",
    "(0 - 1)": "1",
    "percent": "%",
    "degree true": "degree",
    "degree_true": "degree",
    "degrees": "degree",
    "kelvin": "K",
    "m of water equivalent": "m",
}
"""Other ways to write a unit -> the table's."""


UNEVEN = frozenset({
    "heightAboveSea", "potentialVorticity", "theta", "depthBelowLand", "depthBelowLandLayer", "soil", "soilLayer",
    "cloudBase", "cloudTop", "cloudCeiling", "maxWind", "tropopause", "isothermZero", "lowCloudBottom",
    "middleCloudBottom", "highCloudBottom", "convectiveCloudBottom", "lowCloudTop", "middleCloudTop", "highCloudTop",
    "convectiveCloudTop", "adiabaticCondensation", "orderedSequenceData",
})  # fmt: skip
"""ecCodes typeOfLevel of surfaces that do not exist everywhere, or leap in height from one point to the next."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Physical range of a parameter in ``units``, both ends allowed, at levels (hPa) from-to where given."""

    names: tuple[str, ...]
    standard_name: str
    units: str
    minimum: float
    maximum: float
    level_from: float | None
    level_to: float | None
    traits: frozenset[str]
    source: str

    @property
    def width(self) -> float:
        """From the minimum to the maximum."""
        return self.maximum - self.minimum

    def holds_at(self, level: float | None) -> bool:
        """Whether the row counts at this level; a row without levels counts at all."""
        if self.level_from is None or self.level_to is None:
            return True
        return level is not None and self.level_from <= level <= self.level_to


@cache
def table() -> tuple[Limits, ...]:
    """All rows of ``ranges.csv`` in their order: of several that fit, the first counts."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(_row(row) for row in csv.DictReader(stream))


def _row(row: dict[str, str]) -> Limits:
    return Limits(
        names=tuple(row["names"].split()),
        standard_name=row["standard_name"],
        units=row["units"],
        minimum=float(row["minimum"]),
        maximum=float(row["maximum"]),
        level_from=float(row["level_from"]) if row["level_from"] else None,
        level_to=float(row["level_to"]) if row["level_to"] else None,
        traits=frozenset(row["traits"].split()),
        source=row["source"],
    )


def spelled(units: str) -> str:
    """A unit as the table writes it: ``m s**-1`` and ``m s^-1`` are ``m s-1``."""
    plain = " ".join(units.replace("**", "").replace("^", "").split())
    return SPELLINGS.get(plain.lower(), plain)


def rows(subject: Subject) -> list[Limits]:
    """Rows of the subject's parameter in any unit: by its name, its short_name, else its standard_name."""
    attributes = subject.attributes
    for name in (subject.name, attributes.get("short_name"), attributes.get("param")):
        found = [row for row in table() if name and str(name).lower() in row.names]
        if found:
            return found
    standard = attributes.get("standard_name")
    return [row for row in table() if standard and standard == row.standard_name]


def limits(subject: Subject, level: float | None = None) -> Limits | None:
    """The row that counts for the subject's units at ``level``, or None when the table has none.

    A subject without units is taken to be in those of the first row.
    """
    found: Iterable[Limits] = rows(subject)
    if subject.units:
        found = (row for row in found if spelled(row.units) == spelled(subject.units))
    return next((row for row in found if row.holds_at(level)), None)


def traits(subject: Subject) -> frozenset[str] | None:
    """The parameter's nature, whatever its units; None when the table does not know it."""
    found = rows(subject)
    return found[0].traits if found else None


def is_uneven(subject: Subject) -> bool:
    """Whether the subject's level type (attribute ``level_type``) has holes and leaps by nature."""
    return subject.attributes.get("level_type") in UNEVEN


def levels(subject: Subject) -> list[float | None]:
    """The subject's levels as the table counts them (hPa for pressure levels), one for each position."""
    if subject.level is None:
        single = subject.attributes.get("level")
        known = isinstance(single, int | float) and math.isfinite(single) and single > 0
        return [float(single) if known else None]  # type: ignore[arg-type]
    factor = 0.01 if str(subject.attributes.get("level_units", "hPa")) == "Pa" else 1.0
    return [float(value) * factor for value in subject.level]
