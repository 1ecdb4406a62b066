"""One axis of a grid in degrees: the edges of its cells, and whether it goes round the earth."""

import numpy as np

from ..lake.errors import UsageError

TOLERANCE = 1e-4
"""Share of a spacing by which coordinates may be off and still count as regular: GRIB rounds them to 1e-6 degrees,
and the coarser of its editions to 1e-3."""


def checked(name: str, values: np.ndarray) -> None:
    """Refuse an axis that is empty, not finite or not strictly monotonic. Raises `UsageError`."""
    if values.size == 0 or not np.isfinite(values).all():
        raise UsageError(f"a grid's {name} must be one or more finite numbers")
    step = np.diff(values)
    if values.size > 1 and not ((step > 0).all() or (step < 0).all()):
        raise UsageError(f"a grid's {name} must go up or down all the way")


def edges(centres: np.ndarray) -> np.ndarray:
    """Edges between the cells of an axis, float64 of shape ``(n + 1,)`` in its order: midpoints, and half a
    spacing beyond the first and the last. A single cell is taken to be 1 degree wide."""
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def latitude_bounds(centres: np.ndarray) -> np.ndarray:
    """Bounds ``(n, 2)`` of the rows of a grid, in its order and never beyond a pole."""
    return pairs(np.clip(edges(centres), -90, 90))


def longitude_bounds(centres: np.ndarray) -> np.ndarray:
    """Bounds ``(n, 2)`` of the columns of a grid, in its order.

    A grid that would overlap itself (longitude 360 beside longitude 0) is cut so that it goes round exactly once.
    """
    line = edges(centres)
    excess = abs(line[-1] - line[0]) - 360
    if excess > 0:
        inwards = np.copysign(excess / 2, line[-1] - line[0])
        line[0] += inwards
        line[-1] -= inwards
    return pairs(line)


def pairs(line: np.ndarray) -> np.ndarray:
    """Edges ``(n + 1,)`` as bounds ``(n, 2)``."""
    return np.stack([line[:-1], line[1:]], axis=1)


def is_periodic(longitude: np.ndarray) -> bool:
    """Whether columns go round the earth: the gap between the last and the first is no wider than a spacing."""
    if longitude.size < 3:
        return False
    step = np.abs(np.diff(longitude))
    extent = abs(longitude[-1] - longitude[0])
    return bool(extent <= 360 * (1 + 1e-9) and 360 - extent <= step.max() * (1 + TOLERANCE))


def repeats_its_first(longitude: np.ndarray) -> bool:
    """Whether the last column is the first one again, a turn later."""
    return bool(longitude.size > 1 and abs(abs(longitude[-1] - longitude[0]) - 360) < 1e-6)


def regular(first: float, last: float, count: int) -> np.ndarray:
    """``count`` evenly spaced values; no increment that a format has rounded is added up. float64 ``(count,)``."""
    if count == 1:
        return np.array([first], dtype="float64")
    # Ten decimals: below what any format holds, and 0.1 + 0.2 comes out as 0.3.
    return np.round(np.linspace(first, last, count), 10) + 0.0
