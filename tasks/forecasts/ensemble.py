"""Statistics over the members of an ensemble, cell by cell and lead time by lead time."""

from collections.abc import Sequence

import numpy as np

from .products import Statistic


def statistics(values: np.ndarray, wanted: Sequence[Statistic]) -> list[np.ndarray]:
    """Statistics over axis 1 of float32 (lead_time, member, ...): float32 (lead_time, ...) each, in the order wanted.

    Over the members that have a value; NaN where none has. ``mean`` and ``std`` are summed in float64; ``std`` divides
    by the number of members. A ``quantile`` lies between the members in order, ``(n - 1) q`` places from the lowest,
    linearly (definition 7 of Hyndman and Fan, 1996). ``above`` and ``below`` are the share of members beyond the
    threshold, 0 to 1, not counting those that equal it.
    """
    results = [np.empty((values.shape[0], *values.shape[2:]), "float32") for _ in wanted]
    for lead in range(values.shape[0]):
        members = values[lead]
        missing = np.isnan(members)
        there: np.ndarray | int = members.shape[0]
        if missing.any():
            there = members.shape[0] - np.count_nonzero(missing, axis=0)
        ordered = np.sort(members, axis=0) if any(s.kind == "quantile" for s in wanted) else None
        mean = _mean(members, there) if any(s.kind in ("mean", "std") for s in wanted) else None
        for statistic, result in zip(wanted, results, strict=True):
            result[lead] = _one(statistic, members, there, ordered, mean)
    return results


def _one(
    statistic: Statistic,
    members: np.ndarray,
    there: np.ndarray | int,
    ordered: np.ndarray | None,
    mean: np.ndarray | None,
) -> np.ndarray:
    if statistic.kind == "quantile":
        assert ordered is not None
        return _quantile(ordered, there, statistic.value)
    if statistic.kind in ("mean", "std"):
        assert mean is not None
        return mean if statistic.kind == "mean" else _deviation(members, there, mean)
    # A comparison with NaN is false, so members without a value are on neither side.
    with np.errstate(invalid="ignore"):
        beyond = (
            members > np.float32(statistic.value)
            if statistic.kind == "above"
            else members < np.float32(statistic.value)
        )
    return _shared(np.count_nonzero(beyond, axis=0), there)


def _mean(members: np.ndarray, there: np.ndarray | int) -> np.ndarray:
    if isinstance(there, int):
        return members.mean(axis=0, dtype="float64")
    return _shared(np.nansum(members, axis=0, dtype="float64"), there)


def _deviation(members: np.ndarray, there: np.ndarray | int, mean: np.ndarray) -> np.ndarray:
    total = np.zeros(mean.shape)
    for member in members:
        away = member - mean
        away *= away
        np.add(total, away, out=total, where=~np.isnan(away)) if not isinstance(there, int) else np.add(
            total, away, out=total
        )
    return np.sqrt(_shared(total, there))


def _quantile(ordered: np.ndarray, there: np.ndarray | int, share: float) -> np.ndarray:
    """Between the members in order; those without a value stand last."""
    if isinstance(there, int):
        low = int((there - 1) * share)
        part = (there - 1) * share - low
        above = ordered[min(low + 1, there - 1)]
        return ordered[low] + np.float32(part) * (above - ordered[low])
    place = np.maximum(there - 1, 0) * share
    low = place.astype("int64")
    below = np.take_along_axis(ordered, low[None], axis=0)[0]
    above = np.take_along_axis(ordered, np.minimum(low + 1, np.maximum(there - 1, 0))[None], axis=0)[0]
    return below + (place - low).astype("float32") * (above - below)


def _shared(total: np.ndarray, there: np.ndarray | int) -> np.ndarray:
    """A sum over the members divided by how many have a value: NaN where none has."""
    if isinstance(there, int):
        return total / there
    return np.where(there > 0, total / np.maximum(there, 1), np.nan)
