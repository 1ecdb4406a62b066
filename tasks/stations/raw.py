"""Raw answers in the lake: compressed, named by when they came and by their content, every version kept.

``raw/<recipe>/<request>/<span>/<fetched>-<digest>.json.zst``. The digest (of the JSON, SHA-256) is in the name, so a
file says itself whether it is what was received.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from ..lake.errors import CorruptInput
from ..lake.objects import Objects
from ..lake.partition import Output, digest_bytes

_TIME = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True, slots=True)
class Stored:
    """A raw answer: its key, when it came (UTC), and the first digits of its digest."""

    key: str
    fetched: datetime
    short: str


def key_of(folder: str, fetched: datetime, data: bytes) -> str:
    """Where an answer goes."""
    return f"{folder}/{fetched.astimezone(UTC):{_TIME}}-{digest_bytes(data)[7:19]}.json.zst"


def parse_key(key: str) -> Stored | None:
    """What the name of a raw answer says; None for another file."""
    name = key.rpartition("/")[2].removesuffix(".json.zst")
    when, dash, short = name.partition("-")
    try:
        return Stored(key, datetime.strptime(when, _TIME).replace(tzinfo=UTC), short) if dash else None
    except ValueError:
        return None


def store(objects: Objects, folder: str, data: bytes, fetched: datetime) -> Output:
    """Store an answer, compressed; its digest is that of the JSON."""
    key = key_of(folder, fetched, data)
    packed = pa.compress(data, codec="zstd", asbytes=True)
    objects.put(key, packed)
    return Output(key, digest_bytes(data), len(packed))


def load(objects: Objects, key: str, digest: str | None = None) -> bytes:
    """An answer as it was received. Raises ``CorruptInput`` when the file does not hold it any more."""
    packed = objects.get(key)
    advice = "delete it, and ingest fetches it again"
    try:
        data = pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read()
    except OSError as error:
        raise CorruptInput(f"{key} is no raw answer any more ({str(error).splitlines()[0]}); {advice}") from None
    found = digest_bytes(data)
    if digest is not None and found != digest:
        raise CorruptInput(f"{key} was changed since it was stored; {advice}", expected=digest[:19], found=found[:19])
    stored = parse_key(key)
    if stored is not None and not found.removeprefix("sha256:").startswith(stored.short):
        raise CorruptInput(
            f"{key} does not hold what its name says; {advice}", expected=stored.short, found=found[7:19]
        )
    return data


def versions(objects: Objects, folder: str) -> list[Stored]:
    """Every version in a folder, oldest first."""
    found = [parse_key(meta.key) for meta in objects.listing(folder)]
    return sorted((s for s in found if s is not None), key=lambda s: (s.fetched, s.key))
