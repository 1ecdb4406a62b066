"""Quarantine: bad cells kept apart with their bytes, the reason and where they came from, and taken out of the cube.

``quarantine/<recipe>/<run>/<variable>/<cell>.json`` says why and whence, ``<cell>.grib2`` beside it holds the bytes of
the provider. What refine could not read lies there too; ``damaged/<partition>.json`` lists it for validation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..checks.check import Cell
from ..checks.verdict import Spot
from ..lake.cubes import Cube
from ..lake.errors import AccessError, CorruptInput, LakeError, NotFound
from ..lake.ledger import Record, code_version
from ..lake.partition import Output, digest_bytes
from ..lake.phase import Context
from .archive import Archive
from .recipe import ForecastRecipe

_INDENT = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
_WRITERS = 16


@dataclass(frozen=True, slots=True)
class Damage:
    """A field that refine could not read: its place, its status (corrupt, failed) and why."""

    variable: str
    lead_time: int
    member: int | None
    level: float | None
    status: str
    reason: str

    @property
    def cell(self) -> Cell:
        """Its place within the variable."""
        return Cell(self.lead_time, self.member, self.level)


@dataclass(frozen=True, slots=True)
class Masked:
    """A partition's shard without its bad cells: the fork that holds it and the digest of its values."""

    fork: bytes
    digest: str


def folder(recipe: str, scope: str) -> str:
    """Where the quarantine of a run lies in the lake."""
    return f"quarantine/{recipe}/{scope}"


