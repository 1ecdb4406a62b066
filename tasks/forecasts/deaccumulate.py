"""Accumulations taken apart: amounts and mean rates between lead times, whatever the windows of the source are.

A source gives ``A(start, end)``, what was gained between two hours of a forecast: since the start of the run
(ECMWF), since the last full 6 hours (GFS), in the last hour. Each is a step between two hours whose gain is known,
so any window whose ends are joined by such steps, forwards or backwards, is known as well, and any other is not:
a window is never bridged over a field that is missing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..lake.errors import UsageError

type Span = tuple[int, int]
"""First and last hour after the initialisation time."""

RELATIVE, PACKING = 2.0**-7, 2.0**-12
"""How far a gain that cannot be negative may fall below zero by rounding (7 mantissa bits) and packing (12 bits)."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain over ``span`` as a sum of fields: pairs of a place along lead_time and +1 or -1; None: not known."""

    span: Span
    terms: tuple[tuple[int, int], ...] | None


def gains(lead_time: Sequence[int], windows: Sequence[Span | None], hours: int | None = None) -> list[Gain | None]:
    """How the gain up to each lead time (h) follows from the fields; None where none is meant.

    ``windows`` has the window of the field at each lead time, None where there is no field. The span of a gain is
    from the lead time before (at the first, from the start of its own window), or the last ``hours``. None is meant
    where that would begin before the run. Raises ``UsageError`` for lengths that differ and windows that run backwards.
    """
    if len(lead_time) != len(windows):
        raise UsageError("there is a window per lead time", expected=len(lead_time), found=len(windows))
    joined: dict[int, list[tuple[int, int, int]]] = {}
    for place, window in enumerate(windows):
        if window is None:
            continue
        start, end = window
        if end < start or end != lead_time[place]:
            raise UsageError(
                "a window does not end at its lead time", expected=f"to {lead_time[place]} h", found=f"{start}-{end} h"
            )
        if end > start:
            joined.setdefault(start, []).append((end, place, 1))
            joined.setdefault(end, []).append((start, place, -1))
    found: list[Gain | None] = []
    for place, end in enumerate(lead_time):
        own = windows[place]
        if hours is not None:
            start = end - hours
        elif place:
            start = lead_time[place - 1]
        else:
            start = own[0] if own is not None else end
        meant = 0 <= start < end
        found.append(Gain((start, end), _path(joined, start, end)) if meant else None)
    return found


def _path(
    joined: Mapping[int, Sequence[tuple[int, int, int]]], start: int, end: int
) -> tuple[tuple[int, int], ...] | None:
    """The fewest fields whose gains add up to that between two hours, each with its sign."""
    came: dict[int, tuple[int, int, int]] = {start: (start, -1, 0)}
    ahead = deque([start])
    while ahead and end not in came:
        here = ahead.popleft()
        for there, place, sign in joined.get(here, ()):
            if there not in came:
                came[there] = (here, place, sign)
                ahead.append(there)
    if end not in came:
        return None
    terms, here = [], end
    while here != start:
        here, place, sign = came[here]
        terms.append((place, sign))
    return tuple(reversed(terms))


def take_apart(
    fields: np.ndarray,
    lead_time: Sequence[int],
    windows: Sequence[Span | None],
    *,
    hours: int | None = None,
    mean: bool = False,
    per_second: bool = False,
    rising: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Gains (or mean rates) of accumulated fields, and where one that cannot be negative was.

    ``fields`` is float32 (lead_time, ...), accumulated over ``windows`` (see `gains`), or averaged over them with
    ``mean`` (a mean counts with the length of its window in seconds). The result has the shape of ``fields``: the
    gain over each span, divided by its seconds with ``per_second``, NaN where it is not known. With ``rising`` a gain
    below zero is 0 where rounding and packing explain it (`RELATIVE` of the accumulation, `PACKING` of its largest
    value); elsewhere the value is NaN, and counted in the second result: int64 (lead_time,) numbers of such values.
    """
    result = np.full(fields.shape, np.nan, "float32")
    fallen = np.zeros(len(lead_time), "int64")
    for place, gain in enumerate(gains(lead_time, windows, hours)):
        if gain is None or gain.terms is None:
            continue
        total = np.zeros(fields.shape[1:])
        slack = np.zeros(fields.shape[1:]) if rising and len(gain.terms) > 1 else None
        for at, sign in gain.terms:
            window = windows[at]
            seconds = 3600.0 * (window[1] - window[0]) if mean and window is not None else 1.0
            total += fields[at] * (sign * seconds)
            if slack is not None:
                size = np.abs(fields[at])
                np.maximum(slack, seconds * (RELATIVE * size + PACKING * _largest(size)), out=slack)
        if rising:
            low = total < 0
            if slack is not None:
                beyond = total < -slack
                total[low & ~beyond] = 0.0
                low = beyond
            total[low] = np.nan
            fallen[place] = np.count_nonzero(low)
        result[place] = total / (3600.0 * (gain.span[1] - gain.span[0])) if per_second else total
    return result, fallen


def _largest(size: np.ndarray) -> float:
    largest = float(np.fmax.reduce(size, axis=None)) if size.size else 0.0
    return largest if np.isfinite(largest) else 0.0
