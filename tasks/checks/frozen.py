"""Frozen fields: a step that repeats the one before it bit for bit."""

from itertools import pairwise

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .extent import globe_share
from .fields import digests, is_constant, others, place, series
from .limits import traits


@checks.register("frozen")
class Frozen(Check):
    """No field is bit-identical to the previous one of the same member and level.

    Left out are parameters that may stand still (traits ``steady``, ``static``), fields of one value where
    the parameter may be so (``sparse``, or unknown to the table), and accumulations that may pause because
    nothing falls or shines on a region smaller than ``region_share`` of the globe. Fields of fewer than
    ``minimum_points`` points can repeat by chance and are not judged.
    """

    type: str = "frozen"
    region_share: float = Field(default=0.25, ge=0, le=1)
    minimum_points: int = Field(default=64, ge=1)

    def run(self, subject: Subject) -> Finding:
        nature = traits(subject)
        faulty = np.zeros(subject.present.shape, bool)
        if subject.values.shape[3] * subject.values.shape[4] < self.minimum_points:
            return self.finding(subject, f"{subject.name}: too few points to be judged for standing still.")
        if nature and nature & {"steady", "static"}:
            return self.finding(subject, f"{subject.name}: may stay the same from step to step, so not judged.")
        if nature and "rising" in nature and globe_share(subject.latitude, subject.longitude) < self.region_share:
            return self.finding(subject, f"{subject.name}: may pause on a region of this size, so not judged.")
        sparse = nature is None or "sparse" in nature
        found = digests(subject)
        pairs = 0
        first: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
        for member, level, times in series(subject):
            for before, time in pairwise(times):
                pairs += 1
                if found[before, member, level] != found[time, member, level]:
                    continue
                values = subject.values[time, member, level]
                # Nothing but NaN is for 'missing' to say; one value everywhere is natural for rain or snow.
                if is_constant(values) and (sparse or np.isnan(values).all()):
                    continue
                faulty[time, member, level] = True
                first = first or ((before, member, level), (time, member, level))
        if first is None:
            return self.finding(subject, f"{subject.name}: no field repeats the previous step in {pairs} pairs.")
        sentence = (
            f"{subject.name} at {place(subject, first[1])}: identical to +{int(subject.lead_time[first[0][0]])} h "
            f"in every bit{others(faulty)}."
        )
        return self.finding(subject, sentence, faulty, of=pairs)
