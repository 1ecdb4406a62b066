"""Counts of verdicts, and what changed from one survey to the next. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .probe import Row
from .reasons import COMPATIBLE


def result(row: Row) -> str:
    """A row in one word: compatible, a reason, or - without a verdict - the state its check is in."""
    if row.tiling_compatible:
        return COMPATIBLE
    return row.incompatible_reason or row.state


def counts(rows: Sequence[Row]) -> dict[str, Any]:
    """How many collections there are by result, and of these by format, extension and data centre."""
    return {
        "collections": len(rows),
        "compatible": sum(row.tiling_compatible is True for row in rows),
        "incompatible": sum(row.tiling_compatible is False for row in rows),
        "without_verdict": sum(row.tiling_compatible is None for row in rows),
        "by_result": _ordered(Counter(map(result, rows))),
        "by_format": _table((row.format or "unknown", result(row)) for row in rows),
        "by_extension": _table((row.extension or "none", result(row)) for row in rows),
        "by_data_center": _table((row.data_center or "unknown", result(row)) for row in rows),
    }


def _ordered(counter: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _table(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Name -> result -> count, the most frequent name first."""
    found: dict[str, Counter[str]] = {}
    for name, what in pairs:
        found.setdefault(name, Counter())[what] += 1
    order = sorted(found, key=lambda name: (-found[name].total(), name))
    return {name: _ordered(found[name]) for name in order}


def changes(before: Mapping[str, str], rows: Sequence[Row], compared_with: str) -> dict[str, Any]:
    """What is different from an earlier survey, whose results by collection are ``before``."""
    now = {row.collection_concept_id: result(row) for row in rows}
    both = [(key, before[key], now[key]) for key in sorted(now) if key in before and before[key] != now[key]]
    return {
        "compared_with": compared_with,
        "added": sorted(now.keys() - before.keys()),
        "removed": sorted(before.keys() - now.keys()),
        "now_compatible": [{"collection": k, "before": b} for k, b, n in both if n == COMPATIBLE],
        "no_longer_compatible": [{"collection": k, "now": n} for k, b, n in both if b == COMPATIBLE],
        "other_result": [
            {"collection": k, "before": b, "now": n} for k, b, n in both if COMPATIBLE not in (b, n)
        ],
        "unchanged": sum(1 for key in now if before.get(key) == now[key]),
    }  # fmt: skip
