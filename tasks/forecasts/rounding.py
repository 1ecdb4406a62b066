"""Rounding away mantissa bits that carry no information, so that what is left compresses."""

import numpy as np

BLOCK = 1 << 15
"""Values rounded at a time: 128 KiB, so that the passes over a block stay in the cache."""

MANTISSA = 23
"""Explicit mantissa bits of a float32."""


_PRECISE = frozenset({"K", "Pa", "hPa", "gpm", "m**2 s**-2"})
_HEIGHTS = frozenset({"gh", "h", "orog", "z", "hcct", "hcc", "ceil", "dist"})
_WIND = "m s**-1"
_CLASSES = ("(Code table", "Code table", "~", "Numeric", "numeric", "code")


def by_unit(units: str, short_name: str) -> int | None:
    """Mantissa bits worth keeping of a variable with ecCodes' ``units``; None keeps all.

    7 bits are steps of 0.4 to 0.8 % of a value: more than most fields are known to. 6 for winds. 11 for pressure and
    height, whose gradients count - and for temperature, since 7 bits of some 280 K would be steps of 2 K. Classes and
    codes are left as they are.
    """
    if units.startswith(_CLASSES):
        return None
    if units in _PRECISE or (units == "m" and short_name in _HEIGHTS):
        return 11
    return 6 if units == _WIND else 7


def keep_bits(values: np.ndarray, bits: int) -> None:
    """Round float32 ``values`` of any shape, in place, to ``bits`` (1 to 23) explicit mantissa bits.

    To nearest, ties to even. The relative error of a normal number is at most ``2**-(bits + 1)``; NaN and
    infinities keep every bit, and so does a number so large that it would round to infinity. Rounding
    again changes nothing. Releases the GIL in its passes. Raises ``ValueError`` for another dtype, an
    array that is read-only, or bits out of range.
    Source: Kloewer et al. 2021, doi:10.1038/s43588-021-00156-2 (keepbits of the CF compression of fields).
    """
    if values.dtype != np.float32:
        raise ValueError(f"keep_bits rounds float32 values, found {values.dtype}")
    if not 1 <= bits <= MANTISSA:
        raise ValueError(f"keep_bits keeps 1 to {MANTISSA} bits, found {bits}")
    if not values.flags.writeable:
        raise ValueError("keep_bits rounds in place, found a read-only array")
    if bits == MANTISSA or values.size == 0:
        return
    if values.ndim > 1 and not values.flags.c_contiguous:
        for part in values:
            keep_bits(part, bits)
        return
    _round(values.reshape(-1), MANTISSA - bits)


def _round(values: np.ndarray, drop: int) -> None:
    """Round a 1-D float32 array in place, dropping ``drop`` mantissa bits."""
    half = 1 << (drop - 1)
    shift = np.uint32(drop)
    below_half = np.uint32(half - 1)
    mask = np.uint32((0xFFFFFFFF << drop) & 0xFFFFFFFF)
    one = np.uint32(1)
    limit_bits = np.uint32(0x7F800000 - half)
    limit = limit_bits.view(np.float32)
    scratch = np.empty(min(BLOCK, values.size), np.uint32)
    for start in range(0, values.size, BLOCK):
        block = values[start : start + BLOCK]
        bits = block.view(np.uint32)
        odd = scratch[: block.size]
        with np.errstate(invalid="ignore"):
            ordinary = -limit < block.min() and block.max() < limit
        special = np.empty(0, np.intp) if ordinary else np.flatnonzero((bits & np.uint32(0x7FFFFFFF)) >= limit_bits)
        kept = bits[special]
        np.right_shift(bits, shift, out=odd)
        np.bitwise_and(odd, one, out=odd)
        np.add(odd, below_half, out=odd)
        np.add(bits, odd, out=bits)
        np.bitwise_and(bits, mask, out=bits)
        bits[special] = kept
