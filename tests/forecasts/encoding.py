"""Small GRIB messages encoded by ecCodes for the tests of the decoder, the walk and the scan."""

import eccodes
import numpy as np

ROWS, COLUMNS = 5, 8
SHAPE = (ROWS, COLUMNS)


def field(seed: int = 0) -> np.ndarray:
    """Values of a made-up temperature, float64 of shape (5, 8)."""
    return 280 + 10 * np.random.default_rng(seed).normal(size=SHAPE)


def encode(values: np.ndarray, edition: int = 2, *, missing: np.ndarray | None = None, **keys: object) -> bytes:
    """One message on a 5 x 8 global grid; ``missing`` is True where the bitmap leaves a point out."""
    handle = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
    settings: dict[str, object] = {
        "dataDate": 20261120, "dataTime": 600, "Ni": COLUMNS, "Nj": ROWS, "latitudeOfFirstGridPointInDegrees": 80,
        "latitudeOfLastGridPointInDegrees": -80, "longitudeOfFirstGridPointInDegrees": 0,
        "longitudeOfLastGridPointInDegrees": 315, "iDirectionIncrementInDegrees": 45,
        "jDirectionIncrementInDegrees": 40, "shortName": "2t",
    }  # fmt: skip
    try:
        for key, value in (settings | keys).items():
            eccodes.codes_set(handle, key, value)
        if missing is not None:
            eccodes.codes_set(handle, "bitmapPresent", 1)
            eccodes.codes_set(handle, "missingValue", -1.0)
            values = np.where(missing, -1.0, values)
        eccodes.codes_set_values(handle, np.ascontiguousarray(values, dtype=float).reshape(-1))
        return eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)


def reference(message: bytes, key: str = "values") -> np.ndarray:
    """An array of a message of one field as ecCodes gives it, float64."""
    handle = eccodes.codes_new_from_message(message)
    try:
        return eccodes.codes_get_array(handle, key)
    finally:
        eccodes.codes_release(handle)


def sections(message: bytes) -> dict[int, bytes]:
    """Sections 1 to 7 of a GRIB2 message of one field by number."""
    found, at = {}, 16
    while message[at : at + 4] != b"7777":
        size = int.from_bytes(message[at : at + 4], "big")
        found[message[at + 4]] = message[at : at + size]
        at += size
    return found


def join(first: bytes, parts: list[bytes]) -> bytes:
    """A GRIB2 message with the section 0 of ``first`` and these sections."""
    body = b"".join(parts)
    return first[:8] + (16 + len(body) + 4).to_bytes(8, "big") + body + b"7777"
