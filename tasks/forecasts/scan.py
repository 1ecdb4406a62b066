"""What a GRIB file without an index holds: its messages, and a table of its fields as an index would give.

Section walk instead of decoding: ecCodes names a parameter once, and every further message that differs
from it only in date, forecast time and member number is read straight from its bytes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ..lake.errors import CorruptInput
from .decode import header
from .manifest import SCHEMA
from .message import Buffer, Field, Message, walk
from .product import FORECAST_TIME, TEMPLATES, Known, signature

_START = re.compile(rb"GRIB")

UNIT_SECONDS = {0: 60, 1: 3600, 2: 86400, 10: 10800, 11: 21600, 12: 43200, 13: 1}
"""Code table 4.4 (WMO FM 92 GRIB edition 2), indicator of unit of time range, where it is a fixed time."""

LEVELS_FROM_ZERO = frozenset(
    {
        "isobaricInhPa", "isobaricInPa", "heightAboveGround", "heightAboveGroundLayer", "heightAboveSea",
        "heightAboveSeaLayer", "depthBelowLand", "depthBelowLandLayer", "depthBelowSea", "depthBelowSeaLayer",
        "hybrid", "hybridLayer", "hybridHeight", "sigma", "sigmaLayer", "eta", "theta", "potentialVorticity",
        "generalVertical", "generalVerticalLayer", "soilLayer", "snowLayer", "isothermal",
    }
)  # fmt: skip
"""typeOfLevel for which a level of 0 is a value; for any other, ecCodes gives 0 where there is none."""


class Place(NamedTuple):
    """Where one message lies in its file (bytes), and how many fields it holds."""

    offset: int
    length: int
    sub_count: int


_UNIT = 17


@dataclass(frozen=True, slots=True)
class _Name:
    """What two messages of the same product have in common; ``window`` is in seconds."""

    param: str
    level_type: str
    level: float | None
    step_type: str
    window: int
    has_member: bool


@dataclass(frozen=True, slots=True)
class _Row:
    name: _Name
    member: int | None
    init_time: datetime
    end: int


def scan(data: Buffer) -> list[Place]:
    """All messages of a GRIB file (editions 1 and 2), in order; bytes between messages are skipped.

    Raises `CorruptInput`, which names the byte, for a message that is truncated or broken.
    """
    return [Place(offset, message.length, message.sub_count) for offset, message in _messages(data)]


def scan_manifest(data: Buffer, url: str, *, run: datetime | None = None, member: int | None = None) -> pa.Table:
    """A GRIB file as a table in `manifest.SCHEMA`, a row per field in file order, as if it had an index.

    ``param`` is ecCodes' shortName, ``level_type`` its typeOfLevel, ``window`` its stepType; ``etag`` and
    ``last_modified`` are null. ``member`` replaces null members (a source with a file a member).
    Raises `CorruptInput` for a file without messages, a broken one, or one of another initialisation time
    than ``run`` (UTC).
    """
    rows: list[_Row] = []
    places: list[tuple[int, int, int]] = []
    for offset, message in _messages(data):
        view = memoryview(data)[offset : offset + message.length]
        for sub in range(message.sub_count):
            row = _row(view, message, sub)
            if run is not None and row.init_time != run:
                raise CorruptInput(
                    f"the message at byte {offset} belongs to another run",
                    expected=f"{run:%Y-%m-%dT%H:%M}",
                    found=f"{row.init_time:%Y-%m-%dT%H:%M}",
                )
            rows.append(row)
            places.append((offset, message.length, sub))
    if not rows:
        raise CorruptInput("the file holds no GRIB message", expected="at least one", found=f"{len(data)} bytes")
    return _table(rows, np.array(places, np.int64), url, member)


def _messages(data: Buffer) -> Iterator[tuple[int, Message]]:
    at = 0
    while found := _START.search(data, at):
        offset = found.start()
        # Four letters in the bytes between messages are no message: there is an edition in the eighth byte.
        if offset + 8 <= len(data) and data[offset + 7] not in (1, 2):
            at = offset + 4
            continue
        message = walk(data, offset)
        yield offset, message
        at = offset + message.length


def _row(view: memoryview, message: Message, sub: int) -> _Row:
    quick = _quick(view, message.fields[sub], sub) if message.edition == 2 else None
    if quick is not None:
        return quick
    found = header(view, sub)
    return _Row(_named(view, sub), found.member, found.init_time, round(found.end_step * 3600))


def _quick(view: memoryview, field: Field, sub: int) -> _Row | None:
    """A row from the bytes of sections 1 and 4, or None where the template or a unit is not a common one."""
    product = view[field.product.start : field.product.stop]
    unit = UNIT_SECONDS.get(product[_UNIT])
    forecast = int.from_bytes(product[FORECAST_TIME : FORECAST_TIME + 4], "big")
    key = signature(view, field)
    if key is None or unit is None or forecast >= 1 << 31:
        return None
    name = _names.get(key)
    if name is None:
        name = _names.put(key, _named(view, sub))
    first = view[field.identification.start : field.identification.stop]
    try:
        init_time = datetime(int.from_bytes(first[12:14], "big"), *first[14:19], tzinfo=UTC)
    except ValueError:
        raise CorruptInput(
            "the message has no valid reference time", expected="a date", found=first[12:19].hex()
        ) from None
    at = TEMPLATES[int.from_bytes(product[7:9], "big")].member
    member = product[at] if name.has_member and at is not None else None
    return _Row(name, member, init_time, forecast * unit + name.window)


_names: Known[_Name] = Known()


def _named(view: memoryview, sub: int) -> _Name:
    found = header(view, sub)
    level = None if found.level == 0 and found.type_of_level not in LEVELS_FROM_ZERO else found.level
    return _Name(
        found.short_name,
        found.type_of_level,
        level,
        found.step_type,
        round((found.end_step - found.start_step) * 3600),
        found.member is not None,
    )


def _table(rows: list[_Row], places: np.ndarray, url: str, member: int | None) -> pa.Table:
    windows = np.array([r.name.window for r in rows], np.int64)
    ends = np.array([r.end for r in rows], np.int64)
    instant = np.array([r.name.step_type == "instant" for r in rows])
    columns = {
        "param": [r.name.param for r in rows],
        "level_type": [r.name.level_type for r in rows],
        "level": [r.name.level for r in rows],
        "member": [member if r.member is None else r.member for r in rows],
        "lead_time": ends,
        "window": [r.name.step_type for r in rows],
        "window_start": pa.array(ends - windows, mask=instant),
        "url": [url] * len(rows),
        "offset": places[:, 0],
        "length": places[:, 1],
        "sub": places[:, 2],
        "etag": [None] * len(rows),
        "last_modified": [None] * len(rows),
    }
    return pa.table([_column(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)


def _column(values: object, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.DictionaryType):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return (values if isinstance(values, pa.Array) else pa.array(values)).cast(kind)
