"""One map as the checks see it, with what several of them ask for measured once."""

from functools import cached_property

import numpy as np
import xxhash

Index = tuple[int, int, int]
"""Position of a field: (lead_time, member, level)."""

SAMPLE = 10_000
"""Points of a field for robust statistics."""


class Field:
    """A field at its place; ``values`` is float32 (y, x), ``partner`` the field of the subject's partner."""

    def __init__(self, index: Index, values: np.ndarray, partner: np.ndarray | None = None) -> None:
        self.index = index
        self.values = values
        self.partner = partner

    @cached_property
    def _extremes(self) -> tuple[float, float, int]:
        # The plain minimum is quick and NaN when anything is, which few fields have.
        values = self.values
        if not values.size:
            return np.nan, np.nan, 0
        with np.errstate(invalid="ignore"):
            low, high = float(values.min()), float(values.max())
        if low == low and high == high:
            return low, high, 0
        missing = int(np.count_nonzero(np.isnan(values)))
        return float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None)), missing

    @property
    def low(self) -> float:
        """Smallest value, NaN left out (NaN when there is nothing else)."""
        return self._extremes[0]

    @property
    def high(self) -> float:
        """Largest value, likewise."""
        return self._extremes[1]

    @property
    def missing(self) -> int:
        """Number of points that are NaN."""
        return self._extremes[2]

    @property
    def constant(self) -> bool:
        """Whether all points hold one value, or none."""
        return not self.low < self.high

    @property
    def empty(self) -> bool:
        """Whether there is nothing but NaN."""
        return self.missing == self.values.size

    @cached_property
    def digest(self) -> int:
        """A 64-bit digest of the bits."""
        return xxhash.xxh3_64_intdigest(np.ascontiguousarray(self.values).data)

    @cached_property
    def sample(self) -> np.ndarray:
        """Every n-th row and column, about `SAMPLE` points: a copy, float32 (y, x)."""
        return thinned(self.values, SAMPLE).copy()


def thinned(values: np.ndarray, points: int) -> np.ndarray:
    """A view of every n-th row and column with about ``points`` points, enough for robust statistics."""
    step = max(1, int(np.sqrt(values.size / points)))
    return values[::step, ::step]
