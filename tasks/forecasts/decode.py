"""GRIB messages as numpy fields and headers, by ecCodes; gribberish is the second opinion.

Everything here may be called from many threads: ecCodes works outside the GIL, each call has its own
handle, and no process-wide switch of ecCodes is touched (fields of one message are cut out first).
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

from ..lake.errors import CorruptInput, LakeError
from .message import Buffer, cut, verify

__all__ = ["Header", "Undecodable", "decode", "decode_second", "header", "verify"]

FLOAT32_PACKINGS = frozenset({"grid_ccsds", "grid_simple"})
"""Packings that ecCodes 2.50 unpacks to float32 exactly as to float64 and rounded; the others differ in the
last bits (complex packing) or are not implemented (PNG, JPEG 2000, IEEE)."""

_MISSING = float(np.float32(-3e38))
_ALTERNATING = 0x10
_J_CONSECUTIVE = 0x20
_NO_COUNT = (-1, 0, 2147483647, 4294967295)
_scratch = threading.local()


class Undecodable(LakeError):
    """A whole message that nothing here can decode: an unknown packing, or rows of differing length."""


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


def header(message: Buffer, sub: int = 0) -> Header:
    """The header of field number ``sub`` (from 0) of one message.

    Raises `CorruptInput` for a broken message, a field that is not there, or keys ecCodes cannot make out.
    """
    with _opened(cut(message, sub)) as handle:
        return _read_header(handle)


def decode(message: Buffer, sub: int = 0, out: np.ndarray | None = None) -> np.ndarray:
    """Values of field number ``sub`` (from 0) of one message: float32, (ny, nx) or (n,), missing as NaN.

    Units as encoded (`Header.units`). Row 0 is the first row of the file and column 0 its first point
    (the scan of the grid definition), so row j lies at the first latitude plus j increments. Fields whose
    rows run to and fro, or that are stored column by column, are brought into that order.
    ``out``, a C-contiguous float32 array of that shape, is filled and returned when given.
    Raises `CorruptInput` for a broken message or data section, `Undecodable` for a packing that neither
    ecCodes nor gribberish knows, ``ValueError`` for an ``out`` that does not fit.
    """
    single = cut(message, sub)
    with _opened(single) as handle:
        packing = _packing(handle)
        shape = _shape(handle)
        scan = _scan(handle)
        target = np.empty(shape, np.float32) if out is None else _checked(out, shape)
        straight = target if not scan else np.empty(target.size, np.float32)
        try:
            _unpack(handle, packing, straight.reshape(-1))
        except eccodes.FunctionNotImplementedError:
            straight.reshape(-1)[:] = decode_second(single)
        except eccodes.CodesInternalError as error:
            raise CorruptInput(f"ecCodes cannot unpack the field: {error}") from None
    if scan:
        target[...] = _straightened(straight, shape, scan)
    return target


def decode_second(message: Buffer, sub: int = 0) -> np.ndarray:
    """Values of a field by gribberish, as a check on `decode`: float64, (n,), in file order, missing as NaN.

    Raises `Undecodable` for what gribberish does not support (IEEE packing among others), `CorruptInput`
    for a broken message.
    """
    import gribberish

    single = bytes(cut(message, sub))
    try:
        return np.asarray(gribberish.parse_grib_array(single, 0)).reshape(-1)
    except Exception as error:
        raise Undecodable(f"gribberish cannot decode the field: {error}") from None
    except BaseException as error:
        # A panic of the Rust code derives from BaseException only; everything else must pass.
        if type(error).__name__ != "PanicException":
            raise
        raise Undecodable(f"gribberish cannot decode the field: {error}") from None


@contextmanager
def _opened(message: Buffer) -> Iterator[int]:
    """An ecCodes handle on a copy of a message of one field, released whatever happens."""
    try:
        handle = eccodes.codes_new_from_message(message if isinstance(message, bytes) else bytes(message))
    except eccodes.CodesInternalError as error:
        raise CorruptInput(f"ecCodes cannot read the message: {error}") from None
    try:
        yield handle
    finally:
        eccodes.codes_release(handle)


def _get[T](handle: int, key: str, kind: type[T], default: T) -> T:
    """A key, or ``default`` where this kind of message has no such key."""
    try:
        return eccodes.codes_get(handle, key, kind)
    except eccodes.KeyValueNotFoundError:
        return default


def _read_header(handle: int) -> Header:
    try:
        text = {k: str(eccodes.codes_get(handle, k, str)) for k in _TEXT_KEYS}
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


def _reference_time(day: int, clock: int, second: int) -> datetime:
    """A UTC time from the numbers yyyymmdd, hhmm and seconds."""
    try:
        parts = (day // 10000, day // 100 % 100, day % 100, clock // 100, clock % 100, second)
        return datetime(*parts, tzinfo=UTC)
    except ValueError:
        raise CorruptInput(
            "the message has no valid reference time", expected="a date and time", found=f"{day} {clock:04d}"
        ) from None


_TEXT_KEYS = (
    "shortName", "cfName", "name", "units", "typeOfLevel", "stepType", "gridType", "packingType", "centre",
)  # fmt: skip


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


def _scan(handle: int) -> int:
    """The bits of the scanning mode (code table 3.4) that make file order other than row after row."""
    return _get(handle, "scanningMode", int, 0) & (_ALTERNATING | _J_CONSECUTIVE)


def _checked(out: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(
            f"out must be writeable C-contiguous float32 of shape {shape}, found {out.dtype} of shape {out.shape}"
        )
    return out


def _packing(handle: int) -> str:
    packing = _get(handle, "packingType", str, "unknown")
    if packing == "unknown":
        template = _get(handle, "dataRepresentationTemplateNumber", int, -1)
        raise Undecodable(
            "ecCodes does not know how the field is packed", expected="a known packing", found=f"template 5.{template}"
        )
    return packing


def _unpack(handle: int, packing: str, flat: np.ndarray) -> None:
    """Unpack into a 1-D float32 array, NaN where the message has no value."""
    may_miss = _may_miss(handle)
    if may_miss:
        eccodes.codes_set(handle, "missingValue", _MISSING)
    if packing in FLOAT32_PACKINGS:
        _values(handle, flat, "grib_get_float_array", "float *")
    else:
        wide = _wide(flat.size)
        _values(handle, wide, "grib_get_double_array", "double *")
        with np.errstate(over="ignore"):
            flat[:] = wide
    if may_miss:
        flat[flat == np.float32(_MISSING)] = np.nan


def _values(handle: int, flat: np.ndarray, function: str, pointer: str) -> None:
    # Not codes_get_array, which allocates: touching fresh memory costs as much as decoding.
    length = ffi.new("size_t *", flat.size)
    target = ffi.cast(pointer, flat.ctypes.data)
    code = getattr(lib, function)(ffi.cast("grib_handle *", handle), b"values", target, length)
    _check(code)
    if length[0] != flat.size:
        raise CorruptInput("the data section has another number of values", expected=flat.size, found=length[0])


def _check(code: int) -> None:
    """Raise the exception that belongs to a return code of the library."""
    if code:
        raise_grib_error(code)


def _wide(size: int) -> np.ndarray:
    """This thread's float64 buffer, kept from field to field."""
    buffer = getattr(_scratch, "wide", None)
    if buffer is None or buffer.size < size:
        buffer = _scratch.wide = np.empty(size, np.float64)
    return buffer[:size]


def _straightened(flat: np.ndarray, shape: tuple[int, ...], scan: int) -> np.ndarray:
    if len(shape) == 1:
        return flat
    ny, nx = shape
    lines = flat.reshape((nx, ny) if scan & _J_CONSECUTIVE else (ny, nx))
    if scan & _ALTERNATING:
        lines[1::2] = lines[1::2, ::-1].copy()
    return lines.T if scan & _J_CONSECUTIVE else lines
