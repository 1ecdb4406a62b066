"""The neighbours of a station, and what they say together at each time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .catalogue import Station
from .limits import Neighbours

if TYPE_CHECKING:
    import polars as pl

_EARTH = 6371.0
"""Mean radius in km."""


def distance(one: Station, other: Station) -> float:
    """Great-circle distance in km (haversine)."""
    a, b = np.radians((one.latitude, other.latitude))
    half = np.sin((b - a) / 2) ** 2
    half += np.cos(a) * np.cos(b) * np.sin(np.radians(other.longitude - one.longitude) / 2) ** 2
    return float(2 * _EARTH * np.arcsin(np.sqrt(half)))


def nearest(station: Station, stations: Sequence[Station], limits: Neighbours) -> list[Station]:
    """The nearest stations within the radius and the difference in height, nearest first, at most ``limits.most``."""
    near = []
    for other in stations:
        known = station.height is not None and other.height is not None
        if other.id == station.id or (known and abs(station.height - other.height) > limits.height):  # type: ignore[operator]
            continue
        if (km := distance(station, other)) <= limits.radius:
            near.append((km, other.id, other))
    return [other for _, _, other in sorted(near, key=lambda n: n[:2])[: limits.most]]


def _sorted(values: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of one length as such that at each place they ascend; without NaN.

    Many times faster than ``np.sort`` over a short axis: an odd-even transposition, whole arrays at a time.
    """
    values = list(values)
    for turn in range(len(values)):
        for n in range(turn % 2, len(values) - 1, 2):
            values[n], values[n + 1] = np.minimum(values[n], values[n + 1]), np.maximum(values[n], values[n + 1])
    return values


def _median(values: list[np.ndarray], least: int, length: int) -> np.ndarray:
    """Median of what is finite of several arrays at each place; NaN where fewer than ``least`` are."""
    result = np.full(length, np.nan)
    missing = [~np.isfinite(v) for v in values]
    count = len(values) - np.sum(missing, axis=0, dtype="int64") if values else np.zeros(length, "int64")
    # Infinity sorts last, where the median of what is there never looks.
    ordered = _sorted([np.where(m, np.inf, v) if m.any() else v for v, m in zip(values, missing, strict=True)])
    for known in range(max(1, least), len(values) + 1):
        here = count == known
        if here.any():
            np.copyto(result, (ordered[(known - 1) // 2] + ordered[known // 2]) / 2, where=here)
    return result


def medians(
    times: "pl.Series", tables: "Sequence[pl.DataFrame]", limits: Neighbours, columns: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Column -> median of the neighbours' values at ``times``; NaN where fewer than ``limits.least`` have one.

    ``tables`` are the neighbours' prepared tables (`prepare.prepared`). The median stands one bad neighbour in three.
    """
    frame = times.alias("timestamp").to_frame()
    aligned = [
        t if t["timestamp"].equals(frame["timestamp"]) else frame.join(t, "timestamp", "left", maintain_order="left")
        for t in tables
    ]
    return {
        name: _median([a[name].to_numpy() for a in aligned], limits.least, len(times))
        for name in columns
        if name in limits.tolerance
    }
