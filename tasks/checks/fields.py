"""The two-dimensional fields of a subject, one at a time, so that no check needs a copy of the whole slab."""

from collections.abc import Iterator

import numpy as np
import xxhash

from .check import Subject
from .limits import spelled

Index = tuple[int, int, int]
"""Position of a field: (lead_time, member, level)."""


def fields(subject: Subject) -> Iterator[tuple[Index, np.ndarray]]:
    """Every field that counts, as ((time, member, level), values of shape (y, x)), views not copies."""
    for time, member, level in np.argwhere(subject.present).tolist():
        yield (time, member, level), subject.values[time, member, level]


def series(subject: Subject) -> Iterator[tuple[int, int, list[int]]]:
    """Every (member, level) with the time positions that count, in the order of the lead times."""
    present = subject.present
    for member, level in np.ndindex(present.shape[1:]):
        yield member, level, np.flatnonzero(present[:, member, level]).tolist()


def digests(subject: Subject) -> np.ndarray:
    """A 64-bit digest of the bits of each field, uint64 (lead_time, member, level); 0 where none counts."""
    out = np.zeros(subject.present.shape, np.uint64)
    for index, values in fields(subject):
        out[index] = xxhash.xxh3_64_intdigest(np.ascontiguousarray(values).data)
    return out


def extremes(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value, NaN left out (both NaN when there is nothing else)."""
    return float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))


def is_constant(values: np.ndarray) -> bool:
    """Whether all points hold one value, or none."""
    low, high = extremes(values)
    return not low < high


def thinned(values: np.ndarray, points: int) -> np.ndarray:
    """A view of every n-th row and column with about ``points`` points, enough for robust statistics."""
    step = max(1, int(np.sqrt(values.size / points)))
    return values[::step, ::step]


def place(subject: Subject, index: Index) -> str:
    """Where a field is, in words: ``+6 h, member 3, level 500``."""
    time, member, level = index
    words = [f"+{int(subject.lead_time[time])} h"]
    if subject.member is not None:
        words.append(f"member {int(subject.member[member])}")
    if subject.level is not None:
        words.append(f"level {float(subject.level[level]):g}")
    return ", ".join(words)


def others(faulty: np.ndarray) -> str:
    """What to say of the faulty fields beyond the one that a sentence describes."""
    more = int(np.count_nonzero(faulty)) - 1
    return f"; {more} other field{'s' if more > 1 else ''} likewise" if more > 0 else ""


def quantity(value: float, units: str) -> str:
    """A number with its unit for a sentence: four significant digits, no unit for a plain number."""
    unit = spelled(units)
    return f"{value:.4g} {unit}".rstrip() if unit != "1" else f"{value:.4g}"
