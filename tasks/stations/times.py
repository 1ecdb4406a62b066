"""Times of observations: counted in steps, as years, and as the spans that a recipe and a window mean.

A timestamp is ``EPOCH + n * step``; a span of timestamps is half open in ``n``. All of it is UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..lake.errors import UsageError
from ..lake.phase import Window
from .recipe import StationRecipe

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Timestamps number ``first`` up to, but not with, ``stop``."""

    first: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.first)

    def clipped(self, other: "Span") -> "Span":
        """What both have in common; may be empty."""
        first = max(self.first, other.first)
        return Span(first, max(first, min(self.stop, other.stop)))


def number(moment: datetime, step: timedelta) -> int:
    """The first timestamp at or after a moment."""
    return -((EPOCH - moment) // step)


def moment(number: int, step: timedelta) -> datetime:
    """A timestamp by its number."""
    return EPOCH + number * step


def year_span(year: int, step: timedelta) -> Span:
    """The timestamps that lie in a calendar year."""
    return Span(number(datetime(year, 1, 1, tzinfo=UTC), step), number(datetime(year + 1, 1, 1, tzinfo=UTC), step))


def open_from(now: datetime, months: int) -> datetime:
    """Start of the last ``months`` months, the running one included."""
    count = now.year * 12 + now.month - 1 - (months - 1)
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)


def following(month: datetime, months: int) -> datetime:
    """Start of the month ``months`` after."""
    count = month.year * 12 + month.month - 1 + months
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)


def spans(recipe: StationRecipe, window: Window, now: datetime) -> list[Span]:
    """What is asked for, up to the last timestamp that has passed. Raises ``UsageError`` for a span that ends
    before it starts, lies in the future, or is named as a run."""
    if window.run is not None or window.latest:
        raise UsageError("observations have no runs; name a span with --start and --end, or --years")
    step, select = recipe.step, recipe.select
    past = number(now, step) + (1 if moment(number(now, step), step) == now else 0)
    if window.start is None and window.end is None and select.years:
        found = [year_span(y, step) for y in select.years]
    else:
        start = window.start or select.start
        end = window.end or (select.end if select.end is not None else now)
        if end < start:
            raise UsageError(
                "the span of observations ends before it starts",
                expected=f"an end not before {start:%Y-%m-%dT%H:%MZ}", found=f"{end:%Y-%m-%dT%H:%MZ}",
            )  # fmt: skip
        found = [Span(number(start, step), number(end + step, step) if _whole(end, step) else number(end, step))]
    found = [s.clipped(Span(s.first, past)) for s in _joined(found)]
    found = [s for s in found if len(s)]
    if not found:
        raise UsageError("the span of observations lies in the future", expected=f"before {now:%Y-%m-%dT%H:%MZ}")
    return found


def years(recipe: StationRecipe, window: Window, now: datetime) -> list[str]:
    """The calendar years that a recipe and a window touch, as scopes: ``2024``."""
    found: set[int] = set()
    for span in spans(recipe, window, now):
        found.update(range(moment(span.first, recipe.step).year, moment(span.stop - 1, recipe.step).year + 1))
    return [str(y) for y in sorted(found)]


def _whole(end: datetime, step: timedelta) -> bool:
    return (end - EPOCH) % step == timedelta(0)


def _joined(spans: Sequence[Span]) -> list[Span]:
    out: list[Span] = []
    for span in sorted(spans):
        if out and span.first <= out[-1].stop:
            out[-1] = Span(out[-1].first, max(out[-1].stop, span.stop))
        else:
            out.append(span)
    return out
