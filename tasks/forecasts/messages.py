"""The source messages behind a variable, for the checks: where each lies, and its values by a second decoder."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import eccodes
import numpy as np
import xxhash

from ..checks.field import Index
from ..lake.errors import LakeError
from ..lake.phase import Context
from . import decode, decode_eccodes
from .archive import Archive
from .message import cut
from .recipe import ForecastRecipe

_PLAIN_SCANS = 0xFF & ~(0x80 | 0x40)
"""Scanning mode (code table 3.4) without the bits that only say from where to where rows and columns run."""


class Messages:
    """An `Origin`: messages by position (lead_time, member, level) of the subject."""

    def __init__(
        self,
        context: Context[ForecastRecipe],
        rows: Mapping[Index, Mapping[str, Any]],
        latitude: np.ndarray,
        longitude: np.ndarray,
        kept_bits: int | None,
        scale: tuple[float, float] = (1.0, 0.0),
        step: float = 0.0,
    ) -> None:
        self._archive = Archive(context)
        self._rows = rows
        self._latitude, self._longitude = latitude, longitude
        self._kept_bits = kept_bits
        self._scale = scale
        self._step = step
        self._changed: dict[str, None] = {}

    def place(self, index: Index) -> str:
        row = self._rows.get(index)
        return f"{row['url']} at byte {row['offset']}" if row is not None else ""

    def changed(self) -> list[str]:
        return list(self._changed)

    def second(self, index: Index) -> tuple[np.ndarray, np.ndarray | float] | str | None:
        row = self._rows.get(index)
        if row is None:
            return None
        try:
            store, key = self._archive.resolve(row["url"])
            if "://" in row["url"] and row["etag"]:
                meta = store.head(key)
                if meta is None:
                    return None
                if store.version(meta) != row["etag"]:
                    self._changed[row["url"]] = None
                    return None
            data = store.get_range(key, row["offset"], row["length"])
        except LakeError:
            # Archives keep their files for days, validation may come later; that is no fault of the run.
            return None
        etag = row["etag"] or ""
        if etag.startswith("xxh3:") and etag != f"xxh3:{xxhash.xxh3_128_hexdigest(data)}":
            return "the bytes of the message are not those that the manifest was made from"
        # Points of a projected grid have no place of their own along an axis.
        return self._decoded(data, row["sub"]) if self._latitude.ndim == 1 else None

    def _decoded(self, data: bytes, sub: int) -> tuple[np.ndarray, np.ndarray | float] | str | None:
        try:
            single = bytes(cut(data, sub))
            values = decode.decode_second(single)
        except decode.Undecodable:
            return None
        except LakeError as error:
            return f"the message cannot be read ({error})"
        place = _places(_grid_of(single), self._latitude.tobytes(), self._longitude.tobytes(), self._latitude.dtype.str)
        if place is None:
            return None
        if place.size != values.size:
            return f"the second decoder finds {values.size} points on a grid of {place.size}"
        out = np.full(self._latitude.size * self._longitude.size, np.nan)
        inside = place >= 0
        out[place[inside]] = values[inside] * self._scale[0] + self._scale[1]
        out = out.reshape(self._latitude.size, self._longitude.size)
        # Both decoders read the same packed numbers: they differ by rounding, ours also by the bits kept or by the
        # integers that it is stored as.
        bits = 23 if self._kept_bits is None else self._kept_bits
        allowed = (
            np.abs(out) * (1.01 * 2.0 ** -(bits + 1))
            + _packing_error(single) * abs(self._scale[0])
            + 0.51 * self._step
            + 1e-30
        )
        return out, allowed


def _grid_of(message: bytes) -> bytes:
    """The grid of a message: its section 3 (edition 2) or 2 (edition 1), as a message without a field."""
    handle = eccodes.codes_new_from_message(message)
    try:
        eccodes.codes_set(handle, "bitmapPresent", 0)
        eccodes.codes_set(handle, "packingType", "grid_simple")
        eccodes.codes_set_values(handle, np.zeros(eccodes.codes_get_size(handle, "values")))
        return eccodes.codes_get_message(handle)
    except eccodes.CodesInternalError:
        return b""
    finally:
        eccodes.codes_release(handle)


@lru_cache(maxsize=8)
def _places(message: bytes, latitude: bytes, longitude: bytes, dtype: str) -> np.ndarray | None:
    """Where each point of a message (in its order) lies in a map with these axes, flattened, -1 outside it; None when
    it has no regular latitudes and longitudes. By the coordinates of each point, as ecCodes has them, not by how rows
    run."""
    if not message:
        return None
    rows, columns = (np.frombuffer(a, dtype).astype("float64") for a in (latitude, longitude))
    handle = eccodes.codes_new_from_message(message)
    try:
        if eccodes.codes_get(handle, "gridType") not in ("regular_ll", "regular_gg"):
            return None
        if eccodes.codes_get(handle, "scanningMode", int) & _PLAIN_SCANS:
            return None
        lat, lon = (eccodes.codes_get_array(handle, k) for k in ("latitudes", "longitudes"))
    except eccodes.CodesInternalError:
        return None
    finally:
        eccodes.codes_release(handle)
    row, column = _nearest(rows, lat), _nearest(columns % 360.0, lon % 360.0, wrap=360.0)
    # Of a map that was cut out of the field, most points lie outside.
    off = np.abs((columns[column] - lon + 180.0) % 360.0 - 180.0)
    return np.where((np.abs(rows[row] - lat) > _NEAR) | (off > _NEAR), -1, row * columns.size + column)


_NEAR = 1e-3
"""Degrees within which coordinates are the same: axes may be kept as float32, GRIB counts microdegrees."""


def _nearest(axis: np.ndarray, values: np.ndarray, wrap: float | None = None) -> np.ndarray:
    """Position along an axis of the value nearest to each."""
    order = np.argsort(axis)
    ordered = axis[order]
    if wrap is not None:
        ordered = np.concatenate([[ordered[-1] - wrap], ordered, [ordered[0] + wrap]])
        order = np.concatenate([order[-1:], order, order[:1]])
    after = np.clip(np.searchsorted(ordered, values), 1, max(1, ordered.size - 1))
    if ordered.size == 1:
        return np.zeros(values.size, np.int64)
    before = values - ordered[after - 1] < ordered[after] - values
    return order[after - before]


def _packing_error(message: bytes) -> float:
    """Half a step of the packing."""
    with decode_eccodes.opened(message) as handle:
        return 0.5 * decode_eccodes.layout(handle).step
