"""Gaussian grids: rows at the roots of a Legendre polynomial, and the cells that belong to them."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def rows(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes ``(2 * number,)`` from north to south and bounds ``(2 * number, 2)``, degrees, read-only.

    ``number`` is N, the rows between a pole and the equator. The bounds are such that a row's share of the earth is
    its Gauss weight: their sines are the cumulative weights.
    """
    from scipy.special import roots_legendre

    sines, weights = roots_legendre(2 * number)
    latitude = np.degrees(np.arcsin(sines[::-1]))
    line = np.concatenate([[1.0], 1 - np.cumsum(weights[::-1])])
    line = (line - line[::-1]) / 2
    # The arcsine blows a rounding of the sum up to a gap of 1e-6 degrees around the pole.
    line[0], line[-1] = 1.0, -1.0
    edges = np.degrees(np.arcsin(line))
    bounds = np.stack([edges[:-1], edges[1:]], axis=1)
    latitude.flags.writeable = bounds.flags.writeable = False
    return latitude, bounds
