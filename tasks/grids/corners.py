"""Corners of grid cells: of latitude-longitude boxes, of cells regular in a projection, and guessed from centres."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import axis
from .mapping import geographic
from .sphere import unit_vectors


def of_boxes(latitude_bounds: np.ndarray, longitude_bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude, both ``(ny * nx, 4)`` degrees, of the corners of boxes with these bounds ``(n, 2)``."""
    ny, nx = len(latitude_bounds), len(longitude_bounds)
    lat = np.broadcast_to(latitude_bounds[:, None, [0, 0, 1, 1]], (ny, nx, 4))
    lon = np.broadcast_to(longitude_bounds[None, :, [0, 1, 1, 0]], (ny, nx, 4))
    return lat.reshape(-1, 4), lon.reshape(-1, 4)


def of_projection(mapping: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Corners of the cells around ``x`` and ``y``, as unit vectors ``(ny * nx, 4, 3)``."""
    nodes = unit_vectors(*geographic(mapping, *np.meshgrid(axis.edges(x), axis.edges(y))))
    return _four(nodes).reshape(-1, 4, 3)


def between_centres(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Corners midway between the four centres around, as unit vectors ``(ny * nx, 4, 3)``.

    The outermost are extrapolated by half a cell. Means of vectors, so neither the date line nor a pole matters.
    """
    vectors = unit_vectors(latitude, longitude)
    for dim in (0, 1):
        moved = np.moveaxis(vectors, dim, 0)
        if len(moved) > 1:
            first, last = 2 * moved[:1] - moved[1:2], 2 * moved[-1:] - moved[-2:-1]
        else:
            first = last = moved[:1]
        moved = np.concatenate([first, moved, last])
        vectors = np.moveaxis((moved[1:] + moved[:-1]) / 2, 0, dim)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return _four(vectors).reshape(-1, 4, 3)


def _four(nodes: np.ndarray) -> np.ndarray:
    """Nodes ``(ny + 1, nx + 1, ...)`` as the four around each cell, ``(ny, nx, 4, ...)``."""
    return np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]], axis=2)
