"""Accumulations: what has fallen cannot be taken back. Names the source field that is wrong."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import Index, others, place, quantity
from .limits import traits


@checks.register("accumulation")
class Accumulation(Check):
    """Accumulated fields do not fall along lead_time beyond what packing and rounding explain.

    Judged are windows ``accum`` of parameters with the trait ``rising`` and those named in ``variables`` (fluxes
    with a sign may fall, so an unknown parameter is left alone). Steps are compared only within windows that
    begin at the same time (``Subject.window_start``). A point falls when it loses more than ``relative`` of its
    value (mantissa bits kept: 2**-7) plus ``packing`` of the field's largest (two fields packed with 12 bits).

    The fault is put on the field that disagrees with both its neighbours: where a later field is no smaller
    than the one before the fall, the falling field is too low, otherwise the one before it is too high. A
    deaccumulation would instead spread the damage over two steps.
    """

    type: str = "accumulation"
    variables: tuple[str, ...] = Field(default=(), description="Further variables that must never fall.")
    relative: float = Field(default=2.0**-7, ge=0, lt=1)
    packing: float = Field(default=2.0**-12, ge=0, lt=1)
    allowed: float = Field(default=0.0, ge=0, lt=1, description="Share of points that may fall all the same.")

    def run(self, subject: Subject) -> Finding:
        rising = "rising" in (traits(subject) or ()) or subject.name in self.variables
        if subject.window != "accum" or not rising:
            return self.finding(subject, f"{subject.name}: is not an accumulation that must rise, so not judged.")
        faulty = np.zeros(subject.present.shape, bool)
        worst: tuple[float, Index, str] | None = None
        for member, level in np.ndindex(subject.present.shape[1:]):
            for times in self._windows(subject, member, level):
                for time, fall, count in self._falls(subject.values[:, member, level], times):
                    index = (time, member, level)
                    faulty[index] = True
                    if worst is None or fall > worst[0]:
                        points = f"{count} points fall" if count > 1 else "1 point falls"
                        text = f"{points} by up to {quantity(fall, subject.units)}"
                        worst = (fall, index, text)
        total = int(np.count_nonzero(subject.present))
        if worst is None:
            return self.finding(subject, f"{subject.name}: no accumulation falls in {total} fields.")
        where = place(subject, worst[1])
        sentence = f"{subject.name} at {where}: the accumulated field is wrong, {worst[2]}{others(faulty)}."
        return self.finding(subject, sentence, faulty, of=total)

    def _windows(self, subject: Subject, member: int, level: int) -> list[list[int]]:
        """Time positions of the fields that are there, by the start of their window."""
        times = np.flatnonzero(subject.present[:, member, level]).tolist()
        if subject.window_start is None:
            return [times]
        starts = [int(subject.window_start[t]) for t in times]
        return [[t for t, s in zip(times, starts, strict=True) if s == start] for start in dict.fromkeys(starts)]

    def _falls(self, values: np.ndarray, times: list[int]) -> list[tuple[int, float, int]]:
        """(position of the wrong field, largest fall, number of points that fall); ``values`` (lead_time, y, x)."""
        out = []
        good: int | None = None
        for position, time in enumerate(times):
            if good is None:
                good = time
                continue
            falls = self._falling(values[good], values[time])
            count = int(np.count_nonzero(falls))
            if count <= self.allowed * falls.size:
                good = time
                continue
            earlier, later = values[good][falls], values[time][falls]
            with np.errstate(invalid="ignore", over="ignore"):
                fall = float(np.fmax.reduce(earlier - later))
            wrong = time
            if position + 1 < len(times):
                wrong = time if _mostly(values[times[position + 1]][falls] >= earlier) else good
            elif position >= 2 and times[position - 1] == good:
                # The last field: it is the one before that sticks out when the two around it agree.
                wrong = good if _mostly(later >= values[times[position - 2]][falls]) else time
            out.append((wrong, fall, count))
            good = time if wrong != time else good
        return out

    def _falling(self, earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        largest = float(np.fmax.reduce(np.abs(earlier), axis=None))
        slack = self.packing * largest if np.isfinite(largest) else 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            return later < earlier - np.abs(earlier) * np.float32(self.relative) - np.float32(slack)


def _mostly(truth: np.ndarray) -> bool:
    return 2 * int(np.count_nonzero(truth)) >= truth.size
