"""Areas of overlap of many pairs of small convex polygons on the unit sphere.

Arrays have the components of the vectors first and the polygons last, ``(3, corners, n)``: every operation then runs
along contiguous memory, which is several times faster in numpy than ``(n, corners, 3)``.
"""

from functools import lru_cache

import numpy as np

_ON_EDGE = 1e-14
"""Distance (in radii of the sphere) below which a corner counts as on an edge."""


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of vectors ``(3, ...)``."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector products of vectors ``(3, ...)``."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def areas(corners: np.ndarray) -> np.ndarray:
    """Signed areas in steradians of polygons ``(3, k, n)`` with great-circle edges; counter-clockwise is positive.

    Corners may be repeated (a triangle as a quadrilateral). Each polygon is a fan of triangles, and a triangle's area
    is ``2 atan2(a . (b x c), 1 + a.b + b.c + c.a)`` (Van Oosterom and Strackee 1983), with the triple product taken of
    differences so that cells of a few metres keep their digits.
    """
    a, b = corners[:, 0], corners[:, 1]
    total = np.zeros(corners.shape[2])
    b_off, ab = b - a, dot(a, b)
    for k in range(2, corners.shape[1]):
        c = corners[:, k]
        c_off, ac = c - a, dot(a, c)
        total += np.arctan2(dot(a, cross(b_off, c_off)), 1 + ab + dot(b, c) + ac)
        b, b_off, ab = c, c_off, ac
    return 2 * total


def oriented(corners: np.ndarray) -> np.ndarray:
    """The same polygons ``(3, k, n)`` with their corners counter-clockwise as seen from outside."""
    clockwise = areas(corners) < 0
    if not clockwise.any():
        return corners
    if clockwise.all():
        return np.ascontiguousarray(corners[:, ::-1])
    return np.where(clockwise, corners[:, ::-1], corners)


def edge_planes(corners: np.ndarray) -> np.ndarray:
    """Unit normals ``(3, k, n)`` of the planes through the edges of counter-clockwise polygons ``(3, k, n)``.

    They point inwards. The edge between a repeated corner and itself has a normal of zeros.
    """
    normal = cross(corners, np.roll(corners, -1, axis=1) - corners)
    length = np.sqrt(dot(normal, normal))
    there = length > _ON_EDGE
    return np.where(there, normal / np.where(there, length, 1), 0.0)


def overlaps(subject: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Areas in steradians that pairs of convex counter-clockwise polygons have in common, shape ``(n,)``.

    ``subject`` holds corners ``(3, k, n)``, ``planes`` the `edge_planes` ``(3, m, n)`` of the other polygons.
    Sutherland and Hodgman's clipping, against those planes only that cross the polygon.
    """
    side = dot(planes[:, :, None], subject[:, None])
    crossed = (side < -_ON_EDGE).any(axis=1)
    open_edge = (planes == 0).all(axis=0)
    meets = ((side > _ON_EDGE).any(axis=1) | open_edge).all(axis=0)
    # Pairs that the same planes cross are cut together.
    which = np.zeros(len(meets), np.uint8)
    for m in range(planes.shape[1]):
        which |= crossed[m].astype(np.uint8) << np.uint8(m)
    found = np.zeros(subject.shape[2])
    for code in range(1 << planes.shape[1]):
        chosen = np.flatnonzero((which == code) & meets)
        if not chosen.size:
            continue
        polygon = subject[:, :, chosen]
        for m in range(planes.shape[1]):
            if code >> m & 1:
                polygon = _cut(polygon, planes[:, m, chosen])
        found[chosen] = areas(polygon)
    return np.maximum(found, 0)


def _cut(polygon: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """The part of polygons ``(3, k, n)`` on the inner side of planes ``(3, n)``, as ``(3, k + 1, n)``; corners that
    are not needed repeat another."""
    k, n = polygon.shape[1:]
    side = dot(plane[:, None], polygon)
    inside = side >= -_ON_EDGE
    pattern = np.zeros(n, np.intp)
    for i in range(k):
        pattern |= inside[i].astype(np.intp) << i
    leaving, entering, slots = _arrangements(k)
    every = np.arange(n)
    points = np.empty((3, k + 2, n))
    points[:, :k] = polygon
    for place, edges in ((k, leaving), (k + 1, entering)):
        first = edges[pattern]
        second = (first + 1) % k
        a, b = polygon[:, first, every], polygon[:, second, every]
        side_a, side_b = side[first, every], side[second, every]
        span = side_a - side_b
        share = np.clip(side_a / np.where(span == 0, 1, span), 0, 1)
        point = a + share * (b - a)
        points[:, place] = point / np.sqrt(dot(point, point))
    taken = slots[:, pattern]
    return np.take_along_axis(points, taken[None], axis=1)


@lru_cache(maxsize=8)
def _arrangements(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pattern of corners inside (bit i: corner i) of a polygon of ``k`` corners: the edge on which it leaves
    the inner side, the edge on which it comes back, and which points make the part that is left, ``(k + 1, 2**k)``:
    a corner, ``k`` for the point where it leaves, ``k + 1`` for the one where it comes back."""
    leaving, entering = np.zeros(1 << k, np.intp), np.zeros(1 << k, np.intp)
    slots = np.zeros((k + 1, 1 << k), np.intp)
    for pattern in range(1 << k):
        inside = [bool(pattern >> i & 1) for i in range(k)]
        left = []
        for i in range(k):
            if inside[i]:
                left.append(i)
            if inside[i] and not inside[(i + 1) % k]:
                leaving[pattern] = i
                left.append(k)
            if not inside[i] and inside[(i + 1) % k]:
                entering[pattern] = i
                left.append(k + 1)
        # More than k + 1 points belong to no convex polygon; rounding alone makes such patterns, of no area.
        left = left[: k + 1] or [0]
        slots[:, pattern] = left + [left[0]] * (k + 1 - len(left))
    return leaving, entering, slots
