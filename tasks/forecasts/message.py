"""The outside of a GRIB message: where it ends, where its sections lie, which fields it holds.

Plain byte reading, without ecCodes: fast enough to walk a file of thousands of messages, and safe in
threads, which ecCodes' own support for several fields in a message (a process-wide switch) is not.
Layouts: WMO Manual on Codes, Volume I.2, FM 92 GRIB editions 1 and 2.
"""

import mmap
import struct
from typing import NamedTuple

from ..lake.errors import CorruptInput, LakeError

type Buffer = bytes | bytearray | memoryview | mmap.mmap
"""Where messages are read from."""

START = b"GRIB"
END = b"7777"
SECTIONS = (1, 2, 3, 4, 5, 6, 7)
_HEAD = struct.Struct(">IB")
_LONG = struct.Struct(">Q")
_MOST_BITS = 32


class Undecodable(LakeError):
    """A whole message that a decoder has no way to decode: an unknown packing, or rows of differing length."""


class Span(NamedTuple):
    """Bytes of one section, relative to the start of the message."""

    start: int
    stop: int


class Field(NamedTuple):
    """Sections of one field of a GRIB2 message; ``local`` (section 2) is None where there is none."""

    identification: Span
    local: Span | None
    grid: Span
    product: Span
    representation: Span
    bitmap: Span
    data: Span


class Message(NamedTuple):
    """A whole message: its edition, its length in bytes and, for edition 2, its fields in order."""

    edition: int
    length: int
    fields: tuple[Field, ...]

    @property
    def sub_count(self) -> int:
        """Number of fields: one for edition 1."""
        return len(self.fields) or 1


def walk(data: Buffer, offset: int = 0) -> Message:
    """Follow the sections of the message that starts at ``offset`` of ``data``.

    Raises `CorruptInput`, which names ``offset`` and what is wrong: no ``GRIB`` at the start, an unknown
    edition, a length beyond the end of ``data`` (truncated), sections that do not add up, no ``7777``.
    """
    room = len(data) - offset
    if bytes(data[offset : offset + 4]) != START:
        raise CorruptInput(
            _at(offset, "does not start with GRIB"), expected=START, found=bytes(data[offset : offset + 4])
        )
    if room < 8:
        raise CorruptInput(_at(offset, "is truncated"), expected="at least 8 bytes", found=f"{room} bytes")
    edition = data[offset + 7]
    if edition == 1:
        return _walk_first(data, offset, room)
    if edition == 2:
        return _walk_second(data, offset, room)
    raise CorruptInput(_at(offset, "has an unknown GRIB edition"), expected="1 or 2", found=edition)


def verify(message: Buffer) -> Message:
    """Check the outside of exactly one message: ``GRIB``, edition, lengths of all sections, ``7777``.

    Returns what `walk` found. Raises `CorruptInput` that names what is wrong.
    """
    found = walk(message, 0)
    if found.length != len(message):
        raise CorruptInput(
            "the byte range does not end with the message",
            expected=f"{found.length} bytes",
            found=f"{len(message)} bytes",
        )
    return found


def cut(message: Buffer, sub: int = 0) -> Buffer:
    """Field number ``sub`` (from 0) of a message as a message of its own.

    A message of one field comes back as it is, uncopied. A bitmap that refers to the one before
    (indicator 254) is replaced by that one. Raises `CorruptInput` for a broken message or a field that
    is not there.
    """
    found = verify(message)
    if not 0 <= sub < found.sub_count:
        raise CorruptInput(
            "the field is not in its message", expected=f"a number below {found.sub_count}", found=f"field {sub}"
        )
    if found.sub_count == 1:
        return message
    field = found.fields[sub]
    bitmap = field.bitmap
    if message[bitmap.start + 5] == 254:
        earlier = [f.bitmap for f in found.fields[:sub] if message[f.bitmap.start + 5] not in (254, 255)]
        if not earlier:
            raise CorruptInput(f"field {sub} refers to the bitmap of an earlier field, and no earlier field has one")
        bitmap = earlier[-1]
    spans = (field.identification, field.local, field.grid, field.product, field.representation, bitmap, field.data)
    view = memoryview(message)
    body = b"".join(view[s.start : s.stop] for s in spans if s)
    return bytes(view[:8]) + _LONG.pack(16 + len(body) + 4) + body + END


def template(single: Buffer) -> int | None:
    """Number of the data representation template (5.x) of a message of one field; None for edition 1."""
    if single[7] != 2:
        return None
    at = walk(single).fields[0].representation.start
    return int.from_bytes(single[at + 9 : at + 11], "big")


def plausible(single: Buffer) -> bool:
    """Whether the counts of bits in the data representation section of a message of one field can be.

    With groups (complex packing) that are wider than a number, ecCodes ends the whole process by an assertion.
    """
    if single[7] != 2:
        return True
    field = walk(single).fields[0]
    section = bytes(single[field.representation.start : field.representation.stop])
    number = int.from_bytes(section[9:11], "big")
    if number not in (2, 3) or len(section) < 47:
        return True
    # Bits of group references, least width of a group, bits of group widths and of group lengths; octets less one.
    wide = any(section[at] > _MOST_BITS for at in (19, 35, 36, 46))
    groups, points = int.from_bytes(section[31:35], "big"), int.from_bytes(section[5:9], "big")
    return not wide and groups <= points


