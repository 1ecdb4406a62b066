"""Duplicates: two members, or two levels, with the same field."""

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index
from .limits import traits
from .phrases import others, place


@checks.register("duplicate")
class Duplicate(Check):
    """No two members, and no two levels, hold the same field at the same lead time, bit for bit.

    Members that were mixed up, or levels that were folded into one, look perfect in every other check. Left out
    are parameters that are equal by nature (trait ``static``; ``steady`` between members at lead time 0, where
    perturbations have not reached them) and fields of one value. Fields of fewer than ``minimum_points`` points
    are not judged.
    """

    type: str = "duplicate"
    minimum_points: int = Key(default=64, ge=1)

    def watch(self, subject: Subject) -> Watch:
        _, members, levels = subject.present.shape
        nature = traits(subject) or frozenset()
        if members * levels < 2 or "static" in nature:
            return Quiet(self, subject, "has no members or levels that must differ")
        if subject.points < self.minimum_points:
            return Quiet(self, subject, "too few points to be judged for duplicates")
        return _Watch(self, subject, "steady" in nature)


class _Watch(Watch[Duplicate]):
    def __init__(self, check: Duplicate, subject: Subject, steady: bool) -> None:
        super().__init__(check, subject)
        self.steady = steady
        self.digests = np.zeros(subject.present.shape, np.uint64)
        self.constant = np.zeros(subject.present.shape, bool)

    def see(self, field: Field) -> None:
        self.digests[field.index] = field.digest
        self.constant[field.index] = field.constant

    def finding(self) -> Finding:
        subject = self.subject
        original: dict[Index, Index] = {}
        for time in range(len(subject.lead_time)):
            if self.steady and subject.lead_time[time] == 0:
                continue
            seen: dict[int, Index] = {}
            for member, level in np.argwhere(subject.present[time]).tolist():
                index = (time, member, level)
                same = seen.setdefault(int(self.digests[index]), index)
                if same != index and not self.constant[index]:
                    self.faulty[index] = True
                    original[index] = same
        if not original:
            return self.sound(f"{subject.name}: {self.total} fields differ between members and levels.")
        at = self.first()
        what = _what(subject, original[at], at)
        sentence = f"{subject.name} at {place(subject, at)}: identical to {what} in every bit{others(self.faulty)}."
        return self.faults(sentence, at, of=self.total)


def _what(subject: Subject, original: Index, index: Index) -> str:
    words = []
    if subject.member is not None and original[1] != index[1]:
        words.append(f"member {int(subject.member[original[1]])}")
    if subject.level is not None and original[2] != index[2]:
        words.append(f"level {float(subject.level[original[2]]):g}")
    return ", ".join(words)
