"""Physical range: no value beyond what the parameter can be."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field, field_validator

from .check import Check, Finding, Subject, checks
from .fields import Index, extremes, fields, others, place, quantity
from .limits import levels, limits

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
    limits: Mapping[str, tuple[float, float]] = Field(default={}, description="Variable -> (minimum, maximum).")
    unusable_share: float = Field(default=0.5, ge=0, le=1)

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

    def run(self, subject: Subject) -> Finding:
        bounds = self.bounds(subject)
        faulty = np.zeros(subject.present.shape, bool)
        worst: tuple[float, Index, str] | None = None
        largest_share = 0.0
        for index, values in fields(subject):
            minimum, maximum = bounds[index[2]]
            # Bounds as float32, so that a value stored exactly at the bound is not outside by rounding.
            low, high = np.float32(minimum), np.float32(maximum)
            smallest, largest = extremes(values)
            if not (smallest < low or largest > high):
                continue
            faulty[index] = True
            outside = int(np.count_nonzero((values < low) | (values > high)))
            largest_share = max(largest_share, outside / values.size)
            excess = max(float(low) - smallest, largest - float(high))
            if worst is None or excess > worst[0]:
                extreme = f"smallest {smallest:.4g}" if float(low) - smallest == excess else f"largest {largest:.4g}"
                bounds_said = f"{minimum:g}..{quantity(maximum, subject.units)}"
                worst = (excess, index, f"{_values(outside)} outside {bounds_said}, {extreme}")
        total = int(np.count_nonzero(subject.present))
        if worst is None:
            return self.finding(subject, f"{subject.name}: {total} fields lie within {_said(bounds, subject.units)}.")
        sentence = f"{subject.name} at {place(subject, worst[1])}: {worst[2]}{others(faulty)}."
        return self.finding(subject, sentence, faulty, of=total, unusable=largest_share > self.unusable_share)


def _values(count: int) -> str:
    return f"{count} value{'s' if count > 1 else ''}"


def _said(bounds: list[tuple[float, float]], units: str) -> str:
    if not bounds or (-FILL, FILL) in bounds:
        return "what is finite; no physical range is known"
    return f"{min(b[0] for b in bounds):g}..{quantity(max(b[1] for b in bounds), units)}"
