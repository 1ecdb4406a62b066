"""Geometry on the unit sphere: points as vectors, polygons with great-circle edges, their areas and overlaps."""

import numpy as np

_ORTHANTS = 1e-14
"""Distance (of the unit sphere's radius) below which a corner counts as on an edge."""


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


def overlap_areas(subject: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Areas in steradians that pairs of convex counter-clockwise polygons ``(n, k, 3)`` have in common, shape ``(n,)``.

    Sutherland and Hodgman's clipping against the planes of the great circles through the clip polygon's edges.
    """
    polygon = subject
    alive = np.arange(len(subject))
    areas = np.zeros(len(subject))
    for k in range(clip.shape[1]):
        start, end = clip[alive, k], clip[alive, (k + 1) % clip.shape[1]]
        normal = np.cross(start, end - start)
        length = np.sqrt(_dot(normal, normal))
        # A repeated corner is an edge of no length: nothing lies outside of it.
        side = np.einsum("nkc,nc->nk", polygon, normal / np.where(length > 0, length, 1)[:, None])
        side = np.where((length > _ORTHANTS)[:, None], side, 0.0)
        keep = (side > _ORTHANTS).any(axis=1) | (length <= _ORTHANTS)
        if not keep.all():
            polygon, side, alive = polygon[keep], side[keep], alive[keep]
        if (side < -_ORTHANTS).any():
            polygon = _cut(polygon, side)
    areas[alive] = np.maximum(polygon_areas(polygon), 0)
    return areas


def _cut(polygon: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The part of polygons ``(n, k, 3)`` where ``side`` ``(n, k)`` is not negative, as ``(n, k + 1, 3)``."""
    inside = side >= -_ORTHANTS
    following, side_following = np.roll(polygon, -1, axis=1), np.roll(side, -1, axis=1)
    crosses = inside != np.roll(inside, -1, axis=1)
    share = np.where(crosses, side, 0) / np.where(crosses, side - side_following, 1)
    crossing = polygon + share[..., None] * (following - polygon)
    crossing /= np.sqrt(_dot(crossing, crossing))[..., None]
    n, k, _ = polygon.shape
    points = np.stack([polygon, crossing], axis=2).reshape(n, 2 * k, 3)
    present = np.stack([inside, crosses], axis=2).reshape(n, 2 * k)
    # Present corners to the front in their order; a convex polygon gains at most one. The rest repeat the first.
    order = np.argsort(~present, axis=1, kind="stable")[:, : k + 1]
    taken = np.take_along_axis(points, order[..., None], axis=1)
    spare = np.arange(k + 1)[None, :] >= present.sum(axis=1)[:, None]
    return np.where(spare[..., None], taken[:, :1], taken)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...c,...c->...", a, b)
