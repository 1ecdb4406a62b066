"""The way back: a run from where it was archived into a lake, verified on the way like on the way there."""

from collections.abc import Sequence

from .cube_copy import place, refuse
from .cube_extract import Published
from .errors import CorruptInput, NotFound
from .lake import Lake
from .meter import Meter
from .objects import Objects
from .partition import RETIRED
from .receipts import Receipts
from .shipment import SHARED, CubePart, Shipment, refuse_same_place
from .transfer import Item, present, transfer
from .transfer_manifest import FOLDER, RECEIPTS, Count, Manifest, folder_of, read


def bring_back(archive: Objects, manifest: Manifest, lake: Lake, meter: Meter | None = None) -> Count:
    """Copy a run back; how much was written. Each object must be what the manifest says.

    Records of the ledger that the lake has stay, except those of outputs that were removed on purpose: they are there
    again. Raises ``CorruptInput`` for a damaged archive; the lake is left as it was but for whole objects.
    """
    refuse_same_place(lake.objects, archive)
    lake.prepare()
    items = [Item(e.key, e.bytes, f"sha256:{e.sha256}") for e in manifest.objects]
    items = _without_standing_records(lake, items)
    shared = _lacking(lake, _shared(archive, manifest.recipe))
    cubes = [CubePart(c.zone, c.path, c.index, f"cubes/{manifest.recipe}/{c.zone}.json") for c in manifest.cubes]
    receipts = Receipts(lake.objects, f"{FOLDER}/{manifest.recipe}/{manifest.scope}/back/{RECEIPTS}")
    shipment = Shipment(archive, manifest.recipe, manifest.scope, {}, {"cubes": cubes})
    lacking = [c for c in cubes if not _stands(lake, c, set(shipment.published[c.path].chunks_of(c.index)))]
    for cube in lacking:
        if cube.index not in shipment.published[cube.path].runs:
            raise CorruptInput(f"the archived cube {cube.path} does not hold {manifest.scope}")
        refuse(shipment.published[cube.path], lake.objects)
    # Records last: what is on record is there.
    first = [*shared, *(i for i in items if not i.key.startswith("ledger/"))]
    found = transfer(archive, lake.objects, first, receipts, meter)

    def copy(others: Sequence[Item]) -> None:
        transfer(archive, lake.objects, others, receipts, meter)

    for cube in lacking:
        place(shipment.published[cube.path], lake.objects, cube.index, copy)
        if lake.objects.head(cube.pointer) is None:
            lake.objects.put(cube.pointer, archive.get(cube.pointer))
    found += transfer(archive, lake.objects, [i for i in items if i.key.startswith("ledger/")], receipts, meter)
    receipts.forget()
    return Count(len(found), sum(r.bytes for r in found))


def _stands(lake: Lake, cube: CubePart, chunks: set[str]) -> bool:
    """Whether the lake's cube refers to the run's chunks already, and lacked nothing but them."""
    try:
        there = Published(lake.objects, cube.path)
    except NotFound:
        return False
    return cube.index in there.runs and set(there.chunks_of(cube.index)) == chunks


def _shared(archive: Objects, recipe: str) -> list[Item]:
    """What the runs of a recipe share."""
    try:
        manifest, _ = read(archive, folder_of(recipe, SHARED))
    except NotFound:
        return []
    return [Item(e.key, e.bytes, f"sha256:{e.sha256}") for e in manifest.objects]


def _lacking(lake: Lake, items: Sequence[Item]) -> list[Item]:
    there = present(lake.objects, [i.key for i in items])
    return [i for i in items if i.key not in there]


def _without_standing_records(lake: Lake, items: Sequence[Item]) -> list[Item]:
    records = [i.key for i in items if i.key.startswith("ledger/")]
    standing = list(present(lake.objects, records))
    texts = dict(zip(standing, lake.objects.get_many(standing), strict=True))
    keep = {key for key, (data, _) in texts.items() if f'"{RETIRED}'.encode() not in data}
    return [i for i in items if i.key not in keep]
