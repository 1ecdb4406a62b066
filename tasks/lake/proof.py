"""Proof of a transfer, on the machine it went to: signatures, counts, sizes, and the bytes themselves."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cube_extract import Published
from .errors import LakeError, NotFound
from .meter import Meter
from .objects import Meta, Objects
from .shipment import CUBES, SHARED
from .signature import fingerprint_of, holds, public_key
from .transfer import digest_of, present
from .transfer_manifest import PUBLIC_KEY, SUMS, Count, Entry, Manifest, find, read, signature_name, sums

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_AT_ONCE = 8
_SHOWN = 20
_NOTHING = Count(0, 0)


@dataclass
class Proof:
    """What was found of one transfer. ``problems`` is empty when it is proven; ``read`` is what was read of it."""

    folder: str
    total: Count = _NOTHING
    read: Count = _NOTHING
    signed: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything is as it should be."""
        return not self.problems


def prove(
    target: Objects,
    recipe: str = "",
    scope: str = "",
    key: "Ed25519PublicKey | None" = None,
    sample: float = 1.0,
    meter: Meter | None = None,
    tell: Callable[[Proof], None] | None = None,
) -> list[Proof]:
    """Prove the transfers of a run, of a recipe, or all of them.

    With ``key``, each manifest must be signed by its owner; without, by that of the key beside it, which proves that
    nothing was damaged but not who sent it. ``sample`` is the share of the objects whose bytes are read (drawn anew
    each time); all are looked for, with their sizes. Raises ``NotFound`` when there is no transfer at all.
    """
    over, begun = find(target, recipe, scope)
    if scope:
        # The metadata of the cubes that the run is in, and what it shares with the others.
        over += [f for f in find(target, recipe)[0] if f.split("/")[2] in (CUBES, SHARED)]
    proofs = [Proof(f, problems=["the transfer was begun and is not over; start it again"]) for f in begun]
    for folder in over:
        proofs.append(_of(target, folder, key, sample, meter or Meter()))
        if tell is not None:
            tell(proofs[-1])
    return proofs


def _of(target: Objects, folder: str, key: "Ed25519PublicKey | None", sample: float, meter: Meter) -> Proof:
    proof = Proof(folder)
    try:
        manifest, data = read(target, folder)
    except LakeError as error:
        proof.problems.append(str(error))
        return proof
    proof.total = manifest.total
    _signature(target, folder, data, key, proof)
    _counts(target, folder, manifest, proof)
    there = present(target, [e.key for e in manifest.objects])
    whole = _sizes(manifest.objects, there, proof)
    _bytes(target, whole if sample >= 1 else _drawn(whole, sample), there, proof, meter)
    if f"/{CUBES}/" in folder:
        _cubes(target, manifest, proof)
    if len(proof.problems) > _SHOWN:
        more = len(proof.problems) - _SHOWN
        proof.problems[_SHOWN:] = [f"and {more} more"]
    return proof


def _signature(target: Objects, folder: str, data: bytes, key: "Ed25519PublicKey | None", proof: Proof) -> None:
    try:
        signature = target.get(f"{folder}/{signature_name(data)}")
    except NotFound:
        if key is not None:
            proof.problems.append("the manifest is not signed, or was changed after it was signed")
        elif any(m.key.endswith(".sig") for m in target.folder(folder)):
            proof.problems.append("the manifest was changed after it was signed")
        else:
            proof.signed = "not signed"
        return
    try:
        owner = key if key is not None else public_key(target.get(f"{folder}/{PUBLIC_KEY}"), f"{folder}/{PUBLIC_KEY}")
    except LakeError as error:
        proof.problems.append(str(error))
        return
    if holds(owner, signature, data):
        proof.signed = f"signed by {fingerprint_of(owner)}" + ("" if key is not None else " (the key beside it)")
    else:
        proof.problems.append(f"the signature of the manifest is not that of the key {fingerprint_of(owner)}")


def _counts(target: Objects, folder: str, manifest: Manifest, proof: Proof) -> None:
    if manifest.total != Count.of(manifest.objects):
        proof.problems.append("the counts of the manifest are not those of its objects")
    try:
        if target.get(f"{folder}/{SUMS}") != sums(manifest.objects):
            proof.problems.append(f"{SUMS} does not say what the manifest says")
    except NotFound:
        proof.problems.append(f"{SUMS} is missing")


def _sizes(entries: Sequence[Entry], there: dict[str, Meta], proof: Proof) -> list[Entry]:
    whole = []
    for entry in entries:
        meta = there.get(entry.key)
        if meta is None:
            proof.problems.append(f"{entry.key} is missing")
        elif meta.size != entry.bytes:
            proof.problems.append(f"{entry.key} has {meta.size} bytes, not {entry.bytes}")
        else:
            whole.append(entry)
    return whole


def _drawn(entries: list[Entry], share: float) -> list[Entry]:
    return random.sample(entries, min(len(entries), max(1, round(share * len(entries))))) if entries else []


def _bytes(target: Objects, entries: list[Entry], there: dict[str, Meta], proof: Proof, meter: Meter) -> None:
    meter.name = proof.folder
    meter.expect(len(entries), sum(e.bytes for e in entries))

    def look(entry: Entry) -> str | None:
        try:
            found = digest_of(target, there[entry.key])
        except LakeError as error:
            return str(error)
        meter.copied(entry.bytes)
        return None if found == entry.sha256 else f"{entry.key} is damaged: expected {entry.sha256}, found {found}"

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        proof.problems += [problem for problem in pool.map(look, entries) if problem is not None]
    proof.read = Count.of(entries)


def _cubes(target: Objects, manifest: Manifest, proof: Proof) -> None:
    """See that the cube opens, and that every chunk it refers to is there, whichever run it is of."""
    paths = {c.path for c in manifest.cubes if manifest.scope == f"{CUBES}/{c.zone}"}
    for path in sorted(paths):
        try:
            chunks = Published(target, path).chunks
        except LakeError as error:
            proof.problems.append(str(error))
            continue
        there = present(target, [f"{path}/chunks/{name}" for name in chunks])
        for name, size in sorted(chunks.items()):
            meta = there.get(f"{path}/chunks/{name}")
            if meta is None or meta.size != size:
                proof.problems.append(f"{path}/chunks/{name} is missing or not whole, and the cube refers to it")
