"""How fields are spoken of: places, counts and quantities in the sentences of the checks."""

import numpy as np

from .check import Subject
from .field import Index
from .limits import spelled


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
