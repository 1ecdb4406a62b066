"""Memory that is used again from one shard to the next.

The first touch of fresh pages costs more than reading or decoding into them (0.4 GB/s against several). Buffers as
large as a shard would go back to the kernel each time they are let go of, so a few are kept. One that is not given
back is simply let go of by whoever held it.
"""

import threading

import numpy as np

_MOST = 6
"""Buffers kept: shard, rows and result of two threads."""

_free: list[np.ndarray] = []
_lock = threading.Lock()


def take(size: int) -> np.ndarray:
    """A buffer of at least ``size`` bytes, with anything in it: the smallest one kept that will do, or a new one.

    Pages of a new one that nobody writes to take no memory.
    """
    with _lock:
        fitting = [i for i, b in enumerate(_free) if b.nbytes >= size]
        if fitting:
            return _free.pop(min(fitting, key=lambda i: _free[i].nbytes))
        if len(_free) >= _MOST:
            # None is large enough: the smallest makes room.
            _free.pop(0)
    return np.empty(size, "u1")


def give(buffer: np.ndarray) -> None:
    """Give a buffer back. Nothing may look into it any more."""
    if not buffer.nbytes:
        return
    with _lock:
        _free.append(buffer)
        _free.sort(key=lambda b: b.nbytes)
        if len(_free) > _MOST:
            _free.pop(0)
