"""What two messages of the same product have in common, whatever their run, lead time and member: its bytes.

ecCodes takes a millisecond to find the names of a product in its tables; a run asks for those of a few products
hundreds of thousands of times.
"""

from typing import NamedTuple

from .message import Buffer, Field, walk

LIMIT = 20_000


class Times(NamedTuple):
    """Places in section 4, from its first byte, that change between runs, steps and members."""

    member: int | None
    end: int | None


TEMPLATES = {0: Times(None, None), 1: Times(35, None), 8: Times(None, 34), 11: Times(35, 37)}
"""Product definition templates read without ecCodes: an analysis or forecast at a point in time, of an
ensemble member, and both over a time interval (whose end takes seven bytes)."""

FORECAST_TIME = 18

type Signature = tuple[int, bytes, bytes, bytes, bytes]


def signature(view: memoryview, field: Field) -> Signature | None:
    """Discipline and sections 1, 2 and 4 of a field of an edition 2 message, without what tells its run, lead time and
    member; None for product definition templates other than those above."""
    product = view[field.product.start : field.product.stop]
    times = TEMPLATES.get(int.from_bytes(product[7:9], "big"))
    if times is None:
        return None
    masked = bytearray(product)
    masked[FORECAST_TIME : FORECAST_TIME + 4] = bytes(4)
    if times.member is not None:
        masked[times.member] = 0
    if times.end is not None:
        masked[times.end : times.end + 7] = bytes(7)
    first = view[field.identification.start : field.identification.stop]
    local = view[field.local.start : field.local.stop] if field.local else b""
    return (view[6], bytes(first[5:12]), bytes(first[19:]), bytes(local), bytes(masked))


def of(single: Buffer) -> Signature | None:
    """The signature of a message of one field; None where it has none."""
    found = walk(single)
    return signature(memoryview(single), found.fields[0]) if found.fields else None


class Known[T]:
    """Something by signature, shared by all threads: of bounded size, emptied when it is full."""

    limit = LIMIT

    def __init__(self) -> None:
        self._known: dict[Signature, T] = {}

    def get(self, key: Signature) -> T | None:
        """What was put, if it was."""
        return self._known.get(key)

    def put(self, key: Signature, value: T) -> T:
        """Keep a value, and hand it back."""
        if len(self._known) >= self.limit:
            self._known.clear()
        self._known[key] = value
        return value
