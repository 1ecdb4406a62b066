"""GRIB messages as numpy fields and headers. See `decoders` for who decodes them."""

import numpy as np

from . import decode_eccodes, decode_gribberish, product
from .decode_eccodes import Header
from .decoders import Decoders
from .message import Buffer, Undecodable, cut, verify

__all__ = ["Header", "Undecodable", "decode", "decode_second", "header", "verify"]

_decoders = Decoders(checked=None)


def header(message: Buffer, sub: int = 0) -> Header:
    """The header of field number ``sub`` (from 0) of one message.

    Raises `CorruptInput` for a broken message, a field that is not there, or keys ecCodes cannot make out.
    """
    single = cut(message, sub)
    with decode_eccodes.opened(single) as handle:
        return decode_eccodes.header(handle, product.of(single))


def decode(message: Buffer, sub: int = 0, out: np.ndarray | None = None) -> np.ndarray:
    """Values of field number ``sub`` (from 0) of one message: float32, (ny, nx) or (n,), missing as NaN.

    Units as encoded (`Header.units`). Row 0 is the first row of the file and column 0 its first point
    (the scan of the grid definition), so row j lies at the first latitude plus j increments. Fields whose
    rows run to and fro, or that are stored column by column, are brought into that order.
    ``out``, a C-contiguous float32 array of that shape, is filled and returned when given.
    Raises `CorruptInput` for a broken message or data section, `Undecodable` for a packing that neither
    ecCodes nor gribberish knows, ``ValueError`` for an ``out`` that does not fit.
    """
    return _decoders.decode(message, sub, out)


def decode_second(message: Buffer, sub: int = 0) -> np.ndarray:
    """Values of a field by gribberish, as a check on `decode`: float64, (n,), in file order, missing as NaN.

    Raises `Undecodable` for what gribberish does not support (IEEE packing among others), `CorruptInput`
    for a broken message.
    """
    return decode_gribberish.values(cut(message, sub))
