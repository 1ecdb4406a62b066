"""Flat fields: one value on every point of a parameter that varies."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import Index, fields, is_constant, others, place, quantity
from .limits import traits


@checks.register("flat")
class Flat(Check):
    """No field holds one value everywhere, for parameters that cannot be so.

    Only parameters of the table without the traits ``sparse`` and ``static`` are judged, on fields of at least
    ``minimum_points`` points: a wind of zero everywhere lies within every range and is wrong all the same.
    """

    type: str = "flat"
    minimum_points: int = Field(default=64, ge=1)

    def run(self, subject: Subject) -> Finding:
        nature = traits(subject)
        if nature is None or nature & {"sparse", "static"}:
            return self.finding(subject, f"{subject.name}: may hold one value everywhere, so not judged.")
        faulty = np.zeros(subject.present.shape, bool)
        first: Index | None = None
        judged = 0
        for index, values in fields(subject):
            if values.size < self.minimum_points:
                continue
            judged += 1
            if is_constant(values) and not np.isnan(values).all():
                faulty[index] = True
                first = first or index
        if first is None:
            return self.finding(subject, f"{subject.name}: no field is flat in {judged}.")
        value = quantity(float(np.fmax.reduce(subject.values[first], axis=None)), subject.units)
        sentence = f"{subject.name} at {place(subject, first)}: every point holds {value}{others(faulty)}."
        return self.finding(subject, sentence, faulty, of=judged)