def without_data(start: bytes) -> bytes | None:
    """A message's header as a message of its own, from the first bytes of a message: its data section is empty.

    Grid, names, units, times and packing read from it as from the whole; values cannot be had. None where the bytes end
    before the header does (a large bitmap), and for edition 1, whose header comes with the data's length.
    Raises `CorruptInput` for bytes that are no message.
    """
    if start[:4] != START:
        raise CorruptInput(_at(0, "does not start with GRIB"), expected=START, found=start[:4])
    if len(start) < 16 or start[7] != 2:
        return None
    at = 16
    while at + 5 <= len(start):
        size, number = _HEAD.unpack_from(start, at)
        if number not in SECTIONS or size < 5:
            raise CorruptInput(_at(0, f"has an unknown section at its byte {at}"), expected="1 to 7", found=number)
        if number == 7:
            body = start[16:at] + _HEAD.pack(5, 7)
            return start[:8] + _LONG.pack(16 + len(body) + 4) + body + END
        at += size
    return None


def _at(offset: int, what: str) -> str:
    return f"the GRIB message at byte {offset} {what}"


def _check_length(data: Buffer, offset: int, length: int, room: int) -> None:
    if length > room:
        raise CorruptInput(_at(offset, "is truncated"), expected=f"{length} bytes", found=f"{room} bytes")
    tail = bytes(data[offset + length - 4 : offset + length])
    if tail != END:
        raise CorruptInput(_at(offset, "does not end with 7777"), expected=END, found=tail)


def _walk_second(data: Buffer, offset: int, room: int) -> Message:
    if room < 16:
        raise CorruptInput(_at(offset, "is truncated"), expected="at least 16 bytes", found=f"{room} bytes")
    length = _LONG.unpack_from(data, offset + 8)[0]
    if length < 20:
        raise CorruptInput(
            _at(offset, "is shorter than its frame"), expected="at least 20 bytes", found=f"{length} bytes"
        )
    _check_length(data, offset, length, room)
    last = length - 4
    at = 16
    previous = 0
    seen: list[Span | None] = [None] * 8
    fields: list[Field] = []
    unpack = _HEAD.unpack_from
    while at < last:
        if last - at < 5:
            raise CorruptInput(
                _at(offset, f"has sections that do not add up: {last - at} bytes remain after section {previous}")
            )
        size, number = unpack(data, offset + at)
        if number not in SECTIONS:
            raise CorruptInput(_at(offset, f"has an unknown section at its byte {at}"), expected="1 to 7", found=number)
        if size < 5 or at + size > last:
            raise CorruptInput(
                _at(offset, f"has a section {number} that does not fit"),
                expected=f"5 to {last - at} bytes",
                found=f"{size} bytes",
            )
        # A field ends with section 7; the next may begin with section 2, 3 or 4 and inherits the rest.
        if number <= previous and not (previous == 7 and number in (2, 3, 4)):
            raise CorruptInput(_at(offset, f"has section {number} after section {previous}"))
        seen[number] = Span(at, at + size)
        if number == 7:
            for needed in (1, 3, 4, 5, 6):
                if seen[needed] is None:
                    raise CorruptInput(_at(offset, f"lacks section {needed}"))
            fields.append(Field._make(seen[1:]))
            seen[4] = seen[5] = seen[6] = None
        previous = number
        at += size
    if previous != 7:
        raise CorruptInput(
            _at(offset, "does not end with a data section"), expected="section 7", found=f"section {previous}"
        )
    return Message(2, length, tuple(fields))


def _walk_first(data: Buffer, offset: int, room: int) -> Message:
    """Edition 1: sections 0 (8 bytes), 1, 2 and 3 when flagged, 4, and ``7777``."""

    def size(at: int) -> int:
        return int.from_bytes(data[offset + at : offset + at + 3], "big")

    length = size(4)
    if not length & 0x800000:
        _check_length(data, offset, length, room)
    elif room < 16:
        raise CorruptInput(_at(offset, "is truncated"), expected="at least 16 bytes", found=f"{room} bytes")
    flags = data[offset + 15]
    at = 8
    for number, present in ((1, True), (2, bool(flags & 0x80)), (3, bool(flags & 0x40))):
        if not present:
            continue
        step = size(at)
        if step < 6 or at + step > room:
            raise CorruptInput(
                _at(offset, f"has a section {number} that does not fit"),
                expected="within the message",
                found=f"{step} bytes",
            )
        at += step
    data_size = size(at)
    if length & 0x800000:
        # ECMWF's way past 8 MiB, as ecCodes reads it (grib_io.c): the length counts 120-byte blocks, and
        # section 4 says by how much the last block is too long.
        if data_size >= 120:
            _check_length(data, offset, length, room)
        else:
            length = (length & 0x7FFFFF) * 120 - data_size + 4
            data_size = length - 4 - at
            _check_length(data, offset, length, room)
    if at + data_size + 4 != length:
        raise CorruptInput(
            _at(offset, "has sections that do not add up"),
            expected=f"{length} bytes",
            found=f"{at + data_size + 4} bytes",
        )
    return Message(1, length, ())
