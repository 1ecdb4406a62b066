"""Frozen fields: a step that repeats the one before it bit for bit."""

from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .extent import globe_share
from .field import Field, Index
from .limits import traits
from .phrases import others, place


@checks.register("frozen")
class Frozen(Check):
    """No field is bit-identical to the previous one of the same member and level.

    Left out are parameters that may stand still (traits ``steady``, ``static``), fields of one value where
    the parameter may be so (``sparse``, or unknown to the table), and accumulations that may pause because
    nothing falls or shines on a region smaller than ``region_share`` of the globe. Fields of fewer than
    ``minimum_points`` points can repeat by chance and are not judged.
    """

    type: str = "frozen"
    region_share: float = Key(default=0.25, ge=0, le=1)
    minimum_points: int = Key(default=64, ge=1)

    def watch(self, subject: Subject) -> Watch:
        nature = traits(subject)
        if subject.points < self.minimum_points:
            return Quiet(self, subject, "too few points to be judged for standing still")
        if nature and nature & {"steady", "static"}:
            return Quiet(self, subject, "may stay the same from step to step, so not judged")
        if nature and "rising" in nature and globe_share(subject.latitude, subject.longitude) < self.region_share:
            return Quiet(self, subject, "may pause on a region of this size, so not judged")
        return _Watch(self, subject, nature is None or "sparse" in nature)


class _Watch(Watch[Frozen]):
    def __init__(self, check: Frozen, subject: Subject, sparse: bool) -> None:
        super().__init__(check, subject)
        self.sparse = sparse
        self.before: Field | None = None
        self.pairs = 0
        self.same_as: dict[Index, int] = {}

    def see(self, field: Field) -> None:
        before, self.before = self.before, _mark(field)
        if before is None or before.index[1:] != field.index[1:]:
            return
        self.pairs += 1
        # Nothing but NaN is for 'missing' to say; one value everywhere is natural for rain or snow.
        if before.digest != field.digest or (field.constant and (self.sparse or field.empty)):
            return
        self.faulty[field.index] = True
        self.same_as[field.index] = before.index[0]

    def finding(self) -> Finding:
        subject = self.subject
        if not self.same_as:
            return self.sound(f"{subject.name}: no field repeats the previous step in {self.pairs} pairs.")
        at = self.first()
        sentence = (
            f"{subject.name} at {place(subject, at)}: identical to +{int(subject.lead_time[self.same_as[at]])} h "
            f"in every bit{others(self.faulty)}."
        )
        return self.faults(sentence, at, of=self.pairs)


def _mark(field: Field) -> Field:
    """The field with its digest but without its values, to be remembered."""
    mark = Field(field.index, field.values[:0])
    mark.__dict__["digest"] = field.digest
    return mark
