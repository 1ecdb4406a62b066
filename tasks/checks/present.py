"""Completeness: every field that was expected is there."""

from pydantic import Field

from .check import Check, Finding, Subject, Watch, checks
from .phrases import others, place


@checks.register("present")
class Present(Check):
    """Every expected (lead_time, member, level) has a field.

    Fatal for the whole variable when none has, or more than ``unusable_share`` of them are absent.
    """

    type: str = "present"
    unusable_share: float = Field(default=1.0, ge=0, le=1)

    def watch(self, subject: Subject) -> Watch:
        return _Watch(self, subject)


class _Watch(Watch[Present]):
    def finding(self) -> Finding:
        subject = self.subject
        self.faulty = ~subject.present
        total, missing = self.faulty.size, int(self.faulty.sum())
        if total == 0:
            return self.sound(f"{subject.name}: no field is expected.")
        if missing == 0:
            return self.sound(f"{subject.name}: all {total} fields are there.")
        where = self.first()
        if missing == total:
            sentence = f"{subject.name}: none of {total} expected fields is there."
        else:
            which = f"{subject.name} at {place(subject, where)}"
            sentence = f"{which}: the field is absent{others(self.faulty)}, of {total} expected."
        unusable = missing == total or missing > self.check.unusable_share * total
        return self.faults(sentence, where, of=total, unusable=unusable)
