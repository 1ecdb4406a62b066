"""Chunks, shards and blocks: how an array is cut so that no stored chunk of the source is read twice.

A *block* is what one partition reads and writes: whole chunks of the source and whole shards of the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class Cut:
    """How one axis of an array is cut: lengths of a chunk, of a shard (a multiple of it) and of a block."""

    length: int
    chunk: int
    shard: int
    block: int

    @property
    def blocks(self) -> int:
        """How many blocks the axis has."""
        return -(-self.length // self.block)

    @property
    def shards(self) -> int:
        """How many shards the axis has."""
        return -(-self.length // self.shard)


def cut(length: int, source: int, chunk: int, shard: int) -> Cut:
    """Cut an axis of ``length`` pixels whose source is stored in chunks of ``source`` pixels.

    ``chunk`` and ``shard`` are the sides aimed at. The shard is a divisor of the source's chunk, or a multiple, so a
    block never splits one; the chunk is the largest divisor of the shard between half of the aim and the aim.
    """
    source = min(source, length)
    block = source
    if source <= shard // 2 and source < length:
        whole = source * (shard // source)
        block = whole
    elif source <= shard:
        whole = source
    else:
        whole = _divisor(source, shard) or source
    whole = min(whole, _up(length, source))
    inner = whole if whole <= chunk else _divisor(whole, chunk)
    if inner is None and source >= length:
        # Only the last shard may stand out over the edge, and here there is only one source chunk to cut it from.
        inner = chunk
        whole = _up(min(whole, shard), chunk)
        block = max(block, whole) if whole >= length else length
    elif inner is None:
        inner = whole
    return Cut(length, inner, whole, max(block, whole))


def _divisor(number: int, most: int) -> int | None:
    """The largest divisor of ``number`` between half of ``most`` and ``most``."""
    return next((d for d in range(min(number, most), max(most // 2, 1) - 1, -1) if number % d == 0), None)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces of ``step``; the last may be shorter."""
    for start in range(0, length, step):
        yield start, min(start + step, length)


def keys_within(start: tuple[int, ...], stop: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Indices of the chunks that a region touches."""
    yield from product(*(range(a // c, -(-b // c)) for a, b, c in zip(start, stop, chunk, strict=True)))
