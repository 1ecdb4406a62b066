"""What changed at a provider and when, as tables: a value for every run from a certain one on."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ...lake.errors import UsageError

type Steps = tuple[int, ...]


class Eras[T]:
    """Values that hold from an initialisation time on: ``Eras({"2024-02-01": a, "2024-02-28T06": b})``."""

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = tuple((datetime.fromisoformat(since).replace(tzinfo=UTC), v) for since, v in values.items())
        since = [s for s, _ in self._values]
        if since != sorted(set(since)):
            raise ValueError(f"eras must begin one after the other, found {list(values)}")

    def __iter__(self) -> Iterator[tuple[datetime, T]]:
        """Pairs of the first initialisation time (UTC) and the value, oldest first."""
        return iter(self._values)

    def at(self, run: datetime, what: str) -> T:
        """The value for a run (UTC). Raises ``UsageError``, which names ``what``, before the first era."""
        for since, value in reversed(self._values):
            if run >= since:
                return value
        first = self._values[0][0]
        raise UsageError(
            f"{what} has no run that early", expected=f"{first:%Y-%m-%dT%H} or later", found=f"{run:%Y-%m-%dT%H}"
        )


def era_of(run: datetime, *tables: Eras[Any]) -> str:
    """The latest change before a run (UTC) in any of several tables: ``2026-05-12T06``."""
    since = [start for table in tables for start, _ in table if start <= run]
    return f"{max(since):%Y-%m-%dT%H}" if since else "all"


def every(*ranges: tuple[int, int, int]) -> Steps:
    """Steps (h) of ranges of first, last and interval: ``every((0, 144, 3), (150, 360, 6))``."""
    return tuple(s for first, last, interval in ranges for s in range(first, last + 1, interval))


def by_hour[T](values: Mapping[Sequence[int], T], run: datetime, what: str) -> T:
    """The value for a run's hour, from a table by hours of the day.

    Raises ``UsageError``, which names ``what``, for an hour that has no run.
    """
    for hours, value in values.items():
        if run.hour in hours and not run.minute:
            return value
    known = ", ".join(f"{h:02d}" for h in sorted(h for hours in values for h in hours))
    raise UsageError(f"{what} has no run at that hour", expected=f"one of {known} UTC", found=f"{run:%H:%M}")


def hours_after(latencies: Sequence[tuple[int, float]], step: int) -> float:
    """Hours after the initialisation time at which a step (h) is usually there, between those that are known."""
    steps, hours = zip(*latencies, strict=True)
    return float(np.interp(step, steps, hours))
