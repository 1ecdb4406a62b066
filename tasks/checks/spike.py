"""Spikes: single grid points far outside their neighbours."""

import numpy as np
from pydantic import Field as Key

from .check import Check, Finding, Quiet, Subject, Watch, checks
from .field import SAMPLE, Field, Index, thinned
from .limits import is_uneven, levels, limits, rows
from .phrases import others, place, quantity

_ROWS = 32
"""Rows of a map that are looked at together: what fits the processor's cache."""


@checks.register("spike")
class Spike(Check):
    """No point sticks out of all its neighbours by more than nature allows.

    The excess of a point is its distance beyond the largest, or below the smallest, of its eight neighbours. It
    is a spike when it exceeds both ``range_share`` of the parameter's physical range (``sparse_share`` for rain
    and its like, which do have lone peaks) and ``factor`` times the robust standard deviation of the differences
    between neighbours in the field. For a parameter that the table does not know, ``own_share`` times the width
    that holds 99.8 % of the field's values counts, and a field with a tenth of its points at one value is left
    alone. Parameters with the traits ``rough`` and ``circular``, and uneven surfaces, are not judged.
    """

    type: str = "spike"
    range_share: float = Key(default=0.15, gt=0)
    sparse_share: float = Key(default=0.3, gt=0)
    own_share: float = Key(default=3.0, gt=0)
    factor: float = Key(default=20.0, gt=0)

    def watch(self, subject: Subject) -> Watch:
        floors = self._floors(subject)
        if not floors:
            return Quiet(self, subject, "is rough by nature or has too few points, so not judged")
        return _Watch(self, subject, floors)

    def _floors(self, subject: Subject) -> list[float | None]:
        """Least excess for each level, None where the field itself must tell; empty when it is not judged."""
        known = rows(subject)
        if min(subject.values.shape[3:]) < 3 or (known and known[0].traits & {"rough", "circular"}):
            return []
        if is_uneven(subject):
            return []
        out: list[float | None] = []
        for level in levels(subject):
            row = limits(subject, level)
            share = self.sparse_share if row and "sparse" in row.traits else self.range_share
            out.append(share * row.width if row else None)
        return out


class _Watch(Watch[Spike]):
    def __init__(self, check: Spike, subject: Subject, floors: list[float | None]) -> None:
        super().__init__(check, subject)
        self.floors = floors
        self.worst: tuple[float, Index, str] | None = None
        # One array for all fields: touching fresh memory costs more than the look itself.
        self.step = np.empty((_ROWS, max(1, subject.values.shape[4] - 1)), np.float32)

    def see(self, field: Field) -> None:
        floor = self.floors[field.index[2]]
        if floor is None:
            floor = self.check.own_share * _own_width(field.sample)
        if not floor > 0:
            return
        excess, at = _excess(field.values, floor, self.check.factor, self.step)
        if not excess.size:
            return
        self.faulty[field.index] = True
        largest = int(np.argmax(excess))
        if self.worst is None or excess[largest] > self.worst[0]:
            y, x = at[largest]
            units = self.subject.units
            count = f"{excess.size} points stick" if excess.size > 1 else "a point sticks"
            text = (
                f"{count} out of the neighbours, most by {quantity(float(excess[largest]), units)} "
                f"with {quantity(float(field.values[y, x]), units)} at row {y}, column {x}"
            )
            self.worst = (float(excess[largest]), field.index, text)

    def finding(self) -> Finding:
        subject = self.subject
        if self.worst is None:
            return self.sound(f"{subject.name}: no point sticks out in {self.total} fields.")
        sentence = f"{subject.name} at {place(subject, self.worst[1])}: {self.worst[2]}{others(self.faulty)}."
        return self.faults(sentence, self.worst[1], of=self.total)


def _own_width(sample: np.ndarray) -> float:
    sample = sample[np.isfinite(sample)]
    if sample.size < 9:
        return 0.0
    low, median, high = np.quantile(sample, [0.001, 0.5, 0.999])
    lone = max(np.mean(sample == np.min(sample)), np.mean(sample == median), np.mean(sample == np.max(sample)))
    return 0.0 if lone > 0.1 and sample.size >= 100 else float(high - low)


def _excess(values: np.ndarray, floor: float, factor: float, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Excesses above the threshold, and their (y, x). A cheap look along x finds the few points to look at.

    ``step`` is an array to work in, of some rows and one column less than ``values``.
    """
    found: list[tuple[int, int]] = []
    with np.errstate(invalid="ignore", over="ignore"):
        for top in range(0, len(values), len(step)):
            part = values[top : top + len(step)]
            change = np.subtract(part[:, 1:], part[:, :-1], out=step[: len(part)])
            # NaN makes these NaN, and what is not known to be small is looked at.
            if -floor <= change.min() and change.max() <= floor:
                continue
            up, down = change > floor, change < -floor
            peak, pit = np.ones(part.shape, bool), np.ones(part.shape, bool)
            peak[:, 1:] &= up
            peak[:, :-1] &= down
            pit[:, 1:] &= down
            pit[:, :-1] &= up
            found += [(top + y, x) for y, x in np.argwhere(peak | pit).tolist()]
        if not found:
            return np.empty(0), np.empty((0, 2), int)
        sample = thinned(np.abs(np.diff(values, axis=1)), SAMPLE)
        sample = sample[np.isfinite(sample)]
        scale = 1.4826 * float(np.median(sample)) if sample.size else 0.0
        threshold = max(floor, factor * scale)
        excess = np.array([_beyond(values, y, x) for y, x in found])
        keep = excess > threshold
    return excess[keep], np.asarray(found)[keep]


def _beyond(values: np.ndarray, y: int, x: int) -> float:
    """How far the point lies beyond the extremes of its neighbours; the window ends at the edges of the grid."""
    window = values[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].astype("float64")
    centre = float(values[y, x])
    window[min(y, 1), min(x, 1)] = np.nan
    return max(centre - float(np.fmax.reduce(window, axis=None)), float(np.fmin.reduce(window, axis=None)) - centre)
