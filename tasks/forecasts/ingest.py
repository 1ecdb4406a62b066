"""Ingest of a forecast: the provider's index of every step becomes a manifest; bytes stay, or are copied."""

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..lake.errors import CorruptInput, LakeError, NotThereYet
from ..lake.ledger import Record
from ..lake.objects import Meta, Objects
from ..lake.partition import Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import manifest
from .archive import Archive
from .decode import verify
from .recipe import ForecastRecipe
from .runs import parse_run, scopes, steps_of
from .scan import scan_manifest
from .select import rows_of
from .sources.source import SourceFile

_COALESCE = 64 * 1024
_WINDOW = 64 * 2**20
_HEADS = 32


class Ingest(Phase[ForecastRecipe]):
    """Partition: run x step. Output: ``manifests/<recipe>/<run>/step-NNN.parquet`` (+ ``raw/...`` when copied)."""

    name = "ingest"
    version = "1"
    threads = 16
    batch_count = 32
    settles = False

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        run = parse_run(scope)
        archive = Archive(context)
        done = {k: r for k, r in context.ledger.read_all(self.name, scope).items() if r.status is Status.DONE}
        steps = steps_of(context.recipe, run)
        keys = {step: [_index_key(f) for f in archive.files(run, step)] for step in steps}
        with ThreadPoolExecutor(_HEADS) as pool:
            inputs = list(pool.map(lambda s: _inputs(archive, keys[s], done.get(_key(scope, s))), steps))
        partitions = tuple(
            Partition(_key(scope, step), fingerprint(self.version, _part(context.recipe), found), found, {"step": step})
            for step, found in zip(steps, inputs, strict=True)
        )
        return ScopePlan(scope, partitions)

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        """Generate the archive where the source does, and see that the provider answers and has begun the run.

        A look at two files tells a run that is not there, or a network that is down, before a hundred steps find out
        one by one. Raises ``NotThereYet``, ``Unreachable``.
        """
        archive, run = Archive(context), parse_run(scope)
        archive.make(run)
        steps = [int(str(p.params["step"])) for p in partitions]
        ends = [_index_key(archive.files(run, step)[0]) for step in dict.fromkeys((steps[0], steps[-1]))]
        if not any(_is_there(archive, key) for key in ends):
            raise NotThereYet(f"run {scope} of {context.recipe.name} is not there (yet): no {ends[0]}")

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, run, step = context.recipe, parse_run(partition.scope), int(str(partition.params["step"]))
        archive = Archive(context)
        tables, inputs = [], []
        for file in archive.files(run, step):
            table, seen = _read_index(archive, file, partition)
            tables.append(table)
            inputs.extend(seen)
        rows, missing = rows_of(pa.concat_tables(tables), recipe.select, step, recipe.select.members)
        if missing and recipe.incomplete == "refuse":
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            names = ", ".join(str(f) for f in missing[:3])
            raise CorruptInput(f"{partition.key}: the index lacks {names}{more}", partition=partition.key)
        outputs = []
        if recipe.transfer == "copy":
            rows, copies = _copy(context, archive, rows, partition)
            outputs += copies
        data = manifest.write(rows)
        key = f"manifests/{recipe.name}/{partition.key}.parquet"
        context.lake.objects.put(key, data)
        outputs.insert(0, Output(key, digest_bytes(data), len(data)))
        found = tuple(inputs)
        return Produced(
            outputs=tuple(outputs),
            inputs=found,
            fingerprint=fingerprint(self.version, _part(recipe), found),
            metrics={"fields": len(rows), "missing": len(missing), "bytes": int(np.sum(rows["length"].to_numpy()))},
        )


def _part(recipe: ForecastRecipe) -> dict[str, object]:
    select = recipe.part("select")["select"]
    matched = ("name", "param", "level_type", "levels", "window", "window_start", "not_at")
    variables = [{k: v[k] for k in matched} for v in select["variables"]]
    return recipe.part("source", "transfer", "incomplete") | {"variables": variables, "members": select["members"]}


def _is_there(archive: Archive, key: str) -> bool:
    try:
        archive.head(key)
    except NotThereYet:
        return False
    return True


def _key(scope: str, step: int) -> str:
    return f"{scope}/step-{step:03d}"


def _index_key(file: SourceFile) -> str:
    return file.index_url or file.url


def _inputs(archive: Archive, keys: list[str], record: Record | None) -> tuple[Input, ...]:
    """The index files of a step. Of a step that is done, with their etags now: a provider that republished
    makes it stale; one that is gone or silent does not."""
    if record is None:
        return tuple(Input(k) for k in keys)
    recorded = {i.uri: i.digest for i in record.inputs}
    found = []
    for key in keys:
        try:
            meta, store = archive.head(key)
            found.append(Input(key, store.version(meta)))
        except LakeError:
            found.append(Input(key, recorded.get(key)))
    return tuple(found)


