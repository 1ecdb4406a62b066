"""Completeness: every field that was expected is there."""

import numpy as np

from .check import Check, Finding, Subject, checks
from .fields import others, place


@checks.register("present")
class Present(Check):
    """Every expected (lead_time, member, level) has a field.

    Fatal when more than ``allowed_share`` of them are absent: by default only when all are.
    """

    type: str = "present"
    allowed_share: float = 0.999999

    def run(self, subject: Subject) -> Finding:
        expected = np.ones_like(subject.present) if subject.expected is None else subject.expected
        absent = expected & ~subject.present
        total = int(np.count_nonzero(expected))
        missing = int(np.count_nonzero(absent))
        if total == 0:
            return self.finding(subject, f"{subject.name}: no field is expected.")
        if missing == 0:
            return self.finding(subject, f"{subject.name}: all {total} fields are there.")
        if missing == total:
            sentence = f"{subject.name}: none of {total} expected fields is there."
        else:
            first = tuple(int(i) for i in np.argwhere(absent)[0])
            sentence = f"{subject.name} at {place(subject, first)}: the field is absent{others(absent)}, of {total} expected."
        return self.finding(subject, sentence, absent, of=total, unusable=missing / total > self.allowed_share)
