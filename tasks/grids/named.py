"""Grids with a name: Gaussian and regular ones by a pattern, national ones from a table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lake.errors import UsageError
from . import axis, gaussian, mapping
from .grid import Grid

_LARGEST = 8000
"""Most rows between pole and equator that a name may ask for."""

_CLASSIC = (32, 48, 64, 80, 96, 128, 160, 200, 256, 320, 400, 512, 640, 1024, 1280, 2000)
"""Numbers of the classic reduced Gaussian grids that ecCodes has."""


@dataclass(frozen=True)
class _Projected:
    """A grid with equal steps in a projection: the place of its first point, counts, and metres between points."""

    mapping: Mapping[str, Any]
    first: tuple[float, float]
    """Latitude and longitude, degrees."""
    shape: tuple[int, int]
    step: float


def _lambert(parallel: float, meridian: float) -> dict[str, Any]:
    return {
        "grid_mapping_name": "lambert_conformal_conic",
        "standard_parallel": [parallel, parallel],
        "longitude_of_central_meridian": meridian,
        "latitude_of_projection_origin": parallel,
        "earth_radius": 6371229.0,
    }


_TABLE: Mapping[str, _Projected] = {
    # The grid definition of NOAA's HRRR files, CONUS.
    "hrrr": _Projected(_lambert(38.5, 262.5), (21.138123, 237.280472), (1059, 1799), 3000.0),
    # NCEP's grid 211 (CONUS, 80 km), as its files have it: whole metres between points.
    "ncep-211": _Projected(_lambert(25.0, 265.0), (12.19, 226.541), (65, 93), 81271.0),
}


def from_name(name: str) -> Grid:
    """The grid of a name, on the sphere of 6371.229 km that weather models use.

    ``F<N>``: regular Gaussian, N rows between pole and equator, 4 N columns. ``N<N>``: ECMWF's classic reduced Gaussian
    grids. ``O<N>``: octahedral reduced Gaussian. ``r<columns>x<rows>``: regular and global, with points at the poles
    when the number of rows is odd, as in CDO. Other names are in the table of this module. Raises `UsageError` for
    a name that is not known.
    """
    if name in _TABLE:
        return _projected(_TABLE[name])
    if found := re.fullmatch(r"([FNO])([1-9]\d{0,3})", name):
        number = int(found[2])
        if number <= _LARGEST:
            return {"F": _full, "N": _classic, "O": _octahedral}[found[1]](number)
    if found := re.fullmatch(r"r([1-9]\d{0,4})x([1-9]\d{0,4})", name):
        columns, rows = int(found[1]), int(found[2])
        if columns >= 3 and rows >= 2:
            return _regular(columns, rows)
    raise UsageError(
        f"there is no grid named {name!r}",
        expected=f"F<N>, N<N>, O<N>, r<columns>x<rows>, {', '.join(sorted(_TABLE))}",
        found=name,
    )


def reduced(number: int, sizes: tuple[int, ...]) -> Grid:
    """A global reduced Gaussian grid from north to south, with ``sizes`` points in its ``2 * number`` rows."""
    latitude, bounds = gaussian.rows(number)
    longitude = np.concatenate([np.arange(n) * 360.0 / n for n in sizes])
    return Grid(
        "unstructured", np.repeat(latitude, sizes), longitude, given_latitude_bounds=bounds, row_sizes=tuple(sizes)
    )


def _octahedral(number: int) -> Grid:
    half = tuple(20 + 4 * row for row in range(number))
    return reduced(number, half + half[::-1])


def _classic(number: int) -> Grid:
    import eccodes

    if number not in _CLASSIC:
        known = ", ".join(f"N{n}" for n in _CLASSIC)
        raise UsageError(f"there is no classic reduced Gaussian grid N{number}", expected=known, found=f"N{number}")
    # ECMWF's numbers of points follow no formula; ecCodes carries them in its sample messages.
    handle = eccodes.codes_grib_new_from_samples(f"reduced_gg_pl_{number}_grib2")
    try:
        sizes = tuple(int(n) for n in eccodes.codes_get_array(handle, "pl"))
    finally:
        eccodes.codes_release(handle)
    return reduced(number, sizes)


def _full(number: int) -> Grid:
    latitude, bounds = gaussian.rows(number)
    return Grid("rectilinear", latitude, axis.regular(0, 360 - 90 / number, 4 * number), given_latitude_bounds=bounds)


def _regular(columns: int, rows: int) -> Grid:
    first = 90.0 if rows % 2 else 90.0 - 90.0 / rows
    return Grid("rectilinear", axis.regular(first, -first, rows), axis.regular(0, 360 - 360 / columns, columns))


def _projected(entry: _Projected) -> Grid:
    x0, y0 = mapping.projected(entry.mapping, *entry.first)
    ny, nx = entry.shape
    x, y = (np.round(round(float(first), 3) + entry.step * np.arange(n), 3) for first, n in ((x0, nx), (y0, ny)))
    lat, lon = mapping.geographic(entry.mapping, *np.meshgrid(x, y))
    return Grid("curvilinear", lat, lon, x=x, y=y, mapping=entry.mapping)
