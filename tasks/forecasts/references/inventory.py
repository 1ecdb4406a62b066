"""What the provider's indexes say of one member of a run: every field, whatever a recipe selects of it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa

from ...lake.errors import CorruptInput, LakeError, NotThereYet
from .. import decode
from ..archive import Archive
from ..runs import run_id
from ..sources.source import SourceFile
from .layout import SourceObject
from .places import places

_SIDE_BY_SIDE = 32


class FieldKey(NamedTuple):
    """A field of one member: step (h), param and level type as the index has them, level (None without)."""

    step: int
    param: str
    level_type: str
    level: float | None

    def __str__(self) -> str:
        level = "" if self.level is None else f" {self.level:g}"
        return f"{self.param} at {self.level_type}{level}, step {self.step}"


type Place = tuple[str, int, int]
"""URL as fsspec takes it, offset and length in bytes."""


@dataclass(frozen=True)
class Inventory:
    """The fields of a member and where they lie.

    ``steps`` are those whose index was read; ``lacking`` says of the others why not. ``ambiguous`` are fields that the
    index has more than once, told apart by what a reference file does not name (their window, their place in a
    message).
    """

    fields: Mapping[FieldKey, Place]
    origins: Mapping[str, str]
    steps: tuple[int, ...]
    lacking: Mapping[int, str] = field(default_factory=dict)
    ambiguous: frozenset[FieldKey] = frozenset()

    @cached_property
    def products(self) -> tuple[tuple[str, str], ...]:
        """Param and level type of every field, in order of the alphabet."""
        return tuple(sorted({(key.param, key.level_type) for key in self.fields}))

    @cached_property
    def _levels(self) -> dict[tuple[str, str], tuple[float | None, ...]]:
        found: dict[tuple[str, str], set[float | None]] = {}
        for key in self.fields:
            found.setdefault((key.param, key.level_type), set()).add(key.level)
        down = {words: words[1] == "isobaricInhPa" for words in found}
        return {
            words: tuple(sorted(levels, key=lambda v: (v is None, v or 0.0), reverse=down[words]))
            for words, levels in found.items()
        }

    def levels(self, param: str, level_type: str) -> tuple[float | None, ...]:
        """Levels of a product: pressure from the ground up, others as they rise."""
        return self._levels[param, level_type]

    def any_of(self, param: str, level_type: str) -> FieldKey:
        """The last field of a product."""
        return max((k for k in self.fields if k[1:3] == (param, level_type)), key=lambda k: k.step)

    def message(self, archive: Archive, key: FieldKey) -> bytes:
        """The message of a field. Raises ``CorruptInput`` when the index disagrees with the file."""
        url, offset, length = self.fields[key]
        store, place = archive.resolve(self.origins[url])
        message = store.get_range(place, offset, length)
        decode.verify(message)
        return message


def read_inventory(archive: Archive, run: datetime, member: int | None) -> Inventory:
    """Read the index of every step of a run.

    A step whose index is not there or broken is named in ``lacking``. Raises ``NotThereYet`` when no step has a field
    of this member.
    """
    steps = archive.source.steps(run)

    def one(step: int) -> list[tuple[FieldKey, str, int, int, int]] | str:
        try:
            return [row for file in archive.files(run, step) for row in _rows(archive, file, run, member)]
        except LakeError as error:
            return str(error)

    fields: dict[FieldKey, Place] = {}
    ambiguous: set[FieldKey] = set()
    lacking: dict[int, str] = {}
    origins: dict[str, str] = {}
    urls: dict[str, str] = {}
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        for step, rows in zip(steps, pool.map(one, steps), strict=True):
            if isinstance(rows, str) or not rows:
                lacking[step] = rows if isinstance(rows, str) else "its index has no field of this member"
                continue
            for url in dict.fromkeys(row[1] for row in rows):
                urls[url] = places(archive, [SourceObject(url, None, None)])[0].url
                origins[urls[url]] = url
            for key, url, offset, length, sub in rows:
                if key in fields or sub:
                    ambiguous.add(key)
                else:
                    fields[key] = (urls[url], offset, length)
    if not fields:
        reason = next(iter(lacking.values()), "there are no steps")
        raise NotThereYet(f"the provider's indexes of run {run_id(run)} have no field of member {member} ({reason})")
    done = tuple(step for step in steps if step not in lacking)
    return Inventory(fields, origins, done, lacking, frozenset(ambiguous))


def _rows(
    archive: Archive, file: SourceFile, run: datetime, member: int | None
) -> list[tuple[FieldKey, str, int, int, int]]:
    if file.member is not None and member is not None and file.member != member:
        return []
    if file.index_url is None:
        raise CorruptInput(f"{file.url} has no index; references are repaired from one")
    index, _, mirror = archive.read(file.index_url)
    store = archive.mirrors[mirror]
    data = store.head(file.url)
    if data is None:
        raise NotThereYet(f"{file.url} is not there, though its index is")
    table: pa.Table = archive.source.parse(file, run, index, data.size)
    url = archive.url(store, file.url)
    names = ("param", "level_type", "level", "member", "offset", "length", "sub")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return [
        (FieldKey(file.step, param, level_type, level), url, offset, length, sub)
        for param, level_type, level, of, offset, length, sub in rows
        if of == member or member is None
    ]
