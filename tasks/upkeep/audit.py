"""The ledger held against the world: outputs are there, their bytes are what was recorded, sources did not change."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import xxhash

from ..forecasts.archive import Archive
from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import parse_run
from ..forecasts.stock import versions_now
from ..lake.errors import LakeError
from ..lake.ledger import Record, utcnow
from ..lake.objects import Meta
from ..lake.partition import RETIRED, SETTLE, Output, Status, digest_bytes
from ..lake.phase import Context
from ..lake.recipe import PHASES
from .chore import Chore, counted

SAMPLE = 64
"""Outputs whose bytes are read again in one audit; others another day."""

_LISTED = 20


def audit(context: Context[Any], *, sample: int = SAMPLE) -> Chore:
    """Look at everything that is on record as done. Reads only; a next run of the phase makes again what is missing."""
    records = {p: [r for r in context.ledger.read_all(p).values() if r.status is Status.DONE] for p in PHASES}
    rows, problems = [], []
    for phase, done in records.items():
        outputs = [o for r in done for o in r.outputs]
        gone = context.lake.missing(o.uri for o in outputs)
        read, changed = _sampled(context, outputs, gone, sample)
        problems += _listed(gone, f"of {phase} is on record and not there")
        problems += _listed(changed, f"of {phase} has other bytes than were recorded")
        rows.append((phase, len(done), len(outputs), len(gone), read, len(changed)))
    facts: dict[str, Any] = {"missing": sum(r[3] for r in rows), "changed": sum(r[5] for r in rows)}
    said = f"{counted(sum(r[2] for r in rows), 'output')} on record, {facts['missing']} missing, "
    said += f"{facts['changed']} of {sum(r[4] for r in rows)} read again have other bytes"
    if isinstance(context.recipe, ForecastRecipe):
        looked, republished = _sources(context, records["ingest"])
        problems += _listed(republished, "was changed by the provider since it was read; ingest makes its step stale")
        facts |= {"sources": looked, "republished": len(republished)}
        said += f"; {counted(looked, 'source object')} looked at, {len(republished)} changed"
    columns = ("phase", "done", "outputs", "missing", "read again", "changed")
    return Chore("audit", said, columns, tuple(rows), tuple(problems), facts)


def _listed(uris: Iterable[str], what: str) -> Iterator[str]:
    found = sorted(uris)
    yield from (f"{uri} {what}" for uri in found[:_LISTED])
    if len(found) > _LISTED:
        yield f"{len(found) - _LISTED} more {what}"


# -- digests -----------------------------------------------------------------------------------------------------


def _sampled(context: Context[Any], outputs: Sequence[Output], gone: set[str], sample: int) -> tuple[int, set[str]]:
    """How many outputs were read again, and which of them have another digest; another sample every day."""
    day = f"{utcnow():%Y-%m-%d}"
    able = {o.uri: o for o in outputs if o.uri not in gone and _can_be_read(o)}
    chosen = sorted(able, key=lambda uri: hashlib.sha256(f"{day} {uri}".encode()).digest())[:sample]

    def differs(uri: str) -> bool:
        return _digest(context, able[uri]) != able[uri].digest

    with ThreadPoolExecutor(4) as pool:
        return len(chosen), {u for u, wrong in zip(chosen, pool.map(differs, chosen), strict=True) if wrong}


def _can_be_read(output: Output) -> bool:
    if output.uri.startswith(RETIRED):
        return False
    if output.uri.startswith("cube:"):
        return output.digest.startswith("xxh3:")
    return ":" not in output.uri and output.digest.startswith("sha256:")


def _digest(context: Context[Any], output: Output) -> str:
    """Digest of an output as it is now: of an object's bytes, or of the values of a shard on ``main``."""
    try:
        if output.uri.startswith("cube:"):
            return _of_shard(context, output.uri)
        return digest_bytes(context.lake.objects.get(output.uri))
    except LakeError as error:
        return f"unreadable: {error}"


def _of_shard(context: Context[Any], uri: str) -> str:
    """Digest of the values of one shard: ``cube:<path>#<identity>/<variable>/c/<number>/...``."""
    path, _, place = uri.removeprefix("cube:").partition("#")
    name, _, numbers = place.partition("/")[2].partition("/c/")
    array = context.lake.cube(path).group()[name]
    edges = zip(map(int, numbers.split("/")), array.shards or array.chunks, strict=True)
    values = np.asarray(array[tuple(slice(n * edge, (n + 1) * edge) for n, edge in edges)])
    return f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values))}"


# -- sources -----------------------------------------------------------------------------------------------------


def _sources(context: Context[ForecastRecipe], records: Sequence[Record]) -> tuple[int, set[str]]:
    """How many source objects were looked at, and which have another etag or length than when they were read.

    What the provider has removed since, or does not answer for, is none of them.
    """
    archive = Archive(context)
    if archive.own:
        return 0, set()
    steps = [r for r in records if not r.partition.endswith(f"/{SETTLE}")]
    known = {i.uri: i.digest for r in steps for i in r.inputs}
    now = versions_now(archive, known)
    changed = {uri for uri, version in now.items() if known[uri] and version and version != known[uri]}
    lengths = [r for r in steps if any(i.uri in now for i in r.inputs)]
    return len(now), changed | _other_lengths(context, archive, lengths)


def _other_lengths(context: Context[ForecastRecipe], archive: Archive, records: Sequence[Record]) -> set[str]:
    """GRIB files whose length is not what ingest noted: a store that keeps an etag does not show it otherwise."""
    day = f"{utcnow():%Y-%m-%d}"
    some = sorted(records, key=lambda r: hashlib.sha256(f"{day} {r.partition}".encode()).digest())[:SAMPLE]
    wrong = set()
    for record in some:
        noted = next((o.uri for o in record.outputs if o.uri.endswith(".contents.json")), None)
        step = int(record.partition.rpartition("step-")[2])
        data = {f.url for f in archive.files(parse_run(record.partition.split("/", 1)[0]), step)}
        uris = [i.uri for i in record.inputs if any(i.uri.endswith(f"/{url}") for url in data)]
        try:
            size = int(orjson.loads(context.lake.objects.get(noted))["bytes"]) if noted else None
            metas = [_head(archive, uri) for uri in uris]
        except LakeError:
            continue
        if size is not None and metas and all(metas) and sum(m.size for m in metas if m) != size:
            wrong.update(uris)
    return wrong


def _head(archive: Archive, uri: str) -> Meta | None:
    store, key = archive.resolve(uri)
    return store.head(key)
