"""Shipments: all that belongs to one run, sent to another store under the same keys, with a signed manifest.

The target is laid out as a lake, so it opens as one. Content goes first, then the cubes (`cube_copy`), then the
manifest of the run: what has no manifest was not sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from .cube_copy import chunk_items, place, refuse
from .cube_extract import REPO, Published
from .errors import ConflictError, UsageError
from .lake import FORMAT, MARKER
from .ledger import code_version, utcnow
from .meter import Meter
from .objects import LARGE, Objects
from .partition import digest_bytes
from .receipts import Receipt, Receipts
from .signature import Signer
from .transfer import Item, transfer
from .transfer_manifest import RECEIPTS, Count, CubeEntry, Entry, Manifest, folder_of, write

CUBES = "cubes"
"""Below the folder of a recipe's transfers: manifests of the metadata of its cubes, which all runs share."""

SHARED = "shared"
"""The same for objects that all runs of a recipe share and that may change, such as templates."""

_TRIES = 20


@dataclass(frozen=True, slots=True)
class CubePart:
    """The run's part of a cube: zone and path of the cube, the run's place along init_time, and the key of the small
    object that names the cube as that of its zone."""

    zone: str
    path: str
    index: int
    pointer: str


@dataclass(frozen=True)
class Shipment:
    """What belongs to a run. ``items`` are its objects by part (raw, refined ...), without those of cubes; ``shared``
    what it needs of its recipe."""

    source: Objects
    recipe: str
    scope: str
    items: Mapping[str, Sequence[Item]]
    cubes: Mapping[str, Sequence[CubePart]] = field(default_factory=dict)
    shared: Sequence[Item] = ()

    @cached_property
    def published(self) -> dict[str, Published]:
        """The cubes as they are now, by path."""
        return {c.path: Published(self.source, c.path) for parts in self.cubes.values() for c in parts}

    @cached_property
    def parts(self) -> dict[str, list[Item]]:
        """Every object of the run by part, those of cubes with it."""
        found = {name: list(items) for name, items in self.items.items()}
        for name, cubes in self.cubes.items():
            for cube in cubes:
                chunks = self.published[cube.path].chunks_of(cube.index)
                found.setdefault(name, []).extend(chunk_items(cube.path, chunks))
        return found

    @property
    def total(self) -> Count:
        """How many objects and bytes it is."""
        sizes = [i.bytes for items in self.parts.values() for i in items]
        return Count(len(sizes), sum(sizes))


def refuse_same_place(source: Objects, target: Objects) -> None:
    """Raise ``UsageError`` for a target that is, or lies in, the source, or the other way round."""
    one, two = source.location, target.location
    if target.location.scheme not in ("file", "s3"):
        raise UsageError(f"{target.url} cannot be written to: a target is a folder or s3://")
    if (one.scheme, one.bucket, one.option("endpoint")) != (two.scheme, two.bucket, two.option("endpoint")):
        return
    a, b = f"{one.prefix}/".lstrip("/"), f"{two.prefix}/".lstrip("/")
    if a.startswith(b) or b.startswith(a):
        raise UsageError(f"{target.url.split('?')[0]} and the lake lie in one another: name another place")


