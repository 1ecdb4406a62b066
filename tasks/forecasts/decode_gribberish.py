"""Values of a GRIB message of one field by gribberish: first choice for PNG packing, second opinion for the rest.

It holds the interpreter's lock while it works, so that threads do not help it.
"""

import numpy as np

from .message import Buffer, Undecodable


def values(message: Buffer) -> np.ndarray:
    """Values as gribberish gives them: float64, (n,), in file order, missing as NaN.

    Raises `Undecodable` for what gribberish does not support (IEEE packing, rotated grids of edition 1, ...) or cannot
    read: it does not tell which.
    """
    import gribberish

    try:
        return np.asarray(gribberish.parse_grib_array(bytes(message), 0)).reshape(-1)
    except Exception as error:
        raise Undecodable(f"gribberish cannot decode the field: {error}") from None
    except BaseException as error:
        # A panic of the Rust code derives from BaseException only; everything else must pass.
        if type(error).__name__ != "PanicException":
            raise
        raise Undecodable(f"gribberish cannot decode the field: {error}") from None


def unpack(message: Buffer, flat: np.ndarray) -> None:
    """Values into a 1-D float32 array, in file order, NaN where the message has none.

    Raises `Undecodable` as `values`, and where gribberish finds another number of points (grids with rows of differing
    length in edition 1).
    """
    found = values(message)
    if found.size != flat.size:
        raise Undecodable("gribberish finds another number of points", expected=flat.size, found=found.size)
    with np.errstate(over="ignore"):
        flat[:] = found
