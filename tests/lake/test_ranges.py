"""Byte ranges: joined, fetched side by side, within a budget, whatever goes wrong."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lake.errors import CorruptInput
from tasks.lake.ranges import Budget, Part, extent, fetch, joined, parts

DATA = bytes(range(256)) * 64
spans = st.lists(st.tuples(st.integers(0, 16_000), st.integers(1, 300)), max_size=60)


@given(spans, st.integers(0, 500), st.integers(1, 4_000))
def test_groups_hold_every_range_once_and_keep_to_gap_and_size(ranges, gap: int, size: int) -> None:
    groups = joined(ranges, gap, size)
    assert sorted(r for g in groups for r in g) == sorted(set(ranges))
    for group in groups:
        assert len(group) == 1 or extent(group)[1] <= size
        end = group[0][0]
        for offset, length in group:
            assert offset - end <= gap
            end = max(end, offset + length)


@given(spans)
def test_what_is_fetched_is_what_lies_there(ranges) -> None:
    budget = Budget(2_000, 4)
    found = {}
    wanted = [Part("here", tuple(g)) for g in joined(ranges, 100, 1_000)]
    for part, data in fetch(lambda _place, o, n: DATA[o : o + n], wanted, budget):
        start = part.ranges[0][0]
        found |= {(o, n): bytes(data[o - start : o - start + n]) for o, n in part.ranges}
    assert found == {(o, n): DATA[o : o + n] for o, n in set(ranges)}
    assert budget.take(2_000, anyway=False), "the budget was not given back"


def test_no_more_requests_than_the_budget_are_under_way() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def read(place: str, offset: int, length: int) -> bytes:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.005)
        with lock:
            now[0] -= 1
        return DATA[offset : offset + length]

    groups = [Part("here", ((n * 200, 100),)) for n in range(40)]
    assert len(list(fetch(read, groups, Budget(10_000, 5)))) == 40
    assert 2 <= most[0] <= 5
    most[0] = 0
    assert len(list(fetch(read, groups, Budget(250, 100)))) == 40
    assert most[0] <= 2


def test_a_range_larger_than_the_budget_is_read_all_the_same() -> None:
    (found,) = fetch(lambda _place, o, n: DATA[o : o + n], [Part("here", ((0, 5_000),))], Budget(10, 1))
    assert bytes(found[1]) == DATA[:5_000]


def ten() -> list[Part]:
    return [Part("here", ((n * 200, 100),)) for n in range(10)]


def test_parts_of_several_objects_keep_their_place() -> None:
    wanted = [*parts("a", [(0, 10), (20, 10)]), *parts("b", [(5, 10)])]
    found = {part.place: bytes(data) for part, data in fetch(lambda place, o, n: place.encode() * n, wanted)}
    assert found == {"a": b"a" * 30, "b": b"b" * 10}


def test_an_error_ends_it_and_gives_the_budget_back() -> None:
    def read(place: str, offset: int, length: int) -> bytes:
        if offset == 600:
            raise CorruptInput("short")
        return DATA[offset : offset + length]

    budget = Budget(1_000, 3)
    with pytest.raises(CorruptInput, match="short"):
        list(fetch(read, ten(), budget))
    assert budget.take(1_000, anyway=False)
    budget.give_back(1_000)
    stopped = fetch(lambda _place, o, n: DATA[o : o + n], ten(), budget)
    next(stopped)
    stopped.close()
    assert budget.take(1_000, anyway=False)
