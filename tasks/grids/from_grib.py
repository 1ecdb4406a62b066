"""The grid of a GRIB message, editions 1 and 2, from the keys of its grid definition (WMO FM 92, templates 3.x)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from ..lake.errors import CorruptInput, UsageError
from . import axis, gaussian
from .grid import Grid
from .mapping import EARTH_SHAPES, geographic, projected


def from_grib(message: bytes, latitude: np.ndarray | None = None, longitude: np.ndarray | None = None) -> Grid:
    """The grid of one GRIB message (of its first field, where it holds several).

    Rows and columns run from the first grid point on, in the directions the scanning mode names: row j lies j
    increments from the first row, so a grid that scans northwards has its latitudes going up, and one that scans
    westwards its longitudes going down. Values are expected in that order, ``(ny, nx)``, with rows that run to and
    fro straightened and fields that are stored column by column turned.

    A grid of cells that carries no coordinates (ICON's ``unstructured_grid``) takes them from ``latitude`` and
    ``longitude``, degrees of shape ``(n,)``. Raises `CorruptInput` for a message ecCodes cannot open, `UsageError` for
    a grid that has no latitudes and longitudes.
    """
    with _opened(message) as keys:
        kind = keys.text("gridType")
        if kind == "unstructured_grid":
            return _unstructured(keys, latitude, longitude)
        if latitude is not None or longitude is not None:
            raise UsageError(f"a grid of type {kind} has coordinates of its own; none can be given")
        return _KINDS.get(kind, _as_listed)(keys)


@dataclass(frozen=True, slots=True)
class _Keys:
    """ecCodes keys of one message."""

    handle: int

    def text(self, name: str) -> str:
        return str(self._get(name, str))

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self._get(name, int, default))

    def number(self, *names: str, default: float | None = None) -> float:
        for name in names[:-1]:
            if self.has(name):
                return float(self._get(name, float))
        return float(self._get(names[-1], float, default))

    def array(self, name: str) -> np.ndarray:
        import eccodes

        try:
            return np.asarray(eccodes.codes_get_array(self.handle, name))
        except eccodes.CodesInternalError:
            raise UsageError(f"a grid of type {self.text('gridType')} has no {name} that ecCodes can tell") from None

    def has(self, name: str) -> bool:
        import eccodes

        return bool(eccodes.codes_is_defined(self.handle, name))

    def _get(self, name: str, kind: type, default: Any = None) -> Any:
        import eccodes

        try:
            return eccodes.codes_get(self.handle, name, kind)
        except eccodes.CodesInternalError as error:
            if default is not None:
                return default
            raise CorruptInput(f"the grid definition of the message lacks {name} ({error})") from None

    @property
    def counts(self) -> tuple[int, int]:
        """Points along y and along x. Raises `CorruptInput` where rows differ in length or do not add up."""
        ny, nx = self.integer("Ny"), self.integer("Nx")
        points = self.integer("numberOfDataPoints")
        if ny * nx != points:
            raise CorruptInput(
                "the grid's rows and columns do not add up", expected=f"{points} points", found=f"{ny} x {nx}"
            )
        return ny, nx

    @property
    def signs(self) -> tuple[int, int]:
        """Directions of y and x: 1 northwards or eastwards, -1 southwards or westwards."""
        return (1 if self.integer("jScansPositively") else -1, -1 if self.integer("iScansNegatively") else 1)


@contextmanager
def _opened(message: bytes) -> Iterator[_Keys]:
    import eccodes

    # ecCodes takes anything for a message, and finds out key by key.
    if message[:4] != b"GRIB" or message[-4:] != b"7777":
        raise CorruptInput(
            "the bytes are no whole GRIB message", expected="GRIB ... 7777", found=f"{len(message)} bytes"
        )
    try:
        handle = eccodes.codes_new_from_message(bytes(message))
    except eccodes.CodesInternalError as error:
        raise CorruptInput(f"ecCodes cannot open the message: {error}") from None
    try:
        yield _Keys(handle)
    finally:
        eccodes.codes_release(handle)


def _earth(keys: _Keys) -> dict[str, float]:
    oblate = keys.integer("edition") == 1 and keys.integer("earthIsOblate", 0)
    shape = 2 if oblate else keys.integer("shapeOfTheEarth", 6)
    if shape in EARTH_SHAPES:
        return dict(EARTH_SHAPES[shape])
    if shape == 1:
        return {"earth_radius": keys.number("radius")}
    if shape in (3, 7):
        return {
            "semi_major_axis": keys.number("earthMajorAxisInMetres"),
            "semi_minor_axis": keys.number("earthMinorAxisInMetres"),
        }
    raise UsageError("the message names an unknown shape of the earth", expected="0 to 9", found=shape)


def _geographic(keys: _Keys) -> dict[str, Any]:
    return {"grid_mapping_name": "latitude_longitude", **_earth(keys)}


def _longitudes(keys: _Keys) -> np.ndarray:
    _, sign = keys.signs
    nx = keys.integer("Nx")
    first, last = keys.number("longitudeOfFirstGridPointInDegrees"), keys.number("longitudeOfLastGridPointInDegrees")
    if sign > 0:
        if first > last:
            first -= 360
        elif last > 360:
            first, last = first - 360, last - 360
    elif first < last:
        last -= 360
    step = abs(last - first) / max(nx - 1, 1)
    if abs(nx * step - 360) < 1e-6 * nx:
        # All the way round: the last longitude is rounded in the file, the number of columns is not.
        return axis.regular(first, first + sign * (360 - 360 / nx), nx)
    return axis.regular(first, last, nx)


def _latitudes(keys: _Keys) -> np.ndarray:
    first, last = keys.number("latitudeOfFirstGridPointInDegrees"), keys.number("latitudeOfLastGridPointInDegrees")
    return axis.regular(first, last, keys.integer("Ny"))


def _regular_ll(keys: _Keys) -> Grid:
    _ = keys.counts
    return Grid("rectilinear", _latitudes(keys), _longitudes(keys), mapping=_geographic(keys))


def _rotated_ll(keys: _Keys) -> Grid:
    if keys.number("angleOfRotationInDegrees", default=0.0):
        raise UsageError("a rotated grid whose own longitudes are turned as well is not supported")
    _ = keys.counts
    pole = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": -keys.number("latitudeOfSouthernPoleInDegrees"),
        "grid_north_pole_longitude": (keys.number("longitudeOfSouthernPoleInDegrees") + 360) % 360 - 180,
        **_earth(keys),
    }
    return _curvilinear(pole, _longitudes(keys), _latitudes(keys))


def _regular_gg(keys: _Keys) -> Grid:
    ny, _ = keys.counts
    latitude, bounds = gaussian.rows(keys.integer("N"))
    first = int(np.abs(latitude - keys.number("latitudeOfFirstGridPointInDegrees")).argmin())
    sign, _ = keys.signs
    picked = first - sign * np.arange(ny)
    if picked.min() < 0 or picked.max() >= latitude.size:
        raise CorruptInput("the Gaussian grid has more rows than its number allows", expected=latitude.size, found=ny)
    return Grid(
        "rectilinear",
        latitude[picked],
        _longitudes(keys),
        mapping=_geographic(keys),
        given_latitude_bounds=bounds[picked],
    )


def _reduced_gg(keys: _Keys) -> Grid:
    sizes = keys.array("pl").astype(int)
    latitude, bounds = gaussian.rows(keys.integer("N"))
    total, points = int(sizes.sum()), keys.integer("numberOfDataPoints")
    if sizes.size != latitude.size or total != points or keys.number("longitudeOfFirstGridPointInDegrees") != 0:
        return _as_listed(keys)
    sign, _ = keys.signs
    if sign > 0:
        latitude, bounds = latitude[::-1], bounds[::-1]
    longitude = np.concatenate([np.arange(n) * 360.0 / n for n in sizes])
    return Grid(
        "unstructured",
        np.repeat(latitude, sizes),
        longitude,
        mapping=_geographic(keys),
        given_latitude_bounds=bounds,
        row_sizes=tuple(int(n) for n in sizes),
    )


def _as_listed(keys: _Keys) -> Grid:
    """A grid only ecCodes knows how to unfold: 2-D where its rows are equally long, else points."""
    lat, lon = keys.array("latitudes"), keys.array("longitudes")
    ny, nx = keys.integer("Ny", 0), keys.integer("Nx", 0)
    if ny * nx == lat.size:
        return Grid("curvilinear", lat.reshape(ny, nx), lon.reshape(ny, nx), mapping=_geographic(keys))
    return Grid("unstructured", lat, lon, mapping=_geographic(keys))


def _unstructured(keys: _Keys, latitude: np.ndarray | None, longitude: np.ndarray | None) -> Grid:
    count = keys.integer("numberOfDataPoints")
    if latitude is None or longitude is None:
        raise UsageError(
            f"the message's grid (uuid {keys.text('uuidOfHGrid')}) has its coordinates in another file",
            expected=f"latitude and longitude of {count} cells",
            found="none",
        )
    lat, lon = np.asarray(latitude, dtype="float64"), np.asarray(longitude, dtype="float64")
    if lat.shape != (count,) or lon.shape != (count,):
        raise UsageError("the coordinates are of another grid", expected=f"{count} cells", found=(lat.shape, lon.shape))
    return Grid("unstructured", lat, lon, mapping=_geographic(keys))


def _projection(*, lengths: tuple[tuple[str, ...], tuple[str, ...]], attributes: Callable[[_Keys], dict[str, Any]]):
    """A grid with equal steps in metres from its first point on."""

    def build(keys: _Keys) -> Grid:
        mapping = attributes(keys) | _earth(keys)
        ny, nx = keys.counts
        sign_y, sign_x = keys.signs
        dx, dy = keys.number(*lengths[0]), keys.number(*lengths[1])
        x0, y0 = projected(
            mapping, keys.number("latitudeOfFirstGridPointInDegrees"), keys.number("longitudeOfFirstGridPointInDegrees")
        )
        # Millimetres: the first point is known to a tenth of a metre, and machines differ in the last digits.
        x, y = round(x0, 3) + sign_x * dx * np.arange(nx), round(y0, 3) + sign_y * dy * np.arange(ny)
        return _curvilinear(mapping, np.round(x, 3), np.round(y, 3))

    return build


def _curvilinear(mapping: dict[str, Any], x: np.ndarray, y: np.ndarray) -> Grid:
    lat, lon = _unfolded(orjson.dumps(mapping), x.tobytes(), y.tobytes())
    return Grid("curvilinear", lat, lon, x=x, y=y, mapping=mapping)


@lru_cache(maxsize=2)
def _unfolded(mapping: bytes, x: bytes, y: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes, read-only. Kept, as every variable of a run asks for the same two million."""
    found = geographic(orjson.loads(mapping), *np.meshgrid(np.frombuffer(x), np.frombuffer(y)))
    for array in found:
        array.flags.writeable = False
    return found


def _transverse_mercator(keys: _Keys) -> Grid:
    mapping = {
        "grid_mapping_name": "transverse_mercator",
        "latitude_of_projection_origin": keys.number("latitudeOfReferencePointInDegrees"),
        "longitude_of_central_meridian": keys.number("longitudeOfReferencePointInDegrees"),
        # A four-byte float in the message: 0.9996 and no more digits than it has.
        "scale_factor_at_central_meridian": round(keys.number("m"), 7),
        "false_easting": keys.number("XRInMetres"),
        "false_northing": keys.number("YRInMetres"),
        **_earth(keys),
    }
    ny, nx = keys.counts
    ends = [keys.number(f"{name}InGridLengths") for name in ("X1", "X2", "Y1", "Y2")]
    return _curvilinear(mapping, axis.regular(ends[0], ends[1], nx), axis.regular(ends[2], ends[3], ny))


def _lambert(keys: _Keys) -> dict[str, Any]:
    return {
        "grid_mapping_name": "lambert_conformal_conic",
        "standard_parallel": [keys.number("Latin1InDegrees"), keys.number("Latin2InDegrees")],
        "longitude_of_central_meridian": keys.number("LoVInDegrees"),
        "latitude_of_projection_origin": keys.number("LaDInDegrees", "Latin1InDegrees"),
    }


def _azimuthal(keys: _Keys) -> dict[str, Any]:
    return {
        "grid_mapping_name": "lambert_azimuthal_equal_area",
        "latitude_of_projection_origin": keys.number("standardParallelInDegrees"),
        "longitude_of_projection_origin": keys.number("centralLongitudeInDegrees"),
    }


def _polar(keys: _Keys) -> dict[str, Any]:
    south = keys.integer("projectionCentreFlag", 0) & 128
    return {
        "grid_mapping_name": "polar_stereographic",
        "straight_vertical_longitude_from_pole": keys.number("orientationOfTheGridInDegrees"),
        "latitude_of_projection_origin": -90.0 if south else 90.0,
        # Edition 1 has no such key: lengths are true at 60 degrees.
        "standard_parallel": (-1 if south else 1) * abs(keys.number("LaDInDegrees", default=60.0)),
    }


def _mercator(keys: _Keys) -> dict[str, Any]:
    return {
        "grid_mapping_name": "mercator",
        "standard_parallel": keys.number("LaDInDegrees"),
        # Any meridian will do; with the first point's, x does not break at the date line.
        "longitude_of_projection_origin": keys.number("longitudeOfFirstGridPointInDegrees"),
    }


_METRES = (("DxInMetres",), ("DyInMetres",))
_KINDS: dict[str, Callable[[_Keys], Grid]] = {
    "regular_ll": _regular_ll,
    "rotated_ll": _rotated_ll,
    "regular_gg": _regular_gg,
    "reduced_gg": _reduced_gg,
    "lambert": _projection(lengths=_METRES, attributes=_lambert),
    "lambert_azimuthal_equal_area": _projection(
        lengths=(("DxInMetres", "xDirectionGridLengthInMetres"), ("DyInMetres", "yDirectionGridLengthInMetres")),
        attributes=_azimuthal,
    ),
    "polar_stereographic": _projection(lengths=_METRES, attributes=_polar),
    "mercator": _projection(lengths=(("DiInMetres",), ("DjInMetres",)), attributes=_mercator),
    "transverse_mercator": _transverse_mercator,
}
"""ecCodes' gridType -> how to build the grid. What is missing is unfolded by ecCodes, if it can."""
