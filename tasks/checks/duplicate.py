"""Duplicates: two members, or two levels, with the same field."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import Index, digests, is_constant, others, place
from .limits import traits


@checks.register("duplicate")
class Duplicate(Check):
    """No two members, and no two levels, hold the same field at the same lead time, bit for bit.

    Members that were mixed up, or levels that were folded into one, look perfect in every other check. Left out
    are parameters that are equal by nature (trait ``static``; ``steady`` between members at lead time 0, where
    perturbations have not reached them) and fields of one value. Fields of fewer than ``minimum_points`` points
    are not judged.
    """

    type: str = "duplicate"
    minimum_points: int = Field(default=64, ge=1)

    def run(self, subject: Subject) -> Finding:
        times, members, levels = subject.present.shape
        nature = traits(subject) or frozenset()
        if members * levels < 2 or "static" in nature:
            return self.finding(subject, f"{subject.name}: has no members or levels that must differ.")
        if subject.values.shape[3] * subject.values.shape[4] < self.minimum_points:
            return self.finding(subject, f"{subject.name}: too few points to be judged for duplicates.")
        found = digests(subject)
        faulty = np.zeros(subject.present.shape, bool)
        first: tuple[Index, Index] | None = None
        for time in range(times):
            if "steady" in nature and subject.lead_time[time] == 0:
                continue
            seen: dict[int, Index] = {}
            for member, level in np.argwhere(subject.present[time]).tolist():
                index = (time, member, level)
                original = seen.setdefault(int(found[index]), index)
                if original == index or is_constant(subject.values[index]):
                    continue
                faulty[index] = True
                first = first or (original, index)
        total = int(np.count_nonzero(subject.present))
        if first is None:
            return self.finding(subject, f"{subject.name}: {total} fields differ between members and levels.")
        original, index = first
        what = _what(subject, original, index)
        sentence = f"{subject.name} at {place(subject, index)}: identical to {what} in every bit{others(faulty)}."
        return self.finding(subject, sentence, faulty, of=total)


def _what(subject: Subject, original: Index, index: Index) -> str:
    words = []
    if subject.member is not None and original[1] != index[1]:
        words.append(f"member {int(subject.member[original[1]])}")
    if subject.level is not None and original[2] != index[2]:
        words.append(f"level {float(subject.level[original[2]]):g}")
    return ", ".join(words)
