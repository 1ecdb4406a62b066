"""Requests: packed by data points, everything exactly once, and planned once and for all."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lake.lake import Lake
from tasks.stations.requests import Ask, Book, enter, halves, missing, read_book, singles
from tasks.stations.times import Span, number

HOUR = timedelta(hours=1)
LIMIT = 376_000
POINTS = int(0.95 * LIMIT)


def hours(start: datetime, end: datetime) -> Span:
    return Span(number(start, HOUR), number(end, HOUR))


def cells(asks: list[Ask]) -> Counter[tuple[str, str, int]]:
    return Counter((s, p, n) for a in asks for s in a.stations for p in a.parameters for n in range(a.first, a.stop))


def test_seventy_stations_and_twenty_five_years_fit_into_an_hours_quota() -> None:
    parameters = tuple(f"P{n:02}" for n in range(23))
    wanted = {f"0-20000-0-{6200 + n:05}": parameters for n in range(70)}
    span = hours(datetime(2000, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
    asks = missing(Book(), wanted, [span], POINTS, several=True)
    assert len(asks) <= 990
    assert max(a.points for a in asks) <= POINTS
    assert sum(a.points for a in asks) == 70 * 23 * len(span)
    by_station = Counter(dict.fromkeys(wanted, 0))
    for ask in asks:
        for station in ask.stations:
            by_station[station] += len(ask.span)
    assert set(by_station.values()) == {len(span)}
    # A year a request would take three quarters more.
    assert 70 * 25 == 1750
    # One station at a time: what the provider's other form of request costs.
    assert len(missing(Book(), wanted, [span], POINTS, several=False)) == 70 * 15
    # All of it planned, nothing is left to plan; keys differ.
    assert missing(Book(asks), wanted, [span], POINTS, several=True) == []
    assert len({a.key(HOUR) for a in asks}) == len(asks)


spans = st.tuples(st.integers(0, 60), st.integers(1, 40)).map(lambda s: Span(s[0], s[0] + s[1]))
wishes = st.dictionaries(
    st.sampled_from("abcde"), st.lists(st.sampled_from("TUV"), min_size=1, unique=True).map(lambda p: tuple(sorted(p)))
)


@given(st.lists(st.tuples(wishes, spans, st.integers(3, 200), st.booleans()), min_size=1, max_size=4))
def test_whatever_is_wanted_next_comes_exactly_once(steps: list) -> None:
    book: list[Ask] = []
    wanted_cells: set[tuple[str, str, int]] = set()
    for wanted, span, points, several in steps:
        new = missing(Book(book), wanted, [span], points, several)
        assert all(a.points <= points for a in new)
        assert several or all(len(a.stations) == 1 for a in new)
        book += new
        wanted_cells |= {(s, p, n) for s, names in wanted.items() for p in names for n in range(span.first, span.stop)}
        assert missing(Book(book), wanted, [span], points, several) == []
    found = cells(book)
    assert set(found) == wanted_cells
    assert set(found.values()) <= {1}


@given(spans, st.integers(1, 5))
def test_splitting_loses_nothing(span: Span, stations: int) -> None:
    ask = Ask(span.first, span.stop, tuple("abcde"[:stations]), ("T", "U"))
    for parts in (halves(ask), singles(ask)):
        assert not parts or cells(parts) == cells([ask])
    assert halves(ask) or (len(span) == 1 and stations == 1)


def test_the_book_is_kept_by_two_at_once(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    one, two = Ask(0, 10, ("a",), ("T",)), Ask(0, 10, ("b",), ("T",))
    enter(lake, "r", [one], HOUR)
    enter(lake, "r", [two, one], HOUR)
    book, etag = read_book(lake, "r")
    assert book.asks == sorted([one, two])
    enter(lake, "r", [one], HOUR)
    assert read_book(lake, "r")[1] == etag


def test_keys_say_what_they_are() -> None:
    first = number(datetime(2020, 1, 1, tzinfo=UTC), HOUR)
    assert (
        Ask(first, first + 24, ("0-20000-0-06260",), ("T",))
        .key(HOUR)
        .startswith("requests/20200101T0000-24-0-20000-0-06260-")
    )
    early, late = (Ask(first, first + n, ("a", "b"), ("T",), open=True) for n in (24, 48))
    assert early.key(HOUR) == late.key(HOUR)
    assert early.key(HOUR).startswith("requests/open-202001-2-stations-")


@pytest.mark.parametrize("several", [True, False])
def test_more_of_anything_costs_just_that(several: bool) -> None:
    year = hours(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    wanted = {"a": ("T", "U"), "b": ("T", "U")}
    book = Book(missing(Book(), wanted, [year], POINTS, several))
    later = Span(year.first, year.stop + 744)
    for more, span, points in (
        (wanted | {"c": ("T", "U")}, year, 2 * len(year)),
        (dict.fromkeys(wanted, ("T", "U", "V")), year, 2 * len(year)),
        (wanted, later, 2 * 2 * 744),
    ):
        assert sum(a.points for a in missing(book, more, [span], POINTS, several)) == points
