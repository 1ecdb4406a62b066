"""Large arrays block by block: what is read at once, some read ahead, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

BLOCK = 48 * 2**20
"""Bytes of a block, about."""

AHEAD = 3
"""Blocks that are read at once."""

_ALONE = ("init_time", "member", "level")
"""Dimensions of which a block has one: a cube's shards have, too."""

type Index = tuple[slice, ...]


def stored_chunks(array: xr.DataArray) -> dict[str, int]:
    """Length of the chunks behind an array along its dimensions, as far as they are known; the whole array in memory
    has none."""
    dims, chunks = array.encoding.get("preferred_chunks"), array.encoding.get("chunks")
    if not dims or not chunks:
        return {}
    return {str(d): int(n) for d, n in zip(dims, chunks, strict=True) if d in array.dims}


def block_shape(array: xr.DataArray, most: int = BLOCK) -> tuple[int, ...]:
    """Lengths of the blocks that an array is read in: of about ``most`` bytes, along whole stored chunks.

    The last three dimensions are lead_time (level), y, x in any order but these; the axis that is cut is the one along
    which the store has more chunks, so that none is read twice.
    """
    chunks = stored_chunks(array)
    shape = [1 if d in _ALONE else n for d, n in zip(array.dims, array.sizes.values(), strict=True)]
    axes = [i for i, d in enumerate(array.dims) if d not in _ALONE]
    while prod(shape) * array.dtype.itemsize > most:
        counts = {i: ceil(shape[i] / chunks.get(str(array.dims[i]), 1)) for i in axes}
        # Whole rows of maps rather than pieces of them: the last axis is cut when nothing else can be.
        able = [i for i in axes[:-1] if counts[i] > 1] or [i for i in axes if counts[i] > 1]
        if not able:
            break
        at = max(able, key=lambda i: (counts[i], -i))
        step = chunks.get(str(array.dims[at]), 1)
        shape[at] = ceil(counts[at] / 2) * step
    return tuple(shape)


def blocks(array: xr.DataArray, shape: Sequence[int]) -> Iterator[Index]:
    """The indices of an array's blocks of a shape, in order."""
    ranges = [range(0, n, step) for n, step in zip(array.shape, shape, strict=True)]
    for starts in product(*ranges):
        yield tuple(slice(a, min(a + s, n)) for a, s, n in zip(starts, shape, array.shape, strict=True))


def read(array: xr.DataArray, shape: Sequence[int], ahead: int = AHEAD) -> Iterator[tuple[Index, np.ndarray]]:
    """The blocks of an array with their values, in order, a few of them read ahead in threads."""
    under_way: deque[tuple[Index, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(ahead) as pool:
        try:
            for index in blocks(array, shape):
                under_way.append((index, pool.submit(_values, array, index)))
                if len(under_way) >= ahead:
                    first, future = under_way.popleft()
                    yield first, future.result()
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
        finally:
            for _, future in under_way:
                future.cancel()


def _values(array: xr.DataArray, index: Index) -> np.ndarray:
    return np.asarray(array[index].values)
