"""The pipeline of refine: byte ranges fetched ahead, decoded in threads, each field straight into its place.

Three stages overlap, each bounded: up to `lake.ranges.IN_FLIGHT` requests and `lake.ranges.BUDGET` bytes are under way
in a process; what has arrived waits for a decoder only as long as few parts do; and decoders - a thread a core, since
ecCodes works outside the GIL - put fields into the block, rounded. The block is then compressed and written as one
shard, while the blocks beside it in the process are fetched and decoded.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from ..grids.order import Order
from ..lake.errors import AccessError, ErrorClass, LakeError
from ..lake.ranges import BUDGET, Part, fetch, parts
from .archive import Archive
from .decoders import Decoders
from .quarantine import Collector
from .rounding import keep_bits

type Place = Callable[[Mapping[str, Any]], tuple[int, int]]
"""Where the field of a manifest's row goes: number of the lead time and of the level."""

DECODERS = max(1, len(os.sched_getaffinity(0)))
"""Threads that decode in a process, for all blocks under way in it."""

_WAITING = 2 * DECODERS
"""Parts that have arrived and wait for a decoder, for one block."""


def memory(values: int, fields: int, cells: int, compressed: int) -> int:
    """Peak (bytes) of making a block of ``values`` bytes from ``fields`` messages of ``compressed`` bytes in all.

    The values; as much again for the encoded shard, in pieces and as a whole, should nothing compress; the bytes
    fetched ahead; and for each decoder a message, its integers, a wide field and a field of ``cells``.
    """
    ahead = min(compressed, BUDGET) + _WAITING * compressed // max(fields, 1)
    return 2 * values + ahead + DECODERS * (compressed // max(fields, 1) + 28 * cells)


class Slabs:
    """Memory for blocks, used again from block to block: touching fresh pages costs as much as decoding into them."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

    @contextmanager
    def of(self, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        """A float32 array of this shape with anything in it; it is given to another once the block is left."""
        size = int(np.prod(shape))
        with self._lock:
            fitting = next((i for i, a in enumerate(self._free) if a.size >= size), None)
            buffer = self._free.pop(fitting) if fitting is not None else None
            if buffer is None:
                self._free.clear()
        if buffer is None:
            buffer = np.empty(size, np.float32)
        try:
            yield buffer[:size].reshape(shape)
        finally:
            with self._lock:
                self._free.append(buffer)


def fill(
    fields: np.ndarray, rows: pa.Table, archive: Archive, place: Place, shape: tuple[int, ...], order: Order,
    bits: int | None, damage: Collector, use: Callable[[Mapping[str, Any], bytes], bytes], decoders: Decoders,
) -> None:  # fmt: skip
    """Fill ``fields``, float32 (lead_time, level, *grid), from the messages of a manifest; NaN where it has no row.

    ``shape`` is that of the source's grid, which ``order`` brings to the block's.
    ``use`` checks a message and hands back what ``decoders`` are to decode; ``bits`` of the mantissa are kept.
    What cannot be read is on record in ``damage`` and NaN where the recipe says so; otherwise the first such error is
    raised, and whatever may pass (the network) in any case.
    """
    by_place: dict[str, dict[tuple[int, int], list[dict[str, Any]]]] = {}
    empty = np.ones(fields.shape[:2], bool)
    for row in rows.to_pylist():
        by_place.setdefault(row["url"], {}).setdefault((row["offset"], row["length"]), []).append(row)
        empty[place(row)] = False
    for at in np.argwhere(empty):
        fields[tuple(at)] = np.nan

    def one(row: dict[str, Any], message: bytes | None) -> None:
        target = fields[place(row)]

        def get() -> bytes:
            return archive.fetch(row["url"], row["offset"], row["length"]) if message is None else message

        def into(data: bytes) -> None:
            where = f"{row['url']} at {row['offset']}"
            _decoded(decoders, use(row, data), row["sub"], shape, order, target, where)
            if bits is not None:
                keep_bits(target, bits)

        if not damage.guarded(row, get, into):
            target[...] = np.nan

    def several(part: Part, data: memoryview) -> None:
        start = part.ranges[0][0]
        for offset, length in part.ranges:
            whole = len(part.ranges) == 1 and len(data) == length
            for row in by_place[part.place][offset, length]:
                if not len(data):
                    one(row, None)
                else:
                    message = data.obj if whole else data[offset - start : offset - start + length]
                    one(row, message if isinstance(message, bytes) else bytes(message))

    def read(url: str, offset: int, length: int) -> bytes:
        try:
            return archive.fetch(url, offset, length)
        except LakeError as error:
            if error.error_class is not ErrorClass.PERMANENT or isinstance(error, AccessError):
                raise
            # One of the messages is not to be had: each is asked for alone, and the error is that message's.
            return b""

    wanted = [part for url, messages in by_place.items() for part in parts(url, messages)]
    _through(fetch(read, wanted), several)


def _decoded(
    decoders: Decoders, message: bytes, sub: int, shape: tuple[int, ...], order: Order, target: np.ndarray, where: str
) -> None:
    if order.keeps:
        decoders.decode(message, sub, target, where)
        return
    # Into a field of the source's shape, which refuses another grid: cut out of that, a part might fit by chance.
    whole = getattr(_scratch, "whole", None)
    if whole is None or whole.shape != shape:
        whole = _scratch.whole = np.empty(shape, np.float32)
    target[...] = order(decoders.decode(message, sub, whole, where))


_scratch = threading.local()


def _through(found: Iterable[tuple[Part, memoryview]], work: Callable[[Part, memoryview], None]) -> None:
    """Have the decoders work on parts as they arrive. The first error ends it, once nothing is at work any more."""
    under_way: set[Future[None]] = set()
    try:
        for part, data in found:
            while len(under_way) >= _WAITING:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
            under_way.add(_decoders().submit(work, part, data))
        for future in under_way:
            future.result()
    finally:
        for future in under_way:
            future.cancel()
        wait(under_way)


@cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
