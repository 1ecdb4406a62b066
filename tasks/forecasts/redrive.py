"""Redrive: quarantined cells are fetched again, from a mirror when there is one.

The new message lies in the quarantine, beside the old one, and stands in for it in the manifest that refine reads: its
partition becomes stale, and refine and validate do the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import xxhash

from ..checks.check import Cell
from ..lake.errors import LakeError, UsageError
from ..lake.objects import Objects
from ..lake.partition import digest_bytes
from ..lake.phase import Context
from ..lake.run_axis import FIELD_STATUS
from . import completeness, decode, manifest
from .archive import Archive
from .decoders import Decoders
from .quarantine import by_cell, folder, records
from .recipe import ForecastRecipe
from .redriven import Redriven, enter
from .release import verdict
from .runs import parse_run, steps_of
from .scan import scan_manifest
from .select import rows_of
from .sources.source import SourceFile


@dataclass(frozen=True, slots=True)
class Redrive:
    """What a redrive did: cells with another message now, and why the others have none."""

    done: tuple[Redriven, ...]
    left: Mapping[str, str]


def redrive(context: Context[ForecastRecipe], scope: str) -> Redrive:
    """Fetch the quarantined cells of a run again: from every mirror but the one the bytes came from, then from that.

    A message counts when it is sound, is the field its index says, and differs from the quarantined bytes. Raises
    ``UsageError`` when nothing of the run is in quarantine.
    """
    verdict(context, scope)
    bad = {f"{r['variable']}/{_cell_key(r)}": r for r in records(context, scope)}
    now = completeness.load(context, scope)
    wanted = {k: r for k, r in bad.items() if _is_out(context, now, r)}
    if not wanted:
        raise UsageError(f"run {scope} of {context.recipe.name} has no cell in quarantine")
    archive = Archive(context)
    done: dict[str, Redriven] = {}
    left = dict.fromkeys(wanted, "no source has the field")
    by_step: dict[int, list[str]] = {}
    for key, record in wanted.items():
        by_step.setdefault(record["lead_time"], []).append(key)
    for step, keys in sorted(by_step.items()):
        for store in _mirrors(archive, wanted[keys[0]]):
            open_keys = [k for k in keys if k not in done]
            if not open_keys:
                break
            try:
                rows = _index(context, archive, store, scope, step)
            except LakeError as error:
                left |= dict.fromkeys(open_keys, str(error))
                continue
            for key in open_keys:
                found = _again(context, store, scope, key, rows.get(key), wanted[key])
                if isinstance(found, Redriven):
                    done[key] = found
                    left.pop(key, None)
                else:
                    left[key] = found
    if done:
        enter(context, scope, done)
    return Redrive(tuple(done.values()), left)


def _is_out(context: Context[ForecastRecipe], now: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a cell that was quarantined once is out of the cube now, too."""
    variable = next((v for v in context.recipe.select.variables if v.name == record["variable"]), None)
    if variable is None or variable.name not in now:
        return False
    place = completeness.Places(context.recipe, variable).of(record["lead_time"], record["member"], record["level"])
    return int(now[variable.name][place]) in (FIELD_STATUS[s] for s in ("rejected", "corrupt", "failed"))


def _cell_key(record: Mapping[str, Any]) -> str:
    return Cell(record["lead_time"], record["member"], record["level"]).key


def _mirrors(archive: Archive, record: Mapping[str, Any]) -> list[Objects]:
    url = (record.get("source") or {}).get("url") or ""
    own = [m for m in archive.mirrors if url.startswith(m.url.split("?")[0].rstrip("/") + "/")]
    return [*(m for m in archive.mirrors if m not in own), *own]


def _index(
    context: Context[ForecastRecipe], archive: Archive, store: Objects, scope: str, step: int
) -> dict[str, dict[str, Any]]:
    """The fields of a step as one mirror has them, by cell; ``url`` is the key below the mirror."""
    recipe, run = context.recipe, parse_run(scope)
    if step not in steps_of(recipe, run):
        return {}
    tables = [_read(archive, store, file, run) for file in recipe.source.files(store.url, run, step)]
    rows, _ = rows_of(pa.concat_tables(tables), recipe.select, step, recipe.select.members)
    return by_cell(recipe, rows)


def _read(archive: Archive, store: Objects, file: SourceFile, run: datetime) -> pa.Table:
    if file.index_url is None:
        return scan_manifest(store.get(file.url), file.url, run=run, member=file.member)
    size = store.head(file.url)
    table = archive.source.parse(file, run, store.get(file.index_url), size.size if size else None)
    return manifest.with_column(table, "url", [file.url] * len(table))


def _again(
    context: Context[ForecastRecipe], store: Objects, scope: str, cell: str, row: dict[str, Any] | None,
    record: Mapping[str, Any],
) -> Redriven | str:  # fmt: skip
    """The message of a cell from a mirror, put into the quarantine; or why not."""
    place = f"{store.url.split('?')[0].rstrip('/')}"
    if row is None:
        return f"{place} has no such field"
    try:
        data = store.get_range(row["url"], row["offset"], row["length"])
        decode.verify(data)
        # It was refused once: whatever it does to a decoder, it does to a child.
        header, _ = Decoders(isolated=True, checked=None).read(data, row["sub"])
    except LakeError as error:
        return f"{place}: {error}"
    if digest_bytes(data) == record["digest"]:
        return f"{place} has the same bytes"
    if header.init_time != parse_run(scope) or header.end_step != record["lead_time"]:
        return f"{place} has another run or step there"
    key = f"{folder(context.recipe.name, scope)}/{cell}.redriven.grib2"
    context.lake.objects.put(key, data)
    digest = f"xxh3:{xxhash.xxh3_128_hexdigest(data)}"
    return Redriven(cell, f"{place}/{row['url']}", key, len(data), row["sub"], digest)
