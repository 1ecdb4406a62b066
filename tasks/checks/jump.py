"""Jumps: a field that does not belong between its neighbours in time."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import Index, others, place, quantity, thinned
from .limits import traits


@checks.register("jump")
class Jump(Check):
    """The mean absolute change between steps stays within the variable's own robust spread over the steps.

    The change is divided by the square root of the hours between the steps (weather decorrelates like a
    random walk, so 3 h and 6 h steps compare). It is a jump when it exceeds ``factor`` times the median of all
    changes of the level, the median by ``deviations`` robust standard deviations (1.4826 MAD), and
    ``spread_share`` of the field's own standard deviation: a field of another date, another variable or upside
    down. Sparse and circular parameters are not judged, nor fewer than ``minimum_steps`` steps.
    """

    type: str = "jump"
    factor: float = Field(default=3.0, gt=1)
    deviations: float = Field(default=8.0, gt=0)
    spread_share: float = Field(default=0.4, gt=0)
    minimum_steps: int = Field(default=5, ge=3)
    points: int = Field(default=65536, ge=100, description="Points of a field that are looked at, evenly spread.")

    def run(self, subject: Subject) -> Finding:
        if (traits(subject) or frozenset()) & {"sparse", "circular", "static"}:
            return self.finding(subject, f"{subject.name}: changes by nature in jumps, so not judged.")
        faulty = np.zeros(subject.present.shape, bool)
        worst: tuple[float, Index, str] | None = None
        judged = 0
        for level in range(subject.present.shape[2]):
            change, spread = self._changes(subject, level)
            known = np.isfinite(change)
            if np.count_nonzero(known.any(axis=1)) + 1 < self.minimum_steps:
                continue
            judged += int(np.count_nonzero(known))
            median = float(np.median(change[known]))
            deviation = 1.4826 * float(np.median(np.abs(change[known] - median)))
            usual_spread = float(np.median(spread[np.isfinite(spread)]))
            hours = _hours(subject, level)
            with np.errstate(invalid="ignore"):
                high = known & (change > max(self.factor * median, median + self.deviations * deviation))
                high &= change * np.sqrt(hours) > self.spread_share * usual_spread
            for time, member in np.argwhere(_arrivals(high, subject.present[:, :, level])).tolist():
                index = (time, member, level)
                faulty[index] = True
                ratio = change[time, member] / median if median > 0 else np.inf
                if worst is None or ratio > worst[0]:
                    amount = quantity(change[time, member] * np.sqrt(hours[time, member]), subject.units)
                    usual = quantity(median * np.sqrt(hours[time, member]), subject.units)
                    worst = (ratio, index, f"the mean change since the previous step is {amount}, usual is {usual}")
        if worst is None:
            return self.finding(subject, f"{subject.name}: no jump in {judged} changes between steps.")
        sentence = f"{subject.name} at {place(subject, worst[1])}: {worst[2]}{others(faulty)}."
        return self.finding(subject, sentence, faulty, of=judged)

    def _changes(self, subject: Subject, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean absolute change per root hour since the previous field, and the standard deviation in space.

        Both float64 (lead_time, member); NaN where there is none.
        """
        change = np.full(subject.present.shape[:2], np.nan)
        spread = np.full(subject.present.shape[:2], np.nan)
        hours = _hours(subject, level)
        for member in range(change.shape[1]):
            before: np.ndarray | None = None
            for time in np.flatnonzero(subject.present[:, member, level]).tolist():
                values = thinned(subject.values[time, member, level], self.points)
                finite = values[np.isfinite(values)]
                if finite.size:
                    spread[time, member] = float(finite.std(dtype="float64"))
                if before is not None and hours[time, member] > 0:
                    with np.errstate(invalid="ignore", over="ignore"):
                        difference = np.abs(values - before)
                    difference = difference[np.isfinite(difference)]
                    if difference.size:
                        mean = float(difference.mean(dtype="float64"))
                        change[time, member] = mean / np.sqrt(hours[time, member])
                before = values
        return change, spread


def _hours(subject: Subject, level: int) -> np.ndarray:
    """Hours since the previous field that is there, float64 (lead_time, member); NaN for the first."""
    hours = np.full(subject.present.shape[:2], np.nan)
    lead = np.asarray(subject.lead_time, dtype="float64")
    for member in range(hours.shape[1]):
        times = np.flatnonzero(subject.present[:, member, level])
        hours[times[1:], member] = np.diff(lead[times])
    return hours


def _arrivals(high: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The fields to blame: a jump there and back at once is the fault of the field in the middle."""
    out = np.zeros_like(high)
    for member in range(high.shape[1]):
        back = False
        for time in np.flatnonzero(present[:, member]).tolist():
            arrived = bool(high[time, member]) and not back
            out[time, member] = arrived
            back = arrived
    return out
