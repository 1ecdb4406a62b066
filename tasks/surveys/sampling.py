"""Which granule stands for a collection: a pure function of the collection's id and a seed."""

import hashlib

DEEPEST = 1_000_000
"""The catalogue pages no deeper than this."""


def place(collection: str, seed: int, count: int) -> int:
    """A granule's place from 0 to ``count`` - 1.

    With granules in order of their start, new ones come last; one more granule moves the place only with a chance of
    1 in ``count``, so surveys that are repeated mostly look at the same granules.
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}:{collection}".encode()).digest()[:8], "big")
    return jump(key, min(count, DEEPEST))


def jump(key: int, buckets: int) -> int:
    """Jump consistent hash of a 64-bit ``key`` (Lamping and Veach 2014, arXiv:1406.2294)."""
    found, candidate = -1, 0
    while candidate < buckets:
        found = candidate
        key = (key * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        candidate = int((found + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return found
