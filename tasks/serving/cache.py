"""What is kept in memory between requests, up to a number of bytes: the least recently used goes first."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    import numpy as np

_OVERHEAD = 200
"""Bytes that an entry takes beside its values: key, array object, place in the book."""


class Cache:
    """Arrays by key, at most ``size`` bytes of them; may be used from many threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.hits = 0
        self.misses = 0
        self._kept: LRUCache[Hashable, np.ndarray] = LRUCache(max(size, 1), getsizeof=lambda a: a.nbytes + _OVERHEAD)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> np.ndarray | None:
        """What is kept under a key, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def put(self, key: Hashable, values: np.ndarray) -> None:
        """Keep an array that nobody changes any more; one that is larger than the cache is not kept."""
        if values.nbytes + _OVERHEAD <= self.size:
            with self._lock:
                self._kept[key] = values

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        with self._lock:
            return int(self._kept.currsize)
