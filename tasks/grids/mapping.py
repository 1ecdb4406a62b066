"""CF grid mappings: what latitude, longitude, x and y refer to."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .sphere import unit_vectors

SPHERE: Mapping[str, Any] = {"grid_mapping_name": "latitude_longitude", "earth_radius": 6371229.0}
"""Geographic coordinates on the sphere that NWP models use (GRIB2 code table 3.2, value 6)."""

WGS84: Mapping[str, Any] = {
    "grid_mapping_name": "latitude_longitude",
    "semi_major_axis": 6378137.0,
    "inverse_flattening": 298.257223563,
}
"""Geographic coordinates as GIS software expects them."""

EARTH_SHAPES: Mapping[int, Mapping[str, float]] = {
    0: {"earth_radius": 6367470.0},
    2: {"semi_major_axis": 6378160.0, "semi_minor_axis": 6356775.0},
    4: {"semi_major_axis": 6378137.0, "inverse_flattening": 298.257222101},
    5: {"semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563},
    6: {"earth_radius": 6371229.0},
    8: {"earth_radius": 6371200.0},
    9: {"semi_major_axis": 6377563.396, "semi_minor_axis": 6356256.909},
}
"""GRIB2 code table 3.2, shape of the earth; 1, 3 and 7 carry their own numbers."""


def attributes(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the ``spatial_ref`` variable: the CF mapping and its WKT (``crs_wkt``)."""
    return {**mapping, "crs_wkt": _wkt(json.dumps(dict(mapping), sort_keys=True))}


@lru_cache(maxsize=64)
def _wkt(mapping: str) -> str:
    # PROJ takes half a second to make a datum from CF attributes, but none to read it back from WKT.
    if (known := _known().get(mapping)) is not None:
        return known
    from pyproj import CRS

    return CRS.from_cf(json.loads(mapping)).to_wkt()


@lru_cache(maxsize=1)
def _known() -> dict[str, str]:
    """WKT of the mappings that most grids have, as pyproj makes it; its tests hold it against pyproj."""
    return json.loads(Path(__file__).with_name("wkt.json").read_text("utf-8"))


def geographic(mapping: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (degrees, -180..180) of ``x`` and ``y``: metres, or degrees on a rotated pole.

    No datum is shifted: the geographic coordinates refer to the mapping's own earth.
    """
    if mapping["grid_mapping_name"] == "rotated_latitude_longitude":
        return _unrotated(mapping, x, y)
    longitude, latitude = _projection(mapping)(x, y, inverse=True)
    return latitude, longitude


def projected(mapping: Mapping[str, Any], latitude: Any, longitude: Any) -> tuple[Any, Any]:
    """``x`` and ``y`` of geographic points in degrees, numbers or arrays: metres, or degrees on a rotated pole.

    Not finite where the projection does not reach.
    """
    if mapping["grid_mapping_name"] == "rotated_latitude_longitude":
        return _rotated(mapping, latitude, longitude)
    return _projection(mapping)(longitude, latitude)


def _projection(mapping: Mapping[str, Any]):
    from pyproj import CRS, Proj

    return Proj(CRS.from_wkt(_wkt(json.dumps(dict(mapping), sort_keys=True))))


def _unrotated(mapping: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tilt, turn = np.radians(mapping["grid_north_pole_latitude"]), np.radians(mapping["grid_north_pole_longitude"] - 180)
    u, v, w = np.moveaxis(unit_vectors(y, x), -1, 0)
    # About the y axis so that the grid's pole comes down to its latitude, then about the earth's axis.
    u, w = np.sin(tilt) * u - np.cos(tilt) * w, np.cos(tilt) * u + np.sin(tilt) * w
    longitude = np.degrees(np.arctan2(v, u) + turn)
    return np.degrees(np.arctan2(w, np.hypot(u, v))), (longitude + 180) % 360 - 180


def _rotated(mapping: Mapping[str, Any], latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tilt = np.radians(mapping["grid_north_pole_latitude"])
    u, v, w = np.moveaxis(unit_vectors(latitude, longitude - mapping["grid_north_pole_longitude"] + 180), -1, 0)
    u, w = np.sin(tilt) * u + np.cos(tilt) * w, np.sin(tilt) * w - np.cos(tilt) * u
    return np.degrees(np.arctan2(v, u)), np.degrees(np.arctan2(w, np.hypot(u, v)))


def convergence(mapping: Mapping[str, Any], latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Direction of a projection's x axis at points in degrees: radians counter-clockwise from east, their shape."""
    factors = _projection(mapping).get_factors(longitude, latitude)
    # PROJ counts clockwise, from true north to the projection's north.
    return -np.radians(factors.meridian_convergence)