def _read_index(archive: Archive, file: SourceFile, partition: Partition) -> tuple[pa.Table, list[Input]]:
    """One index as a table whose ``url``, ``etag`` and ``last_modified`` are those of the GRIB file.

    A file without an index is read and scanned.
    """
    run, step = parse_run(partition.scope), int(str(partition.params["step"]))
    if file.index_url is None:
        content, data, store = archive.read(file.url)
        table = scan_manifest(content, file.url, run=run, member=file.member)
        table = table.filter(pc.equal(table["lead_time"].cast(pa.int64()), step * 3600))
        return _of_file(table, archive, store, file, data), [Input(file.url, store.version(data))]
    index, meta, store = archive.read(file.index_url)
    data = store.head(file.url)
    if data is None:
        raise NotThereYet(f"{archive.url(store, file.url)} is not there, though its index is", partition=partition.key)
    table = archive.source.parse(file, run, index, data.size)
    ends = table["offset"].to_numpy() + table["length"].to_numpy()
    if len(ends) and ends.max() > data.size:
        raise CorruptInput(
            f"{partition.key}: index {file.index_url} disagrees with its file",
            partition=partition.key,
            expected=f"at least {ends.max()} bytes",
            found=f"{data.size} bytes",
        )
    return _of_file(table, archive, store, file, data), [Input(file.index_url, store.version(meta))]


def _of_file(table: pa.Table, archive: Archive, store: Objects, file: SourceFile, data: Meta) -> pa.Table:
    """The rows with what is known of the GRIB file they lie in."""
    values = {
        "url": archive.url(store, file.url),
        "etag": store.version(data),
        "last_modified": data.last_modified.replace(microsecond=0),
    }
    for name, value in values.items():
        table = manifest.with_column(table, name, [value] * len(table))
    return table.cast(manifest.SCHEMA)


def _copy(
    context: Context[ForecastRecipe], archive: Archive, rows: pa.Table, partition: Partition
) -> tuple[pa.Table, list[Output]]:
    """Copy the selected messages into the raw zone, a file a source file, and point the rows at the copies.

    Goes through a temporary file on disk in windows of 64 MiB, so that memory stays bounded.
    """
    url = np.array(rows["url"].to_pylist(), dtype=object)
    offset = rows["offset"].to_numpy().copy()
    length = rows["length"].to_numpy()
    etags = np.array(rows["etag"].to_pylist(), dtype=object)
    outputs: list[Output] = []
    for source in dict.fromkeys(url):
        here = np.flatnonzero(url == source)
        store, key = archive.resolve(source)
        target = f"raw/{context.recipe.name}/{partition.key}/{PurePosixPath(key).name}"
        with tempfile.TemporaryDirectory(prefix="weatherlake-") as folder:
            path = Path(folder) / "messages"
            new, digests, digest, size = _gather(store, key, offset[here], length[here], path)
            context.lake.objects.put(target, path)
        offset[here] = new
        url[here] = target
        # A message's own digest, not the copy's etag: copied again, or with other messages beside them, the same bytes
        # leave everything downstream alone.
        etags[here] = digests
        outputs.append(Output(target, digest, size))
    for name, values in (("url", url), ("offset", offset), ("etag", etags)):
        rows = manifest.with_column(rows, name, list(values))
    return rows, outputs


def _gather(
    store: Objects, key: str, offsets: np.ndarray, lengths: np.ndarray, path: Path
) -> tuple[np.ndarray, list[str], str, int]:
    """Write the distinct messages at these ranges one after the other.

    Returns each range's new offset and its message's digest, then the digest and size of the whole.
    """
    spans = sorted({(int(o), int(n)) for o, n in zip(offsets, lengths, strict=True)})
    places: dict[int, tuple[int, str]] = {}
    sha = hashlib.sha256()
    size = 0
    with open(path, "wb") as out:
        for group in _groups(spans):
            start, end = group[0][0], max(o + n for o, n in group)
            block = memoryview(store.get_range(key, start, end - start))
            for o, n in group:
                message = bytes(block[o - start : o - start + n])
                verify(message)
                places[o] = size, f"xxh3:{xxhash.xxh3_128_hexdigest(message)}"
                size += out.write(message)
                sha.update(message)
    found = [places[int(o)] for o in offsets]
    return np.array([f[0] for f in found]), [f[1] for f in found], f"sha256:{sha.hexdigest()}", size


def _groups(spans: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Byte ranges (sorted) joined to requests: over gaps of up to 64 KiB, up to 64 MiB each."""
    groups: list[list[tuple[int, int]]] = []
    for o, n in spans:
        if groups:
            first, (last, size) = groups[-1][0][0], groups[-1][-1]
            if o - (last + size) <= _COALESCE and o + n - first <= _WINDOW:
                groups[-1].append((o, n))
                continue
        groups.append([(o, n)])
    return groups
