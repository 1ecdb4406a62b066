"""Flat fields: one value on every point of a parameter that varies."""

from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import Field
from .limits import traits
from .phrases import others, place, quantity


@checks.register("flat")
class Flat(Check):
    """No field holds one value everywhere, for parameters that cannot be so.

    Only parameters of the table without the traits ``sparse`` and ``static`` are judged, on fields of at least
    ``minimum_points`` points: a wind of zero everywhere lies within every range and is wrong all the same.
    """

    type: str = "flat"
    minimum_points: int = Key(default=64, ge=1)

    def watch(self, subject: Subject) -> Watch:
        nature = traits(subject)
        if nature is None or nature & {"sparse", "static"}:
            return Quiet(self, subject, "may hold one value everywhere, so not judged")
        if subject.points < self.minimum_points:
            return Quiet(self, subject, "too few points to be judged for being flat")
        return _Watch(self, subject)


class _Watch(Watch[Flat]):
    def __init__(self, check: Flat, subject: Subject) -> None:
        super().__init__(check, subject)
        self.held: dict[tuple[int, int, int], float] = {}

    def see(self, field: Field) -> None:
        if field.constant and not field.empty:
            self.faulty[field.index] = True
            self.held[field.index] = field.high

    def finding(self) -> Finding:
        subject = self.subject
        if not self.held:
            return self.sound(f"{subject.name}: no field is flat in {self.total}.")
        at = self.first()
        value = quantity(self.held[at], subject.units)
        sentence = f"{subject.name} at {place(subject, at)}: every point holds {value}{others(self.faulty)}."
        return self.faults(sentence, at, of=self.total)
