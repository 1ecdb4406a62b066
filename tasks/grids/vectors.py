"""Vectors on a grid: from components along the grid's own axes to components towards east and north.

Models on a projected or rotated grid give winds along x and y of that grid (GRIB: ``uvRelativeToGrid``). Components
along different axes must not be averaged, so they are turned before they are regridded.
"""

import numpy as np

from ..lake.errors import UsageError
from . import mapping
from .grid import Grid

_FLAT = frozenset({"latitude_longitude", "mercator"})
"""Grid mappings whose x points east everywhere."""

_BLOCK = 1 << 16
"""Values turned at once, so that the intermediate arrays stay in the cache."""


def angle(grid: Grid) -> np.ndarray:
    """Direction of the grid's x axis at every centre, radians counter-clockwise from east: float64 of the grid's shape.

    x and y are those of the projection, whichever way rows and columns are scanned (WMO FM 92, code table 3.3). Of a
    curvilinear grid without a projection they are the directions of growing column and row. Raises `UsageError` for
    points without rows and columns, other than reduced grids, which have no grid direction of their own.
    """
    name = str(grid.mapping["grid_mapping_name"])
    if grid.x is not None and grid.y is not None:
        if name in _FLAT:
            return np.zeros(grid.shape)
        if name == "rotated_latitude_longitude":
            return _on_a_rotated_pole(grid)
        return mapping.convergence(grid.mapping, grid.latitude, grid.longitude)
    if grid.kind == "rectilinear" or grid.row_sizes is not None:
        return np.zeros(grid.shape)
    if grid.kind == "unstructured":
        raise UsageError("a grid of points has no axes that vectors could be relative to", found=f"{grid.size} points")
    return _along_columns(grid)


def earth_relative(
    u: np.ndarray, v: np.ndarray, angle: np.ndarray, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Components towards east and north of vectors whose components along the grid's axes are ``u`` and ``v``.

    ``u`` and ``v`` have one shape ``(..., *grid.shape)``; ``angle`` has the grid's shape (a window of it for a window
    of the fields), in radians as `angle` gives it. The results have the dtype of ``u``; ``out`` may be ``(u, v)``
    itself. NaN in either component makes both NaN. Raises `UsageError` for shapes that do not fit.
    """
    if u.shape != v.shape or u.shape[u.ndim - angle.ndim :] != angle.shape:
        raise UsageError(
            "u, v and the angle lie on different grids", expected=("...", *angle.shape), found=(u.shape, v.shape)
        )
    east, north = out if out is not None else (np.empty_like(u), np.empty_like(v))
    cos, sin = np.cos(angle).astype(u.dtype), np.sin(angle).astype(u.dtype)
    leading = angle.shape[0] if angle.ndim else 1
    step = max(1, _BLOCK // max(1, angle.size // max(1, leading)))
    for index in np.ndindex(u.shape[: u.ndim - angle.ndim]):
        for start in range(0, leading, step):
            at = (*index, slice(start, start + step))
            c, s = cos[start : start + step], sin[start : start + step]
            # Both from the old values, before either is written: out may be the input.
            towards_east = u[at] * c - v[at] * s
            north[at] = u[at] * s + v[at] * c
            east[at] = towards_east
    return east, north


def _on_a_rotated_pole(grid: Grid) -> np.ndarray:
    """Spherical triangle between the point, the earth's pole and the grid's: the angle at the point."""
    tilt = np.radians(grid.mapping["grid_north_pole_latitude"])
    away = np.radians(grid.mapping["grid_north_pole_longitude"] - grid.longitude)
    latitude = np.radians(grid.latitude)
    towards_east = np.cos(tilt) * np.sin(away)
    towards_north = np.cos(latitude) * np.sin(tilt) - np.sin(latitude) * np.cos(tilt) * np.cos(away)
    # The bearing of the grid's pole is where y points; x points as far from east as y does from north.
    return -np.arctan2(towards_east, towards_north)


def _along_columns(grid: Grid) -> np.ndarray:
    """From the centres on either side in a row; one-sided at the ends of the row."""
    if grid.shape[1] < 2:
        raise UsageError("a grid of a single column has no direction", expected="two columns or more", found=grid.shape)
    points = grid.vectors.reshape(*grid.shape, 3)
    ahead = np.concatenate([points[:, 1:], points[:, -1:]], axis=1)
    behind = np.concatenate([points[:, :1], points[:, :-1]], axis=1)
    phi, lam = np.radians(grid.latitude), np.radians(grid.longitude)
    x, y, z = np.moveaxis(ahead - behind, -1, 0)
    towards_east = -np.sin(lam) * x + np.cos(lam) * y
    towards_north = -np.sin(phi) * (np.cos(lam) * x + np.sin(lam) * y) + np.cos(phi) * z
    return np.arctan2(towards_north, towards_east)
