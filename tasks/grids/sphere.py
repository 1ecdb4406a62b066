"""Geometry on the unit sphere: points as vectors, polygons as rows of vectors."""

import numpy as np

from . import clip


def unit_vectors(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Degrees of shape ``(...)`` as unit vectors, float64 of shape ``(..., 3)``."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    cos = np.cos(phi)
    # cos(90 degrees) is 6e-17 in floating point: without this the corners of a polar cell differ and it is no triangle.
    cos = np.where(np.abs(latitude) >= 90, 0.0, cos)
    return np.stack([cos * np.cos(lam), cos * np.sin(lam), np.sin(phi)], axis=-1)


def polygon_areas(corners: np.ndarray) -> np.ndarray:
    """Signed areas in steradians of polygons ``(n, k, 3)`` with great-circle edges; see `clip.areas`."""
    return clip.areas(np.moveaxis(corners, 0, -1).swapaxes(0, 1))


def oriented(corners: np.ndarray) -> np.ndarray:
    """The same polygons ``(n, k, 3)`` with their corners counter-clockwise as seen from outside."""
    clockwise = polygon_areas(corners) < 0
    return np.where(clockwise[:, None, None], corners[:, ::-1], corners)
