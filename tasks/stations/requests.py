"""Which requests fetch what is wanted: packed by data points over stations, times and parameters.

What was planned once stays planned: the requests of a recipe stand in a book in the lake, and only what none of them
covers is planned anew. So a year more, a station more or a parameter more costs just that, and finished requests are
finished whatever the plan of today would be.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from ..lake.errors import ConflictError, CorruptInput, NotFound
from ..lake.lake import Lake
from ..lake.partition import digest_json
from .times import Span, moment

SCOPE = "requests"
"""The scope of all requests of a recipe."""


class Ask(msgspec.Struct, frozen=True, order=True):
    """One request: stations x timestamps ``first`` up to ``stop`` (numbers, see `times`) x parameters.

    ``open`` asks for months that are not over: it is made again and again, and ends at the present.
    """

    first: int
    stop: int
    stations: tuple[str, ...]
    parameters: tuple[str, ...]
    open: bool = False

    @property
    def span(self) -> Span:
        """Its timestamps."""
        return Span(self.first, self.stop)

    @property
    def points(self) -> int:
        """Data points, as the provider counts them."""
        return len(self.stations) * (self.stop - self.first) * len(self.parameters)

    def key(self, step: timedelta) -> str:
        """The partition of ingest: readable, and different for different requests."""
        who = self.stations[0] if len(self.stations) == 1 else f"{len(self.stations)}-stations"
        start = moment(self.first, step)
        when = f"open-{start:%Y%m}" if self.open else f"{start:%Y%m%dT%H%M}-{self.stop - self.first}"
        identity = [self.stations, self.parameters, self.first, None if self.open else self.stop]
        return f"{SCOPE}/{when}-{who}-{digest_json(identity)[7:15]}"


type Wanted = Mapping[str, tuple[str, ...]]
"""Station -> the parameters that are wanted of it."""


class Book(msgspec.Struct):
    """The requests of a recipe, in the lake at ``stations/<recipe>/requests.json``."""

    asks: list[Ask] = []

    def of(self, wanted: Wanted, spans: Sequence[Span]) -> list[Ask]:
        """The closed requests that fetch anything of what is wanted."""
        return [
            ask
            for ask in self.asks
            if not ask.open
            and any(len(ask.span.clipped(s)) for s in spans)
            and any(set(ask.parameters) & set(wanted.get(s, ())) for s in ask.stations)
        ]


def book_key(recipe: str) -> str:
    """Where the book of a recipe lies in the lake."""
    return f"stations/{recipe}/requests.json"


def read_book(lake: Lake, recipe: str) -> tuple[Book, str | None]:
    """The book and its etag; an empty one where there is none."""
    try:
        data, etag = lake.objects.get_with_etag(book_key(recipe))
    except NotFound:
        return Book(), None
    try:
        return msgspec.json.decode(data, type=Book), etag
    except msgspec.DecodeError as error:
        raise CorruptInput(
            f"{book_key(recipe)} cannot be read ({error}); delete it, and ingest plans everything anew"
        ) from None


def enter(lake: Lake, recipe: str, asks: Iterable[Ask], step: timedelta) -> None:
    """Put requests into the book that are not in it. Two flows that do so at once both find theirs in it afterwards."""
    asks = list(asks)
    for _ in range(20):
        book, etag = read_book(lake, recipe)
        known = {ask.key(step): ask for ask in book.asks}
        merged = known | {ask.key(step): ask for ask in asks}
        if merged == known:
            return
        data = msgspec.json.encode(Book(sorted(merged.values())))
        try:
            if etag is None:
                lake.objects.put_new(book_key(recipe), data)
            else:
                lake.objects.replace(book_key(recipe), data, etag)
            return
        except ConflictError:
            continue
    raise ConflictError(f"{book_key(recipe)} was changed by others all the time")


def missing(book: Book, wanted: Wanted, spans: Sequence[Span], points: int, several: bool) -> list[Ask]:
    """Requests for what is wanted and in no closed request of the book, of at most ``points`` data points."""
    covered = _covered(book)
    groups: dict[tuple[Span, tuple[str, ...]], list[str]] = defaultdict(list)
    for station, parameters in sorted(wanted.items()):
        by_gaps: dict[tuple[Span, ...], list[str]] = defaultdict(list)
        for parameter in parameters:
            by_gaps[_gaps(spans, covered.get((station, parameter), []))].append(parameter)
        for gaps, names in by_gaps.items():
            for gap in gaps:
                groups[gap, tuple(names)].append(station)
    asks: list[Ask] = []
    for (gap, names), stations in groups.items():
        asks += packed(stations, gap, names, points, several)
    return sorted(asks)


def packed(
    stations: Sequence[str], span: Span, parameters: tuple[str, ...], points: int, several: bool, *, open: bool = False
) -> list[Ask]:
    """Requests of at most ``points`` data points: as long as one station fills, and the rest with several stations."""
    steps = max(1, points // len(parameters))
    whole = len(span) // steps
    asks = [
        Ask(span.first + n * steps, span.first + (n + 1) * steps, (station,), parameters, open)
        for station in stations
        for n in range(whole)
    ]
    rest = len(span) - whole * steps
    if rest:
        together = max(1, steps // rest) if several else 1
        asks += [
            Ask(span.first + whole * steps, span.stop, tuple(stations[at : at + together]), parameters, open)
            for at in range(0, len(stations), together)
        ]
    return asks


def halves(ask: Ask) -> list[Ask]:
    """Two requests for what one asked too much for: by time, and when that is one timestamp, by stations."""
    middle = (ask.first + ask.stop) // 2
    if middle > ask.first:
        return [msgspec.structs.replace(ask, stop=middle), msgspec.structs.replace(ask, first=middle)]
    if len(ask.stations) > 1:
        half = len(ask.stations) // 2
        return [msgspec.structs.replace(ask, stations=s) for s in (ask.stations[:half], ask.stations[half:])]
    return []


def singles(ask: Ask) -> list[Ask]:
    """One request for each station."""
    return [msgspec.structs.replace(ask, stations=(s,)) for s in ask.stations]


def datetimes(ask: Ask, step: timedelta) -> str:
    """The interval of a request as EDR writes it, both ends in it."""
    return f"{_text(moment(ask.first, step))}/{_text(moment(ask.stop - 1, step))}"


def _text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _covered(book: Book) -> dict[tuple[str, str], list[Span]]:
    covered: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for ask in sorted(a for a in book.asks if not a.open):
        for station in ask.stations:
            for parameter in ask.parameters:
                covered[station, parameter].append(ask.span)
    return covered


def _gaps(spans: Sequence[Span], covered: Sequence[Span]) -> tuple[Span, ...]:
    """What of ``spans`` lies in none of ``covered`` (sorted by start)."""
    found: list[Span] = []
    for span in spans:
        at = span.first
        for other in covered:
            if other.stop <= at or other.first >= span.stop:
                continue
            if other.first > at:
                found.append(Span(at, other.first))
            at = max(at, other.stop)
        if at < span.stop:
            found.append(Span(at, span.stop))
    return tuple(found)
