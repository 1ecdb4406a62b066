"""Ingest of a forecast: the provider's index of every step becomes a manifest; bytes stay, or are copied."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..lake.errors import CorruptInput, LakeError, NotThereYet, UsageError
from ..lake.ledger import Record
from ..lake.objects import Meta
from ..lake.partition import SETTLE, Input, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import contents, drift, manifest, mirrors
from .archive import Archive
from .copying import copy
from .recipe import ForecastRecipe
from .runs import parse_run, scopes, steps_of
from .scan import scan_manifest
from .select import Field, rows_of
from .sources.source import SourceFile
from .stock import Found, take_stock, versions_now

_AHEAD = 16
_FILES = 8
"""Files of a step that are read at once: a provider may have one a member."""

_ENOUGH = 5
_IMPLAUSIBLE = 0.1
"""A file that has less than this share of the bytes of the run's median step is still being written, or broken."""


class Ingest(Phase[ForecastRecipe]):
    """Partition: run x step. Output: ``manifests/<recipe>/<run>/step-NNN.parquet``, what the step holds beside it
    (``.contents.json``), and ``raw/...`` when copied. Settling: the template, drift, virtual references."""

    name = "ingest"
    version = "2"
    threads = 4
    batch_count = 32

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe, run, archive = context.recipe, parse_run(scope), Archive(context)
        records = context.ledger.read_all(self.name, scope)
        done = {k: r for k, r in records.items() if r.status is Status.DONE and k != f"{scope}/{SETTLE}"}
        now = versions_now(archive, [i.uri for r in done.values() for i in r.inputs])
        steps = steps_of(recipe, run)
        files = {step: archive.files(run, step) for step in steps}
        stock = _stock(context, archive, [f for s in steps if _key(scope, s) not in done for f in files[s]])
        lacks = {s: _lacks(files[s], stock) for s in steps if _key(scope, s) not in done and not archive.own}
        late = [s for s, what in lacks.items() if what]
        notes = []
        if late:
            notes.append(_late(late, steps, lacks[late[0]]))
            if recipe.runs.partial and late[0] != steps[0]:
                steps = tuple(s for s in steps if s < late[0] or _key(scope, s) in done)
        partitions = []
        for step in steps:
            key = _key(scope, step)
            params: dict[str, object] = {"step": step}
            if key in done:
                # With the versions of today: a provider that republished makes the step stale.
                inputs = tuple(Input(i.uri, now.get(i.uri, i.digest)) for i in done[key].inputs)
            else:
                inputs = tuple(i for f in files[step] for i in _inputs(archive, f, stock.get(f)))
            if lacks.get(step):
                params["lacks"] = lacks[step]
            if all(f in stock for f in files[step]):
                params["files"] = [_as_json(archive, stock[f]) for f in files[step]]
            partitions.append(Partition(key, fingerprint(self.version, _part(recipe), inputs), inputs, params))
        return ScopePlan(scope, tuple(partitions), tuple(notes))

    def awaited(self, context: Context[ForecastRecipe], scope: str) -> str | None:
        """What the provider still lacks of a run, in a sentence; None when it is complete."""
        try:
            plan = self.plan(context, scope)
        except LakeError as error:
            if isinstance(error, UsageError):
                raise
            return str(error)
        return plan.notes[0] if plan.notes else None

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        """Generate the archive where the source does; otherwise see that the run is there, every file of it.

        Raises ``NotThereYet``, before any work, for a run that is not complete - or, when the recipe takes partial
        runs, not even begun - and ``CorruptInput`` for files too small to be true.
        """
        Archive(context).make(parse_run(scope))
        late = [p for p in partitions if p.params.get("lacks")]
        if late:
            steps = [int(str(p.params["step"])) for p in partitions]
            lacks = str(late[0].params["lacks"])
            if len(late) == len(partitions):
                raise NotThereYet(f"run {scope} of {context.recipe.name} is not there (yet): {lacks}")
            what = _late([int(str(p.params["step"])) for p in late], steps, lacks)
            raise NotThereYet(f"run {scope} of {context.recipe.name} is not complete (yet): {what}")
        _refuse_implausible(partitions)

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, run, step = context.recipe, parse_run(partition.scope), int(str(partition.params["step"]))
        archive = Archive(context)
        files = archive.files(run, step)
        known = [_from_json(k) for k in partition.params.get("files", ())] or [None] * len(files)  # type: ignore[attr-defined]
        with ThreadPoolExecutor(min(_FILES, len(files))) as pool:
            read = list(pool.map(lambda f, k: _read(archive, f, partition, k), files, known))
        index = pa.concat_tables([r[0] for r in read])
        rows, missing = rows_of(index, recipe.select, step, recipe.select.members)
        if missing and recipe.incomplete == "refuse":
            raise CorruptInput(_incomplete(partition, recipe, run, missing), partition=partition.key)
        outputs = []
        if recipe.transfer == "copy":
            rows, copies = copy(context, archive, rows, partition)
            outputs += copies
        held = contents.step_contents(index, sum(r[2] for r in read)).as_json()
        for name, data in (("contents.json", orjson.dumps(held)), ("parquet", manifest.write(rows))):
            key = f"manifests/{recipe.name}/{partition.key}.{name}"
            outputs.insert(0, context.lake.write(key, data))
        found = tuple(i for r in read for i in r[1])
        return Produced(
            outputs=tuple(outputs),
            inputs=found,
            fingerprint=fingerprint(self.version, _part(recipe), found),
            metrics={"fields": len(rows), "missing": len(missing), "bytes": int(np.sum(rows["length"].to_numpy()))},
        )

    def settle_part(self, context: Context[ForecastRecipe]) -> object:
        units = [v.units for v in context.recipe.select.variables]
        return context.recipe.part("drift", "references") | {"units": units}

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Learn the template from the first run, hold later ones against it, and make the virtual references."""
        recipe, run, archive = context.recipe, parse_run(scope), Archive(context)
        outputs, changes, held = drift.settle(context, scope, records)
        if recipe.references and not held:
            from . import references

            manifests = read_manifests(context, manifest_keys(records.values()))
            outputs += references.write(context, scope, manifests, recipe.references)
        if not archive.own:
            mirrors.observe(context, archive, run, archive.files(run, steps_of(recipe, run)[-1])[0])
        metrics: dict[str, float | int | str] = {"drift": len(changes)}
        if changes:
            metrics["note"] = drift.sentence(recipe, scope, changes)
        return Produced(outputs=tuple(outputs), metrics=metrics, held=held)


def manifest_keys(records: Iterable[Record]) -> list[str]:
    """Where the manifests of ingested steps lie, by step."""
    by_step = sorted(records, key=lambda r: r.partition)
    return [o.uri for r in by_step for o in r.outputs if o.uri.endswith(".parquet")]


def read_manifests(context: Context[ForecastRecipe], keys: Sequence[str]) -> Iterator[pa.Table]:
    """Manifests one after the other, a few read ahead."""
    for start in range(0, len(keys), _AHEAD):
        some = keys[start : start + _AHEAD]
        for key, (data, _) in zip(some, context.lake.objects.get_many(some), strict=True):
            yield manifest.read(data, key)


def _part(recipe: ForecastRecipe) -> dict[str, object]:
    select = recipe.part("select")["select"]
    matched = ("name", "param", "level_type", "levels", "window", "window_start", "not_at")
    variables = [{k: v[k] for k in matched} for v in select["variables"]]
    return recipe.part("source", "transfer", "incomplete") | {"variables": variables, "members": select["members"]}


def _key(scope: str, step: int) -> str:
    return f"{scope}/step-{step:03d}"


# -- preflight ---------------------------------------------------------------------------------------------------


def _stock(context: Context[ForecastRecipe], archive: Archive, files: list[SourceFile]) -> dict[SourceFile, Found]:
    if archive.own or not files:
        return {}
    return take_stock(archive, files, mirrors.preferred(mirrors.read(context, archive)))


def _lacks(files: Sequence[SourceFile], stock: Mapping[SourceFile, Found]) -> str | None:
    return next((what for f in files if (what := stock[f].lacks(f))), None)


def _late(late: Sequence[int], steps: Sequence[int], lacks: str | None) -> str:
    there = len(steps) - len(late)
    return f"{there} of {len(steps)} steps are there, the first that is not is +{late[0]} h ({lacks})"


def _refuse_implausible(partitions: Sequence[Partition]) -> None:
    """Refuse files much smaller than those at the same place of the run's other steps; analyses may well hold less."""
    known: list[tuple[Partition, list[Any]]] = [
        (p, list(p.params["files"]))  # type: ignore[call-overload]
        for p in partitions
        if p.params.get("files") and int(str(p.params["step"])) > 0
    ]
    if len(known) < _ENOUGH:
        return
    for files in zip(*(rows for _, rows in known), strict=False):
        sizes = [_from_json(row).size for row in files]
        median = float(np.median(sizes))
        for (partition, _), size in zip(known, sizes, strict=True):
            if size < _IMPLAUSIBLE * median:
                raise CorruptInput(
                    f"{partition.key}: the provider's file is too small to be true, so nothing was ingested",
                    partition=partition.key, expected=f"about {median:.0f} bytes", found=f"{size} bytes",
                )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found out of a file before the work began, small enough to travel with the partition."""

    mirror: int
    index: str | None
    size: int
    version: str | None
    modified: datetime


def _as_json(archive: Archive, found: Found) -> list[object] | None:
    if found.data is None:
        return None
    store = archive.mirrors[found.mirror]
    index = store.version(found.index) if found.index else None
    data = found.data
    return [found.mirror, index, data.size, store.version(data), data.last_modified.timestamp()]


def _from_json(row: list[Any]) -> _Known:
    return _Known(row[0], row[1], row[2], row[3], datetime.fromtimestamp(row[4], UTC))


def _inputs(archive: Archive, file: SourceFile, found: Found | None) -> list[Input]:
    """The objects a file is read from, with their versions as far as they are known: the index, then the GRIB."""
    if found is None:
        return [Input(archive.url(archive.mirrors[0], key)) for key in (file.index_url, file.url) if key is not None]
    store = archive.mirrors[found.mirror]
    pairs = [(file.index_url, found.index), (file.url, found.data)]
    return [Input(archive.url(store, k), store.version(m) if m else None) for k, m in pairs if k is not None]


# -- reading -----------------------------------------------------------------------------------------------------


def _read(
    archive: Archive, file: SourceFile, partition: Partition, known: _Known | None
) -> tuple[pa.Table, list[Input], int]:
    """One index as a table whose ``url``, ``etag`` and ``last_modified`` are those of the GRIB file, what was
    read, and the size of the GRIB file. A file without an index is read and scanned."""
    run, step = parse_run(partition.scope), int(str(partition.params["step"]))
    first = known.mirror if known else 0
    if file.index_url is None:
        content, data, mirror = archive.read(file.url, first)
        store = archive.mirrors[mirror]
        table = scan_manifest(content, file.url, run=run, member=file.member)
        table = table.filter(pc.equal(table["lead_time"].cast(pa.int64()), step * 3600))
        facts = _Known(mirror, None, data.size, store.version(data), data.last_modified)
        return _of_file(table, archive, file, facts), [Input(archive.url(store, file.url), facts.version)], data.size
    index, meta, mirror = archive.read(file.index_url, first)
    store = archive.mirrors[mirror]
    version = store.version(meta)
    if known is None or known.mirror != mirror or known.index != version:
        # Another mirror than the plan looked at, or another index: then its file is looked at, too.
        known = _Known(mirror, version, *_head(archive, mirror, file, partition))
    table = archive.source.parse(file, run, index, known.size)
    ends = table["offset"].to_numpy() + table["length"].to_numpy()
    if len(ends) and ends.max() > known.size:
        raise CorruptInput(
            f"{partition.key}: index {file.index_url} disagrees with its file",
            partition=partition.key,
            expected=f"at least {ends.max()} bytes",
            found=f"{known.size} bytes",
        )
    inputs = [Input(archive.url(store, file.index_url), version), Input(archive.url(store, file.url), known.version)]
    return _of_file(table, archive, file, known), inputs, known.size


def _head(archive: Archive, mirror: int, file: SourceFile, partition: Partition) -> tuple[int, str | None, datetime]:
    store = archive.mirrors[mirror]
    data: Meta | None = store.head(file.url)
    if data is None:
        raise NotThereYet(f"{archive.url(store, file.url)} is not there, though its index is", partition=partition.key)
    return data.size, store.version(data), data.last_modified


def _of_file(table: pa.Table, archive: Archive, file: SourceFile, known: _Known) -> pa.Table:
    """The rows with what is known of the GRIB file they lie in."""
    values = {
        "url": archive.url(archive.mirrors[known.mirror], file.url),
        "etag": known.version,
        "last_modified": known.modified.replace(microsecond=0),
    }
    for name, value in values.items():
        table = manifest.with_constant(table, name, value)
    return table.cast(manifest.SCHEMA)


def _incomplete(partition: Partition, recipe: ForecastRecipe, run: datetime, missing: Sequence[Field]) -> str:
    """What the index lacks, in a sentence; with the reason where the run's era does not have it."""
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    names = ", ".join(str(f) for f in missing[:3])
    of = {v.name: v for v in recipe.select.variables}
    reasons = {recipe.source.not_yet(run, of[f.variable].param, f.level) for f in missing}
    why = "".join(f"; {reason}" for reason in sorted(r for r in reasons if r))
    return f"{partition.key}: the index lacks {names}{more}{why}"