def cell_of(recipe: ForecastRecipe, row: Mapping[str, Any]) -> Cell:
    """The cell of the cube that a row of a manifest is: member and level only where the cube has them."""
    lead: timedelta = row["lead_time"]
    layered = any(v.name == row["variable"] and len(v.levels) > 1 for v in recipe.select.variables)
    member = row["member"] if recipe.select.members is not None else None
    return Cell(int(lead.total_seconds() // 3600), member, row["level"] if layered else None)


def keep(
    context: Context[ForecastRecipe], scope: str, variable: str, cell: Cell, row: Mapping[str, Any] | None,
    data: bytes | None, status: str, check: str, reason: str,
) -> str:  # fmt: skip
    """Put a bad cell into the quarantine; the key of its record. The same cell again replaces what is there.

    ``row`` is its row of the manifest, ``data`` the bytes of its message; None where there is none.
    """
    objects = context.lake.objects
    base = f"{folder(context.recipe.name, scope)}/{variable}/{cell.key}"
    source = {k: row[k] for k in ("url", "offset", "length", "sub", "etag")} if row is not None else None
    record = {
        "recipe": context.recipe.name, "run": scope, "variable": variable, **asdict(cell), "status": status,
        "check": check, "reason": reason, "source": source, "bytes": f"{base}.grib2" if data is not None else None,
        "digest": digest_bytes(data) if data is not None else None, "code_version": code_version(),
    }  # fmt: skip
    if data is not None:
        objects.put(f"{base}.grib2", data)
    objects.put(f"{base}.json", orjson.dumps(record, option=_INDENT))
    return f"{base}.json"


def keep_all(
    context: Context[ForecastRecipe], scope: str, rows: pa.Table, spots: Sequence[Spot], *, with_bytes: bool
) -> list[Output]:
    """Put the cells that a verdict takes out into the quarantine, with the provider's bytes where they can be had.

    Without ``with_bytes`` (of a run that is rejected as a whole, whose cells may be very many) only the records.
    """
    archive = Archive(context)
    found = by_cell(context.recipe, rows) if spots else {}

    def one(spot: Spot) -> Output:
        row = found.get(spot.key)
        data = message(archive, row) if row is not None and with_bytes else None
        key = keep(context, scope, spot.variable, spot.cell, row, data, "rejected", spot.check, spot.reason)
        content = context.lake.objects.get(key)
        return Output(key, digest_bytes(content), len(content))

    with ThreadPoolExecutor(_WRITERS) as pool:
        return list(pool.map(one, spots))


def by_cell(recipe: ForecastRecipe, rows: pa.Table) -> dict[str, dict[str, Any]]:
    """Rows of a manifest by the key of their cell: ``tp/024-m01``."""
    return {f"{row['variable']}/{cell_of(recipe, row).key}": row for row in rows.to_pylist()}


def message(archive: Archive, row: Mapping[str, Any]) -> bytes | None:
    """The bytes of a message as they are at their place now; None when they are not to be had any more."""
    try:
        store, key = archive.resolve(row["url"])
        return store.get_range(key, row["offset"], row["length"])
    except (NotFound, AccessError, CorruptInput):
        return None


def records(context: Context[ForecastRecipe], scope: str) -> Iterator[dict[str, Any]]:
    """What the quarantine of a run holds, a record a cell."""
    objects = context.lake.objects
    base = folder(context.recipe.name, scope)
    keys = [m.key for m in objects.listing(base) if m.key.endswith(".json") and m.key.count("/") == base.count("/") + 2]
    for data, _ in objects.get_many([k for k in keys if "/damaged/" not in k]):
        yield orjson.loads(data)


def verify_digest(data: bytes, etag: str | None, where: str) -> None:
    """Hold the bytes of a copied message against the digest in its manifest. Raises ``CorruptInput``."""
    if etag is not None and etag.startswith("xxh3:"):
        found = f"xxh3:{xxhash.xxh3_128_hexdigest(data)}"
        if found != etag:
            raise CorruptInput(f"the message at {where} is not what was copied", expected=etag, found=found)


# -- what refine could not read --------------------------------------------------------------------------------


class Collector:
    """Collects what refine cannot read where the recipe says to go on (``checks.damaged: quarantine``)."""

    def __init__(self, context: Context[ForecastRecipe], scope: str) -> None:
        self._context = context
        self._scope = scope
        self.found: list[Damage] = []

    def guarded(self, row: Mapping[str, Any], fetch: Callable[[], bytes], use: Callable[[bytes], None]) -> bool:
        """Fetch and use a message; False, and on record, when it is not there or cannot be read.

        Raises whatever happens where the recipe refuses damage, and what may pass (the network) in any case.
        """
        data: bytes | None = None
        try:
            data = fetch()
            use(data)
        except (CorruptInput, NotFound) as error:
            return self._note(row, data, error)
        except ValueError as error:
            # A field of another shape than the recipe's grid: the message is sound, and the wrong one.
            return self._note(row, data, CorruptInput(f"the message is on another grid: {error}"))
        except LakeError as error:
            # An unknown packing is damage too; a store that does not answer is none.
            if error.error_class != "permanent" or isinstance(error, AccessError):
                raise
            return self._note(row, data, error)
        return True

    def _note(self, row: Mapping[str, Any], data: bytes | None, error: LakeError) -> bool:
        if self._context.recipe.checks.damaged == "refuse":
            raise error
        cell = cell_of(self._context.recipe, row)
        variable = row["variable"]
        status = "failed" if data is None else "corrupt"
        keep(self._context, self._scope, variable, cell, row, data, status, "message", str(error))
        self.found.append(Damage(variable, cell.lead_time, cell.member, cell.level, status, str(error)))
        return False

    def outputs(self, partition: str) -> tuple[Output, ...]:
        """The list of what was found, as an output of the partition; nothing when all was well."""
        if not self.found:
            return ()
        ordered = sorted(self.found, key=lambda d: d.cell.key)
        data = orjson.dumps([asdict(d) for d in ordered], option=_INDENT)
        base = folder(self._context.recipe.name, self._scope)
        key = f"{base}/damaged/{partition.split('/', 1)[1]}.json"
        return (self._context.lake.write(key, data),)


def damaged(context: Context[ForecastRecipe], refined: Mapping[str, Record]) -> list[Damage]:
    """What refine could not read of a run, by its records."""
    keys = [o.uri for r in refined.values() for o in r.outputs if "/damaged/" in o.uri]
    return [Damage(**d) for data, _ in context.lake.objects.get_many(keys) for d in orjson.loads(data)]


# -- taken out of the cube ------------------------------------------------------------------------------------


def mask(
    cube: Cube, scope: str, index: int, refined: Mapping[str, Record], spots: Sequence[Spot], places: Mapping[str, Any]
) -> dict[str, Masked]:
    """Write the shards that hold bad cells once more, without them; by refine partition, one at a time.

    ``places``: variable -> `completeness.Places`. Read from the run's branch, which keeps all values.
    """
    by_partition: dict[str, list[Spot]] = {}
    for spot in spots:
        by_partition.setdefault(_partition(scope, spot, refined), []).append(spot)
    return {key: _without(cube, scope, index, key, here, places) for key, here in by_partition.items()}


def _partition(scope: str, spot: Spot, refined: Mapping[str, Record]) -> str:
    """The refine partition that wrote a cell: its variable, member and level, as far as the key says them."""
    base = f"{scope}/{spot.variable}"
    member = "" if spot.member is None else f"-m{spot.member:02d}"
    level = "" if spot.level is None else f"-l{spot.level:g}"
    for key in (f"{base}{member}{level}", f"{base}{member}", f"{base}{level}", base):
        if key in refined:
            return key
    raise LakeError(f"no partition of refine wrote {spot.key} of run {scope}")


def _without(cube: Cube, scope: str, index: int, key: str, spots: Sequence[Spot], places: Mapping[str, Any]) -> Masked:
    first = spots[0]
    array = cube.group(f"run/{scope}")[first.variable]
    dims = list(array.metadata.dimension_names[1:])
    # The partition's part of the array: all lead times of its member and, where it says so, of its level.
    where: list[Any] = [index] + [slice(None)] * len(dims)
    at = places[first.variable]
    _, member, level = at.of(first.lead_time, first.member, first.level)
    fixed_level = "level" in dims and first.level is not None and key.endswith(f"-l{first.level:g}")
    if "member" in dims:
        where[1 + dims.index("member")] = member
    if fixed_level:
        where[1 + dims.index("level")] = level
    values = np.asarray(array[tuple(where)])
    for spot in spots:
        time, _, number = at.of(spot.lead_time, spot.member, spot.level)
        values[(time, number) if "level" in dims and not fixed_level else (time,)] = np.nan
    with cube.fork(scope) as fork:
        fork.group[first.variable][tuple(where)] = values
    return Masked(fork.data, f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values))}")


def rows_of(rows: pa.Table, variable: str) -> pa.Table:
    """The rows of a manifest that are of one variable."""
    return rows.filter(pc.equal(rows["variable"].cast(pa.string()), variable))
