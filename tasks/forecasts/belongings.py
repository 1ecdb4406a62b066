"""What belongs to a run in the lake, part by part: what an archive of it holds."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from ..lake.errors import Changed, UsageError
from ..lake.ledger import Record
from ..lake.partition import RETIRED, SETTLE, Input, Output, Status
from ..lake.phase import Context
from ..lake.reading import cube_path
from ..lake.shipment import CubePart, Shipment
from ..lake.transfer import Item, present
from .recipe import ForecastRecipe
from .runs import index_of, parse_run
from .validate import published

type Part = Literal["raw", "refined", "regridded", "exports"]
"""What of a run: copies of the provider's bytes with the manifests of its steps; the published fields with the verdict;
those on target grids; the files made of them."""

PARTS: tuple[Part, ...] = ("raw", "refined", "regridded", "exports")

_PHASES: Mapping[str, tuple[str, ...]] = {
    "raw": ("ingest",),
    "refined": ("refine", "validate"),
    "regridded": ("regrid",),
    "exports": ("export",),
}
"""The phases whose records say what a part consists of."""


def belongings(context: Context[ForecastRecipe], scope: str, what: Sequence[Part], but: str = "") -> Shipment:
    """What belongs to a published run. ``but`` is the partition of the export phase that asks, and is not in it.

    Raises ``UsageError`` when the run is not published or a part of it is not there.
    """
    published(context, scope)
    ledger, recipe = context.ledger, context.recipe
    items: dict[str, list[Item]] = {}
    for part in what:
        records: dict[str, Record] = {}
        outputs: list[Output] = []
        for phase in _PHASES[part]:
            found = _records(context, scope, phase, but)
            records |= {ledger.key(phase, key): record for key, record in found.items()}
            outputs += [o for record in found.values() for o in record.outputs]
        if not records and part != "exports":
            raise UsageError(f"run {scope} of {recipe.name} has nothing {_ADJECTIVE[part]} to archive")
        items[part] = _objects(context, outputs, records)
    cubes = {part: _cubes(context, scope, part) for part in what if part in ("refined", "regridded")}
    store = context.lake.objects
    templates = [Item(m.key, m.size, version=store.version(m)) for m in store.listing(f"templates/{recipe.name}")]
    return Shipment(store, recipe.name, scope, items, cubes, templates)


def inputs(context: Context[ForecastRecipe], scope: str, what: Sequence[Part], but: str = "") -> tuple[Input, ...]:
    """The results of a run that an archive of it depends on: it is sent again when one changes."""
    found: dict[str, str] = {}
    for part in what:
        for phase in _PHASES[part]:
            for key, record in _records(context, scope, phase, but).items():
                found |= {f"{key}:{o.uri.removeprefix(RETIRED)}": o.digest for o in record.outputs}
    return tuple(Input(uri, digest) for uri, digest in sorted(found.items()))


def age_of(scope: str, now: datetime | None = None) -> timedelta:
    """How old a run is."""
    return max(timedelta(0), (now or datetime.now(UTC)) - parse_run(scope))


def runs_a_month(recipe: ForecastRecipe) -> float:
    """How many runs a month of 30 days has."""
    return timedelta(days=30) / recipe.runs.interval


_OVER = (Status.DONE, Status.REJECTED)
_ADJECTIVE = {"raw": "ingested", "refined": "refined", "regridded": "regridded", "exports": "exported"}


def _records(context: Context[ForecastRecipe], scope: str, phase: str, but: str) -> dict[str, Record]:
    """What a phase has on record of a run. The settling of the exports is no part of them: it enters them into the
    catalogue of this lake, the archive among them."""
    leave = {but, f"{scope}/{SETTLE}"} if phase == "export" else {but}
    records = context.ledger.read_all(phase, scope)
    return {key: r for key, r in records.items() if r.status in _OVER and key not in leave}


def _objects(context: Context[ForecastRecipe], outputs: Iterable[Output], records: Mapping[str, Record]) -> list[Item]:
    """Outputs that are objects, and the records themselves. What was removed on purpose is not in it, and the chunks of
    cubes come with their cube; of forks, what is still in staging."""
    digests: dict[str, str | None] = {}
    forks: set[str] = set()
    for output in outputs:
        if output.uri.startswith("fork:"):
            forks.add(output.uri.removeprefix("fork:").partition("@")[0])
        elif not output.uri.startswith((RETIRED, "cube:")):
            digests[output.uri] = output.digest if output.digest.startswith("sha256:") else None
    digests |= dict.fromkeys([*forks, *records])
    there = present(context.lake.objects, list(digests))
    if gone := sorted(set(digests) - set(there) - forks):
        raise Changed(f"{gone[0]} is on record, and not in the lake")
    store = context.lake.objects
    return [Item(k, m.size, digests[k], store.version(m)) for k, m in sorted(there.items())]


def _cubes(context: Context[ForecastRecipe], scope: str, part: str) -> list[CubePart]:
    recipe = context.recipe
    index = index_of(recipe, parse_run(scope))
    if part == "refined":
        zones = ["refined"]
    else:
        record = context.ledger.read("regrid", f"{scope}/{SETTLE}")
        if record is None or record.status is not Status.DONE:
            raise UsageError(f"run {scope} of {recipe.name} is not regridded")
        zones = [] if record.held else [g.name for g in recipe.grids]
    return [
        CubePart(zone, cube_path(context.lake, recipe.name, zone), index, f"cubes/{recipe.name}/{zone}.json")
        for zone in zones
    ]
