"""Jumps: a field that does not belong between its neighbours in time."""

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index, thinned
from .limits import traits
from .phrases import others, place, quantity


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
    factor: float = Key(default=3.0, gt=1)
    deviations: float = Key(default=8.0, gt=0)
    spread_share: float = Key(default=0.4, gt=0)
    minimum_steps: int = Key(default=5, ge=3)
    points: int = Key(default=65536, ge=100, description="Points of a field that are looked at, evenly spread.")

    def watch(self, subject: Subject) -> Watch:
        if (traits(subject) or frozenset()) & {"sparse", "circular", "static"}:
            return Quiet(self, subject, "changes by nature in jumps, so not judged")
        if len(subject.lead_time) < self.minimum_steps:
            return Quiet(self, subject, "too few steps to be judged for jumps")
        return _Watch(self, subject)


class _Watch(Watch[Jump]):
    def __init__(self, check: Jump, subject: Subject) -> None:
        super().__init__(check, subject)
        # Mean absolute change per root hour since the previous field, and the standard deviation in space.
        self.change = np.full(subject.present.shape, np.nan)
        self.spread = np.full(subject.present.shape, np.nan)
        self.hours = _hours(subject)
        self.before: tuple[tuple[int, int], np.ndarray] | None = None

    def see(self, field: Field) -> None:
        values = thinned(field.values, self.check.points).copy()
        finite = values if not field.missing and np.isfinite(field.low + field.high) else values[np.isfinite(values)]
        if finite.size:
            self.spread[field.index] = float(finite.std(dtype="float64"))
        before, self.before = self.before, (field.index[1:], values)
        hours = self.hours[field.index]
        if before is None or before[0] != field.index[1:] or not hours > 0:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(values - before[1])
            mean = float(difference.mean(dtype="float64"))
        if not np.isfinite(mean):
            difference = difference[np.isfinite(difference)]
            mean = float(difference.mean(dtype="float64")) if difference.size else np.nan
        self.change[field.index] = mean / np.sqrt(hours)

    def finding(self) -> Finding:
        subject = self.subject
        worst: tuple[float, Index, str] | None = None
        judged = 0
        for level in range(subject.present.shape[2]):
            change, spread, hours = (a[:, :, level] for a in (self.change, self.spread, self.hours))
            known = np.isfinite(change)
            if np.count_nonzero(known.any(axis=1)) + 1 < self.check.minimum_steps:
                continue
            judged += int(np.count_nonzero(known))
            median = float(np.median(change[known]))
            high = self._high(change, spread, hours, known, median)
            for time, member in np.argwhere(_arrivals(high, subject.present[:, :, level])).tolist():
                index = (time, member, level)
                self.faulty[index] = True
                ratio = change[time, member] / median if median > 0 else np.inf
                if worst is None or ratio > worst[0]:
                    amount = quantity(change[time, member] * np.sqrt(hours[time, member]), subject.units)
                    usual = quantity(median * np.sqrt(hours[time, member]), subject.units)
                    worst = (ratio, index, f"the mean change since the previous step is {amount}, usual is {usual}")
        if worst is None:
            return self.sound(f"{subject.name}: no jump in {judged} changes between steps.")
        sentence = f"{subject.name} at {place(subject, worst[1])}: {worst[2]}{others(self.faulty)}."
        return self.faults(sentence, worst[1], of=judged)

    def _high(
        self, change: np.ndarray, spread: np.ndarray, hours: np.ndarray, known: np.ndarray, median: float
    ) -> np.ndarray:
        """Whether each change of a level (lead_time, member) is a jump."""
        check = self.check
        deviation = 1.4826 * float(np.median(np.abs(change[known] - median)))
        usual_spread = float(np.median(spread[np.isfinite(spread)]))
        with np.errstate(invalid="ignore"):
            high = known & (change > max(check.factor * median, median + check.deviations * deviation))
            return high & (change * np.sqrt(hours) > check.spread_share * usual_spread)


def _hours(subject: Subject) -> np.ndarray:
    """Hours since the previous field that is there, float64 (lead_time, member, level); NaN for the first."""
    hours = np.full(subject.present.shape, np.nan)
    lead = np.asarray(subject.lead_time, dtype="float64")
    for member, level in np.ndindex(hours.shape[1:]):
        times = np.flatnonzero(subject.present[:, member, level])
        hours[times[1:], member, level] = np.diff(lead[times])
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
