"""Climatology: a run is held against the last accepted ones."""

import numpy as np
from pydantic import Field as Key

from .check import Check, Climate, Finding, Quiet, Subject, Watch, checks
from .field import Field, Index
from .limits import traits
from .phrases import others, place, quantity
from .statistics import NAMES, pattern, summary


@checks.register("climate")
class Climatology(Check):
    """Mean, spread and quantiles of each field are not far from those of the last accepted runs, nor is its pattern.

    The distance is a robust z-score: from the median of the runs, in units of the largest of 1.4826 MAD over the runs,
    the spread between members, and ``floor`` times the standard deviation in space (weather varies; twenty quiet days
    must not make the next storm a fault). A pattern (means over 6 x 12 boxes) is wrong when it correlates by
    ``pattern_drop`` less with the median pattern than any accepted run did, where those do at all: a map upside down,
    shifted, or of another parameter. Needs ``minimum_runs``; direction, cloud and rain have no pattern.
    """

    type: str = "climate"
    deviations: float = Key(default=8.0, gt=0)
    floor: float = Key(default=0.25, gt=0)
    pattern_drop: float = Key(default=0.5, gt=0, le=2)
    minimum_runs: int = Key(default=8, ge=3)

    def watch(self, subject: Subject) -> Watch:
        climate = subject.climate
        if climate is None or len(climate.runs) < self.minimum_runs:
            there = 0 if climate is None else len(climate.runs)
            return Quiet(
                self, subject, f"only {there} accepted runs to be held against, {self.minimum_runs} are needed"
            )
        if "circular" in (traits(subject) or ()):
            return Quiet(self, subject, "is a direction, so not held against other runs")
        return _Watch(self, subject, climate)


class _Watch(Watch[Climatology]):
    def __init__(self, check: Climatology, subject: Subject, climate: Climate) -> None:
        super().__init__(check, subject)
        self.runs = len(climate.runs)
        with np.errstate(all="ignore"):
            self.centre = _median(climate.statistics[..., : len(NAMES)])
            apart = np.abs(climate.statistics[..., : len(NAMES)] - self.centre)
            members = _median(climate.statistics[..., len(NAMES) :])
            space = check.floor * self.centre[..., 1:2]
            self.scale = np.fmax(np.fmax(1.4826 * _median(apart), members), space)
        self.pattern = _median(climate.pattern)
        self.usual = _usual(climate.pattern, self.pattern)
        # What leaps about by nature has no pattern that a run could miss.
        if (traits(subject) or frozenset()) & {"sparse", "rough"}:
            self.usual[:] = np.nan
        self.worst: tuple[float, Index, str] | None = None
        self.judged = 0

    def see(self, field: Field) -> None:
        time, _, level = field.index
        centre, scale = self.centre[time, level], self.scale[time, level]
        if not np.isfinite(centre[0]):
            return
        self.judged += 1
        found = summary(field)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.abs(found - centre) / scale
        distance[-1] = np.nan
        if np.nanmax(np.where(np.isfinite(distance), distance, 0.0)) > self.check.deviations:
            at = int(np.nanargmax(np.where(np.isfinite(distance), distance, 0.0)))
            units = self.subject.units
            text = f"{NAMES[at]} {quantity(found[at], units)}, in the last {self.runs} accepted runs {centre[at]:.4g}"
            self._wrong(field.index, float(distance[at]) / self.check.deviations, text)
            return
        usual = self.usual[time, level]
        if np.isfinite(usual) and usual > 0.6:
            alike = _correlation(pattern(field), self.pattern[time, level])
            if alike < usual - self.check.pattern_drop:
                text = f"the pattern correlates with that of the last {self.runs} accepted runs by {alike:.2f}"
                self._wrong(field.index, 1.0, f"{text}, usual is {usual:.2f} or more")

    def _wrong(self, index: Index, how: float, text: str) -> None:
        self.faulty[index] = True
        if self.worst is None or how > self.worst[0]:
            self.worst = (how, index, text)

    def finding(self) -> Finding:
        subject = self.subject
        if self.worst is None:
            return self.sound(
                f"{subject.name}: {self.judged} fields are like those of the last {self.runs} accepted runs."
            )
        sentence = f"{subject.name} at {place(subject, self.worst[1])}: {self.worst[2]}{others(self.faulty)}."
        return self.faults(sentence, self.worst[1], of=max(1, self.judged))


def _median(values: np.ndarray) -> np.ndarray:
    """Median over the first axis, NaN left out, NaN where there is nothing else."""
    there = np.isfinite(values).any(axis=0)
    return np.where(there, np.nanmedian(np.where(there, values, 0.0), axis=0), np.nan)


def _usual(patterns: np.ndarray, median: np.ndarray) -> np.ndarray:
    """Smallest correlation of an accepted run's pattern with the median, float64 (lead_time, level)."""
    out = np.full(median.shape[:2], np.nan)
    for time, level in np.ndindex(out.shape):
        found = [_correlation(p, median[time, level]) for p in patterns[:, time, level] if np.isfinite(p).any()]
        if found:
            out[time, level] = min(found)
    return out


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 8:
        return np.nan
    a, b = one[both] - one[both].mean(), other[both] - other[both].mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else np.nan
