"""Geometry on the unit sphere: points as vectors, polygons with great-circle edges, their areas and overlaps."""

import numpy as np

_ON_EDGE = 1e-14
"""Distance (in radii of the sphere) below which a corner counts as on an edge."""


def unit_vectors(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Degrees of shape ``(...)`` as unit vectors, float64 of shape ``(..., 3)``."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    cos = np.cos(phi)
    # cos(90 degrees) is 6e-17 in floating point: without this the corners of a polar cell differ and it is no triangle.
    cos = np.where(np.abs(latitude) >= 90, 0.0, cos)
    return np.stack([cos * np.cos(lam), cos * np.sin(lam), np.sin(phi)], axis=-1)


def polygon_areas(corners: np.ndarray) -> np.ndarray:
    """Signed areas in steradians of polygons ``(n, k, 3)`` with great-circle edges; counter-clockwise is positive.

    Corners may be repeated (a triangle as a quadrilateral). Each polygon is a fan of triangles, and a triangle's area
    is ``2 atan2(a . (b x c), 1 + a.b + b.c + c.a)`` (Van Oosterom and Strackee 1983), with the triple product taken of
    differences so that cells of a few metres keep their digits.
    """
    a = corners[:, 0]
    total = np.zeros(len(corners))
    for k in range(1, corners.shape[1] - 1):
        b, c = corners[:, k], corners[:, k + 1]
        triple = _dot(a, np.cross(b - a, c - a))
        total += 2 * np.arctan2(triple, 1 + _dot(a, b) + _dot(b, c) + _dot(c, a))
    return total


def oriented(corners: np.ndarray) -> np.ndarray:
    """The same polygons ``(n, k, 3)`` with their corners counter-clockwise as seen from outside."""
    clockwise = polygon_areas(corners) < 0
    return np.where(clockwise[:, None, None], corners[:, ::-1], corners)


def edge_planes(corners: np.ndarray) -> np.ndarray:
    """Unit normals ``(n, k, 3)`` of the planes through the edges of counter-clockwise polygons ``(n, k, 3)``.

    They point inwards. The edge between a repeated corner and itself has a normal of zeros.
    """
    normal = np.cross(corners, np.roll(corners, -1, axis=1) - corners)
    length = np.sqrt(_dot(normal, normal))[..., None]
    return np.where(length > _ON_EDGE, normal / np.where(length > _ON_EDGE, length, 1), 0.0)


def overlap_areas(subject: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Areas in steradians that pairs of convex counter-clockwise polygons have in common, shape ``(n,)``.

    ``subject`` holds corners ``(n, k, 3)``, ``planes`` the `edge_planes` ``(n, m, 3)`` of the other polygons.
    Sutherland and Hodgman's clipping, against one plane after the other.
    """
    side = np.einsum("nkc,nmc->nkm", subject, planes)
    open_edge = (planes == 0).all(axis=2)
    meets = ((side > _ON_EDGE).any(axis=1) | open_edge).all(axis=1)
    within = (side >= -_ON_EDGE).all(axis=(1, 2))
    areas = np.zeros(len(subject))
    areas[within] = polygon_areas(subject[within])
    cut = np.flatnonzero(meets & ~within)
    polygon = subject[cut]
    for k in range(planes.shape[1]):
        beyond = np.einsum("nkc,nc->nk", polygon, planes[cut, k])
        keep = (beyond > _ON_EDGE).any(axis=1) | open_edge[cut, k]
        polygon, beyond, cut = polygon[keep], beyond[keep], cut[keep]
        crossed = np.flatnonzero((beyond < -_ON_EDGE).any(axis=1))
        whole = polygon
        polygon = np.concatenate([whole, whole[:, :1]], axis=1)
        polygon[crossed] = _cut(whole[crossed], beyond[crossed])
    areas[cut] = np.maximum(polygon_areas(polygon), 0)
    return areas


def _cut(polygon: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The part of polygons ``(n, k, 3)`` where ``side`` ``(n, k)`` is not negative, as ``(n, k + 1, 3)``."""
    inside = side >= -_ON_EDGE
    following, side_following = np.roll(polygon, -1, axis=1), np.roll(side, -1, axis=1)
    crosses = inside != np.roll(inside, -1, axis=1)
    share = np.where(crosses, side, 0) / np.where(crosses, side - side_following, 1)
    crossing = polygon + share[..., None] * (following - polygon)
    crossing /= np.sqrt(_dot(crossing, crossing))[..., None]
    n, k, _ = polygon.shape
    points = np.stack([polygon, crossing], axis=2).reshape(n, 2 * k, 3)
    present = np.stack([inside, crosses], axis=2).reshape(n, 2 * k)
    # Present corners to the front in their order; a convex polygon gains at most one. The rest repeat the first.
    place = np.cumsum(present, axis=1)
    row, column = np.nonzero(present)
    taken = np.empty((n, k + 1, 3))
    taken[row, place[row, column] - 1] = points[row, column]
    spare = np.arange(k + 1)[None, :] >= place[:, -1:]
    return np.where(spare[..., None], taken[:, :1], taken)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...c,...c->...", a, b)
