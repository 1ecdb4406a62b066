"""The one pass over the data: every field is read once and shown to every check.

Memory: the field at hand, the one that is read ahead, and what the checks keep of the fields before - a few
maps, whatever the number of lead times, members and levels.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .check import Check, Finding, Subject, Watch
from .field import Field, Index


def inspect(
    subjects: Sequence[Subject], checks: Sequence[Check], witnesses: Sequence[Sequence[Watch]] = ()
) -> list[Finding]:
    """Run all checks over variables that share their axes: the findings, variable by variable, check by check.

    Several subjects are read in step, so that partners can be compared field by field. ``witnesses`` are further
    watches of each subject (statistics), whose findings are not asked for.
    """
    watches = [[check.watch(subject) for check in checks] for subject in subjects]
    extra = [list(w) for w in witnesses] or [[] for _ in subjects]
    place = {id(subject): n for n, subject in enumerate(subjects)}
    partners = [place.get(id(subject.partner)) for subject in subjects]
    for index, maps in _ahead(subjects):
        for subject, values, partner, mine, more in zip(subjects, maps, partners, watches, extra, strict=True):
            if values is None or not subject.present[index]:
                continue
            field = Field(index, values, None if partner is None else maps[partner])
            for watch in mine:
                watch.see(field)
            for watch in more:
                watch.see(field)
    return [watch.finding() for mine in watches for watch in mine]


def _ahead(subjects: Sequence[Subject]) -> Iterator[tuple[Index, list[np.ndarray | None]]]:
    """Every place with a field, in the order of the watches; the next is read while this one is looked at."""
    wanted = list(_order(subjects))

    def read(index: Index) -> list[np.ndarray | None]:
        return [s.values[index] if s.present[index] else None for s in subjects]

    if all(isinstance(s.values, np.ndarray) for s in subjects):
        for index in wanted:
            yield index, read(index)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        coming = pool.submit(read, wanted[0]) if wanted else None
        for here, following in zip(wanted, [*wanted[1:], None], strict=True):
            assert coming is not None
            maps = coming.result()
            coming = pool.submit(read, following) if following is not None else None
            yield here, maps


def _order(subjects: Sequence[Subject]) -> Iterator[Index]:
    present = np.logical_or.reduce([s.present for s in subjects])
    times, members, levels = present.shape
    for member in range(members):
        for level in range(levels):
            for time in range(times):
                if present[time, member, level]:
                    yield time, member, level
