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


def nodes_of_projection(mapping: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Corners of the cells around ``x`` and ``y``, each once, as unit vectors ``(ny + 1, nx + 1, 3)``."""
    if mapping["grid_mapping_name"] == "rotated_latitude_longitude":
        # Degrees: no cell reaches beyond a pole, and no row goes round more than once.
        lines = [np.append(b[:, 0], b[-1, 1]) for b in (axis.longitude_bounds(x), axis.latitude_bounds(y))]
    else:
        lines = [axis.edges(x), axis.edges(y)]
    return unit_vectors(*geographic(mapping, *np.meshgrid(*lines)))


def nodes_between(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Corners midway between the four centres around, each once, as unit vectors ``(ny + 1, nx + 1, 3)``.

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
    return vectors


def around_cells(nodes: np.ndarray) -> np.ndarray:
    """Nodes ``(ny + 1, nx + 1, 3)`` as the four around each cell, ``(ny * nx, 4, 3)``."""
    four = np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]], axis=2)
    return four.reshape(-1, 4, 3)
