"""Order of pairs: a maximum lies nowhere below its minimum, a temperature nowhere below its dew point."""

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index
from .phrases import others, place, quantity

PAIRS = (
    ("mx2t", "mn2t"), ("mx2t3", "mn2t3"), ("mx2t6", "mn2t6"), ("tmax", "tmin"), ("tmax_2m", "tmin_2m"),
    ("maximum_temperature_2m", "minimum_temperature_2m"), ("2t", "2d"), ("t2m", "d2m"), ("tmp_2m", "dpt_2m"),
)  # fmt: skip
"""Names (in the cube or the source's own) of the variable that is never below the other."""


def partner_of(names: dict[str, set[str]], name: str) -> str | None:
    """The variable that ``name`` may never lie below. ``names``: variable -> all names it goes by, lower case."""
    for upper, lower in PAIRS:
        if upper in names[name]:
            for other, known in names.items():
                if other != name and lower in known:
                    return other
    return None


@checks.register("order")
class Order(Check):
    """No point of a maximum lies below that of its minimum, and no temperature below its dew point (`PAIRS`).

    A point is wrong when it lies below by more than ``relative`` of its value (packing and kept bits) plus
    ``allowance`` in the variable's units. More than ``allowed`` of a field's points make it faulty: models let dew
    points lie above the temperature by a little here and there.
    """

    type: str = "order"
    relative: float = Key(default=2.0**-7, ge=0, lt=1)
    allowance: float = Key(default=0.5, ge=0)
    allowed: float = Key(default=0.001, ge=0, lt=1)

    def watch(self, subject: Subject) -> Watch:
        if subject.partner is None:
            return Quiet(self, subject, "has no partner that it may not lie below")
        return _Watch(self, subject)


class _Watch(Watch[Order]):
    def __init__(self, check: Order, subject: Subject) -> None:
        super().__init__(check, subject)
        self.worst: tuple[float, Index, str] | None = None
        self.pairs = 0

    def see(self, field: Field) -> None:
        if field.partner is None:
            return
        self.pairs += 1
        with np.errstate(invalid="ignore", over="ignore"):
            below = field.partner - field.values
            if not (np.fmax.reduce(below, axis=None) > self.check.allowance):
                return
            wrong = below > self.check.allowance + self.check.relative * np.abs(field.values)
        count = int(np.count_nonzero(wrong))
        if count <= self.check.allowed * wrong.size:
            return
        self.faulty[field.index] = True
        amount = float(below[wrong].max())
        if self.worst is None or amount > self.worst[0]:
            points = f"{count} points lie" if count > 1 else "1 point lies"
            self.worst = (amount, field.index, f"{points} below {self._partner}, most by {self._said(amount)}")

    @property
    def _partner(self) -> str:
        assert self.subject.partner is not None
        return self.subject.partner.name

    def _said(self, amount: float) -> str:
        return quantity(amount, self.subject.units)

    def finding(self) -> Finding:
        subject = self.subject
        if self.worst is None:
            return self.sound(f"{subject.name}: lies nowhere below {self._partner} in {self.pairs} fields.")
        sentence = f"{subject.name} at {place(subject, self.worst[1])}: {self.worst[2]}{others(self.faulty)}."
        return self.faults(sentence, self.worst[1], of=self.pairs)