def ship(
    shipment: Shipment,
    target: Objects,
    signer: Signer | None = None,
    storage_class: str | None = None,
    meter: Meter | None = None,
) -> tuple[Manifest, dict[str, bytes], dict[str, int]]:
    """Send a run; its manifest, the manifest's files by name, and how many objects came how.

    ``storage_class`` is for large objects; small ones and the metadata of cubes cost more in the colder classes than
    in STANDARD, and must be at hand. Goes on where it was killed. Raises ``Changed`` when the source was changed
    meanwhile (a retry takes it as it is then), and what `transfer.transfer` raises.
    """
    refuse_same_place(shipment.source, target)
    for cube in shipment.published.values():
        refuse(cube, target)
    folder = folder_of(shipment.recipe, shipment.scope)
    receipts = Receipts(target, f"{folder}/{RECEIPTS}")
    also: dict[str, Receipt] = {}

    at_hand = {f"{path}/chunks/{name}" for path, cube in shipment.published.items() for name in cube.shared}

    def copy(items: Sequence[Item]) -> list[Receipt]:
        classed = [i if i.key in at_hand else _classed(i, storage_class) for i in items]
        return transfer(shipment.source, target, classed, receipts, meter)

    def copy_others(items: Sequence[Item]) -> None:
        also.update((r.key, r) for r in copy(items))

    flat = {i.key: i for items in shipment.parts.values() for i in items}
    came = {r.key: r for r in copy(list(flat.values()))}
    for cubes in shipment.cubes.values():
        for cube in cubes:
            place(shipment.published[cube.path], target, cube.index, copy_others)
            target.put(cube.pointer, shipment.source.get(cube.pointer))
            _state(shipment, target, cube, signer)
    if shipment.shared:
        entries = tuple(Entry(r.key, r.bytes, r.sha256) for r in copy(shipment.shared))
        write(target, _manifest(shipment, SHARED, (SHARED,), entries, {SHARED: Count.of(entries)}), signer)
    if target.head(MARKER) is None:
        target.put(MARKER, FORMAT)
    came |= also
    sent = {key: Entry(key, r.bytes, r.sha256) for key, r in sorted(came.items())}
    parts = {n: Count.of(sent[i.key] for i in items) for n, items in shipment.parts.items()}
    if also:
        parts["other runs, published anew"] = Count.of(sent[k] for k in also)
    manifest = _manifest(shipment, shipment.scope, tuple(shipment.parts), tuple(sent.values()), parts)
    files = write(target, manifest, signer)
    receipts.forget()
    ways: dict[str, int] = {}
    for receipt in came.values():
        ways[receipt.how] = ways.get(receipt.how, 0) + 1
    return manifest, files, ways


def _classed(item: Item, storage_class: str | None) -> Item:
    cold = item.key.startswith(("raw/", "exports/")) or "/chunks/" in item.key
    return replace(item, storage_class=storage_class) if cold and item.bytes >= LARGE else item


def _manifest(
    shipment: Shipment, scope: str, what: tuple[str, ...], entries: tuple[Entry, ...], parts: Mapping[str, Count]
) -> Manifest:
    return Manifest(
        recipe=shipment.recipe,
        scope=scope,
        what=what,
        source=shipment.source.url.split("?")[0],
        made=f"{utcnow():%Y-%m-%dT%H:%M:%SZ}",
        version=code_version(),
        total=Count.of(entries),
        parts=parts,
        objects=entries,
        cubes=tuple(
            CubeEntry(c.zone, c.path, c.index, shipment.published[c.path].snapshot)
            for cubes in shipment.cubes.values()
            for c in cubes
        ),
    )


def _state(shipment: Shipment, target: Objects, cube: CubePart, signer: Signer | None) -> None:
    """Write the manifest of a cube's metadata as it is at the target: whoever changed it last writes it last."""
    repo = f"{cube.path}/{REPO}"
    for _ in range(_TRIES):
        before = target.head(repo)
        names = sorted(Published(target, cube.path).metadata)
        keys = [cube.pointer, *(f"{cube.path}/{name}" for name in names)]
        found = target.get_many(keys)
        entries = tuple(
            Entry(k, len(data), digest_bytes(data).removeprefix("sha256:"))
            for k, (data, _) in zip(keys, found, strict=True)
        )
        scope = f"{CUBES}/{cube.zone}"
        write(target, _manifest(shipment, scope, ("metadata",), entries, {"metadata": Count.of(entries)}), signer)
        if before is not None and (now := target.head(repo)) is not None and now.etag == before.etag:
            return
    raise ConflictError(f"cube {cube.path} kept changing at {target.url.split('?')[0]}")
