"""GRIB messages of one field by ecCodes: their headers, how their values lie, and the values.

Everything here may be called from many threads: ecCodes works outside the GIL, each call has its own handle, and no
process-wide switch of ecCodes is touched (fields of one message are cut out first, see `message.cut`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import eccodes
import numpy as np
from gribapi.bindings import ffi, lib
from gribapi.errors import raise_grib_error

from ..lake.errors import CorruptInput
from .message import Buffer, Undecodable
from .product import Known, Signature

FLOAT32_PACKINGS = frozenset({"grid_ccsds", "grid_simple"})
"""Packings that ecCodes 2.50 unpacks to float32 exactly as to float64 and rounded; the others differ in the
last bits (complex packing) or are not implemented (PNG, JPEG 2000, IEEE)."""

ALTERNATING = 0x10
J_CONSECUTIVE = 0x20
_MISSING = float(np.float32(-3e38))
_NO_COUNT = (-1, 0, 2147483647, 4294967295)
_scratch = threading.local()


@dataclass(frozen=True, slots=True)
class Header:
    """What ecCodes says of one field, without its values.

    Times are UTC; ``start_step`` and ``end_step`` are hours after ``init_time`` (fractions where the model
    writes minutes) and equal for an instantaneous field. ``level`` is in the unit of ``type_of_level``
    (hPa for isobaricInhPa). ``member`` is the perturbation number (0 is the control), None outside an
    ensemble. ``shape`` is (ny, nx), or (n,) for grids without rows of one length. ``missing`` tells whether
    points may be missing (a bitmap, or the missing value management of complex packing).
    """

    short_name: str
    cf_name: str
    name: str
    units: str
    type_of_level: str
    level: float
    member: int | None
    step_type: str
    start_step: float
    end_step: float
    init_time: datetime
    valid_time: datetime
    grid_type: str
    shape: tuple[int, ...]
    packing_type: str
    bits_per_value: int
    edition: int
    missing: bool
    centre: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How the values of a field lie in its message.

    ``shape`` as in `Header`; ``scan`` the bits of the scanning mode (code table 3.4) that make file order other than
    row after row; ``step`` what the packed numbers differ by, in the field's units (0 where they are not packed).
    """

    shape: tuple[int, ...]
    scan: int
    step: float

    @property
    def size(self) -> int:
        """Number of points."""
        return int(np.prod(self.shape))

    def straightened(self, flat: np.ndarray) -> np.ndarray:
        """Values in file order as rows from the first point on; may turn rows of ``flat`` in place."""
        if len(self.shape) == 1:
            return flat
        ny, nx = self.shape
        lines = flat.reshape((nx, ny) if self.scan & J_CONSECUTIVE else (ny, nx))
        if self.scan & ALTERNATING:
            lines[1::2] = lines[1::2, ::-1].copy()
        return lines.T if self.scan & J_CONSECUTIVE else lines


@contextmanager
def opened(message: Buffer) -> Iterator[int]:
    """An ecCodes handle on a copy of a message of one field, released whatever happens.

    Raises `CorruptInput` where ecCodes cannot read it, at the start or by and by; `Undecodable` where it has no way to.
    """
    try:
        handle = eccodes.codes_new_from_message(message if isinstance(message, bytes) else bytes(message))
    except eccodes.CodesInternalError as error:
        raise CorruptInput(f"ecCodes cannot read the message: {error}") from None
    try:
        yield handle
    except eccodes.FunctionNotImplementedError:
        raise Undecodable("ecCodes has no decoder for the field") from None
    except eccodes.CodesInternalError as error:
        raise CorruptInput(f"ecCodes cannot read the message: {error}") from None
    finally:
        eccodes.codes_release(handle)


def layout(handle: int) -> Layout:
    """How the values of an opened message lie. Raises `Undecodable` for unknown packing, rows of differing length."""
    _packing(handle)
    scan = _get(handle, "scanningMode", int, 0) & (ALTERNATING | J_CONSECUTIVE)
    return Layout(_shape(handle), scan, _packing_step(handle))


def header(handle: int, product: Signature | None = None) -> Header:
    """The header of an opened message; ``product`` is the signature of its field, where it has one.

    Raises `CorruptInput` for keys ecCodes cannot make out.
    """
    try:
        text = {k: str(eccodes.codes_get(handle, k, str)) for k in _TEXT_KEYS} | _names_of(handle, product)
        day, clock = eccodes.codes_get(handle, "dataDate", int), eccodes.codes_get(handle, "dataTime", int)
        # Seconds are the one unit in which every step is a whole number, sub-hourly ones too.
        eccodes.codes_set(handle, "stepUnits", "s")
        start, end = (eccodes.codes_get(handle, k, int) for k in ("startStep", "endStep"))
        level = float(_get(handle, "level", float, 0.0))
        bits = _get(handle, "bitsPerValue", int, 0)
        edition = eccodes.codes_get(handle, "edition", int)
        shape = _shape(handle)
        second = _get(handle, "second", int, 0)
    except eccodes.CodesInternalError as error:
        raise CorruptInput(f"ecCodes cannot read the header: {error}") from None
    init_time = _reference_time(day, clock, second)
    return Header(
        short_name=text["shortName"],
        cf_name=text["cfName"],
        name=text["name"],
        units=text["units"],
        type_of_level=text["typeOfLevel"],
        level=level,
        member=_member(handle, edition),
        step_type=text["stepType"],
        start_step=start / 3600,
        end_step=end / 3600,
        init_time=init_time,
        valid_time=init_time + timedelta(seconds=end),
        grid_type=text["gridType"],
        shape=shape,
        packing_type=text["packingType"],
        bits_per_value=bits,
        edition=edition,
        missing=_may_miss(handle),
        centre=text["centre"],
    )


