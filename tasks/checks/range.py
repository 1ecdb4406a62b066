"""Physical range: no value beyond what the parameter can be."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field as Key
from pydantic import field_validator

from .check import Check, Finding, Subject, Watch, checks
from .field import Field, Index
from .limits import levels, limits
from .phrases import others, place, quantity

FILL = 1e15
"""Larger magnitudes are fill values that slipped through (9.999e20, 1e20, 9.97e36), whatever the parameter."""


@checks.register("range")
class Range(Check):
    """Values lie within the parameter's physical range (``ranges.csv``; NaN left out, infinities are outside).

    ``limits`` overrides the table by the variable's name, in its own units. Parameters that the table does not
    know, or not in these units, are only tested for infinities and fill values. Fatal when a field has more than
    ``unusable_share`` of its points outside: then the units or the parameter are wrong.
    """

    type: str = "range"
    limits: Mapping[str, tuple[float, float]] = Key(default={}, description="Variable -> (minimum, maximum).")
    unusable_share: float = Key(default=0.5, ge=0, le=1)

    @field_validator("limits")
    @classmethod
    def _ordered(cls, value: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
        for name, (minimum, maximum) in value.items():
            if not minimum <= maximum:
                raise ValueError(f"has a minimum above the maximum for {name}: {minimum}, {maximum}")
        return value

    def bounds(self, subject: Subject) -> list[tuple[float, float]]:
        """(minimum, maximum) for each level of the subject, in its units."""
        if subject.name in self.limits:
            return [self.limits[subject.name]] * subject.values.shape[2]
        found = [limits(subject, level) for level in levels(subject)]
        return [(row.minimum, row.maximum) if row else (-FILL, FILL) for row in found]

    def watch(self, subject: Subject) -> Watch:
        return _Watch(self, subject)


class _Watch(Watch[Range]):
    def __init__(self, check: Range, subject: Subject) -> None:
        super().__init__(check, subject)
        self.bounds = check.bounds(subject)
        self.worst: tuple[float, Index, str] | None = None
        self.largest_share = 0.0

    def see(self, field: Field) -> None:
        minimum, maximum = self.bounds[field.index[2]]
        # Bounds as float32, so that a value stored exactly at the bound is not outside by rounding.
        low, high = np.float32(minimum), np.float32(maximum)
        if not (field.low < low or field.high > high):
            return
        self.faulty[field.index] = True
        outside = int(np.count_nonzero((field.values < low) | (field.values > high)))
        self.largest_share = max(self.largest_share, outside / field.values.size)
        below, above = float(low) - field.low, field.high - float(high)
        excess = max(below, above)
        if self.worst is None or excess > self.worst[0]:
            extreme = f"smallest {field.low:.4g}" if below == excess else f"largest {field.high:.4g}"
            bounds = f"{minimum:g}..{quantity(maximum, self.subject.units)}"
            self.worst = (excess, field.index, f"{_values(outside)} outside {bounds}, {extreme}")

    def finding(self) -> Finding:
        subject = self.subject
        if self.worst is None:
            return self.sound(f"{subject.name}: {self.total} fields lie within {_said(self.bounds, subject.units)}.")
        sentence = f"{subject.name} at {place(subject, self.worst[1])}: {self.worst[2]}{others(self.faulty)}."
        unusable = self.largest_share > self.check.unusable_share
        return self.faults(sentence, self.worst[1], of=self.total, unusable=unusable)


def _values(count: int) -> str:
    return f"{count} value{'s' if count > 1 else ''}"


def _said(bounds: list[tuple[float, float]], units: str) -> str:
    if not bounds or (-FILL, FILL) in bounds:
        return "what is finite; no physical range is known"
    return f"{min(b[0] for b in bounds):g}..{quantity(max(b[1] for b in bounds), units)}"
