"""Spikes: single grid points far outside their neighbours."""

import numpy as np
from pydantic import Field

from .check import Check, Finding, Subject, checks
from .fields import Index, fields, others, place, quantity, thinned
from .limits import is_uneven, levels, limits, rows

SAMPLE = 10_000
"""Points for robust statistics of a field."""


@checks.register("spike")
class Spike(Check):
    """No point sticks out of all its neighbours by more than nature allows.

    The excess of a point is its distance beyond the largest, or below the smallest, of its eight neighbours. It
    is a spike when it exceeds both ``range_share`` of the parameter's physical range (``sparse_share`` for rain
    and its like, which do have lone peaks) and ``factor`` times the robust standard deviation of the differences
    between neighbours in the field. For a parameter that the table does not know, ``own_share`` times the width
    that holds 99.8 % of the field's values counts, and a field with a tenth of its points at one value is left
    alone. Parameters with the traits ``rough`` and ``circular``, and uneven surfaces, are not judged.
    Memory: two arrays of one field.
    """

    type: str = "spike"
    range_share: float = Field(default=0.15, gt=0)
    sparse_share: float = Field(default=0.3, gt=0)
    own_share: float = Field(default=3.0, gt=0)
    factor: float = Field(default=20.0, gt=0)

    def run(self, subject: Subject) -> Finding:
        floors = self._floors(subject)
        if not floors:
            return self.finding(subject, f"{subject.name}: is rough by nature or has too few points, so not judged.")
        faulty = np.zeros(subject.present.shape, bool)
        worst: tuple[float, Index, str] | None = None
        for index, values in fields(subject):
            floor = floors[index[2]]
            if floor is None:
                floor = self.own_share * _own_width(values)
            if not floor > 0:
                continue
            excess, at = _excess(values, floor, self.factor)
            if not excess.size:
                continue
            faulty[index] = True
            largest = int(np.argmax(excess))
            if worst is None or excess[largest] > worst[0]:
                y, x = at[largest]
                count = f"{excess.size} points stick" if excess.size > 1 else "a point sticks"
                text = (
                    f"{count} out of the neighbours, most by {quantity(float(excess[largest]), subject.units)} "
                    f"with {quantity(float(values[y, x]), subject.units)} at row {y}, column {x}"
                )
                worst = (float(excess[largest]), index, text)
        total = int(np.count_nonzero(subject.present))
        if worst is None:
            return self.finding(subject, f"{subject.name}: no point sticks out in {total} fields.")
        sentence = f"{subject.name} at {place(subject, worst[1])}: {worst[2]}{others(faulty)}."
        return self.finding(subject, sentence, faulty, of=total)

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


def _own_width(values: np.ndarray) -> float:
    sample = thinned(values, SAMPLE)
    sample = sample[np.isfinite(sample)]
    if sample.size < 9:
        return 0.0
    low, median, high = np.quantile(sample, [0.001, 0.5, 0.999])
    lone = max(np.mean(sample == np.min(sample)), np.mean(sample == median), np.mean(sample == np.max(sample)))
    return 0.0 if lone > 0.1 and sample.size >= 100 else float(high - low)


def _excess(values: np.ndarray, floor: float, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Excesses above the threshold, and their (y, x). A cheap look along x finds the few points to look at."""
    with np.errstate(invalid="ignore", over="ignore"):
        step = np.diff(values, axis=1)
        up, down = step > floor, step < -floor
        peak, pit = np.ones(values.shape, bool), np.ones(values.shape, bool)
        peak[:, 1:] &= up
        peak[:, :-1] &= down
        pit[:, 1:] &= down
        pit[:, :-1] &= up
        found = np.argwhere(peak | pit)
        if not len(found):
            return np.empty(0), found
        sample = thinned(np.abs(step), SAMPLE)
        sample = sample[np.isfinite(sample)]
        scale = 1.4826 * float(np.median(sample)) if sample.size else 0.0
        threshold = max(floor, factor * scale)
        excess = np.array([_beyond(values, y, x) for y, x in found.tolist()])
        keep = excess > threshold
    return excess[keep], found[keep]


def _beyond(values: np.ndarray, y: int, x: int) -> float:
    """How far the point lies beyond the extremes of its neighbours; the window ends at the edges of the grid."""
    window = values[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].astype("float64")
    centre = float(values[y, x])
    window[min(y, 1), min(x, 1)] = np.nan
    return max(centre - float(np.fmax.reduce(window, axis=None)), float(np.fmin.reduce(window, axis=None)) - centre)