def unpack(handle: int, flat: np.ndarray) -> None:
    """Values of an opened message into a 1-D float32 array, in file order, NaN where the message has none.

    Raises `CorruptInput` for a broken data section, `Undecodable` for a packing ecCodes does not know.
    """
    packing = _packing(handle)
    may_miss = _may_miss(handle)
    if may_miss:
        eccodes.codes_set(handle, "missingValue", _MISSING)
    try:
        if packing in FLOAT32_PACKINGS:
            _values(handle, flat, "grib_get_float_array", "float *")
        else:
            wide = _wide(flat.size)
            _values(handle, wide, "grib_get_double_array", "double *")
            with np.errstate(over="ignore"):
                flat[:] = wide
    except eccodes.FunctionNotImplementedError:
        raise Undecodable(f"ecCodes has no decoder for {packing}") from None
    except eccodes.CodesInternalError as error:
        raise CorruptInput(f"ecCodes cannot unpack the field: {error}") from None
    if may_miss:
        np.copyto(flat, np.float32(np.nan), where=flat == np.float32(_MISSING))


def _get[T](handle: int, key: str, kind: type[T], default: T) -> T:
    """A key, or ``default`` where this kind of message has no such key."""
    try:
        return eccodes.codes_get(handle, key, kind)
    except eccodes.KeyValueNotFoundError:
        return default


def _reference_time(day: int, clock: int, second: int) -> datetime:
    """A UTC time from the numbers yyyymmdd, hhmm and seconds."""
    try:
        parts = (day // 10000, day // 100 % 100, day % 100, clock // 100, clock % 100, second)
        return datetime(*parts, tzinfo=UTC)
    except ValueError:
        raise CorruptInput(
            "the message has no valid reference time", expected="a date and time", found=f"{day} {clock:04d}"
        ) from None


_TEXT_KEYS = ("typeOfLevel", "stepType", "gridType", "packingType", "centre")
_NAME_KEYS = ("shortName", "cfName", "name", "units")
_known: Known[dict[str, str]] = Known()


def _names_of(handle: int, product: Signature | None) -> dict[str, str]:
    """The four names that ecCodes looks up in tables, once a product."""
    found = None if product is None else _known.get(product)
    if found is None:
        found = {k: str(eccodes.codes_get(handle, k, str)) for k in _NAME_KEYS}
        if product is not None:
            _known.put(product, found)
    return found


def _member(handle: int, edition: int) -> int | None:
    number = _get(handle, "perturbationNumber", int, -1)
    if number < 0:
        return None
    # ECMWF's edition 1 writes number 0 of 0 into deterministic fields too.
    if edition == 1 and not _get(handle, "numberOfForecastsInEnsemble", int, 0):
        return None
    return number


def _may_miss(handle: int) -> bool:
    return bool(_get(handle, "bitmapPresent", int, 0) or _get(handle, "missingValueManagementUsed", int, 0))


def _shape(handle: int) -> tuple[int, ...]:
    ny, nx = _get(handle, "Ny", int, 0), _get(handle, "Nx", int, 0)
    count = eccodes.codes_get_size(handle, "values")
    if ny in _NO_COUNT or nx in _NO_COUNT:
        return (count,)
    if ny * nx != count:
        raise Undecodable("the field's rows differ in length", expected=f"{ny} x {nx} values", found=f"{count} values")
    return (ny, nx)


def _packing(handle: int) -> str:
    packing = _get(handle, "packingType", str, "unknown")
    if packing == "unknown":
        template = _get(handle, "dataRepresentationTemplateNumber", int, -1)
        raise Undecodable(
            "ecCodes does not know how the field is packed", expected="a known packing", found=f"template 5.{template}"
        )
    return packing


def _packing_step(handle: int) -> float:
    binary = _get(handle, "binaryScaleFactor", int, 0)
    decimal = _get(handle, "decimalScaleFactor", int, 0)
    if not _get(handle, "bitsPerValue", int, 0) or abs(binary) > 1000 or abs(decimal) > 300:
        return 0.0
    return 2.0**binary * 10.0**-decimal


def _values(handle: int, flat: np.ndarray, function: str, pointer: str) -> None:
    # Not codes_get_array, which allocates: touching fresh memory costs as much as decoding.
    length = ffi.new("size_t *", flat.size)
    target = ffi.cast(pointer, flat.ctypes.data)
    code = getattr(lib, function)(ffi.cast("grib_handle *", handle), b"values", target, length)
    if code:
        raise_grib_error(code)
    if length[0] != flat.size:
        raise CorruptInput("the data section has another number of values", expected=flat.size, found=length[0])


def _wide(size: int) -> np.ndarray:
    """This thread's float64 buffer, kept from field to field."""
    buffer = getattr(_scratch, "wide", None)
    if buffer is None or buffer.size < size:
        buffer = _scratch.wide = np.empty(size, np.float64)
    return buffer[:size]
