"""Completeness: every field that was expected is there."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import others, place


@checks.register("present")
class Present(Check):
    """Every expected (lead_time, member, level) has a field.

    Fatal when none has, or more than ``unusable_share`` of them are absent.
    """

    type: str = "present"
    unusable_share: float = Field(default=1.0, ge=0, le=1)

    def run(self, subject: Subject) -> Finding:
        absent = ~subject.present
        total = absent.size
        missing = int(np.count_nonzero(absent))
        if total == 0:
            return self.finding(subject, f"{subject.name}: no field is expected.")
        if missing == 0:
            return self.finding(subject, f"{subject.name}: all {total} fields are there.")
        if missing == total:
            sentence = f"{subject.name}: none of {total} expected fields is there."
        else:
            first = tuple(int(i) for i in np.argwhere(absent)[0])
            where = place(subject, first)  # type: ignore[arg-type]
            sentence = f"{subject.name} at {where}: the field is absent{others(absent)}, of {total} expected."
        unusable = missing == total or missing > self.unusable_share * total
        return self.finding(subject, sentence, absent, of=total, unusable=unusable)
