"""Forks in staging: which of them ``main`` holds as they were written, and what becomes of those."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..forecasts.recipe import ForecastRecipe
from ..forecasts.runs import index_of, parse_run
from ..lake.cube_upkeep import Pin
from ..lake.errors import NotFound
from ..lake.ledger import Record, utcnow
from ..lake.partition import SETTLE, Status
from ..lake.phase import Context
from ..lake.retention import Fate
from ..lake.storage_class import move
from .chore import Chore, counted

_WRITING = ("refine", "regrid")
_PUBLISHER = {"refine": "validate", "regrid": "regrid"}
"""Phase that writes forks -> the phase whose settling publishes them."""

_SKEW = timedelta(minutes=5)
"""By how much clocks of machines and stores may differ."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A fork on record: who wrote it, where it lies, in which cube, and whether ``main`` holds it as it is."""

    phase: str
    partition: str
    uri: str
    published: bool

    @property
    def scope(self) -> str:
        """The run."""
        return self.partition.split("/", 1)[0]

    @property
    def key(self) -> str:
        """Where the fork lies in the lake."""
        return self.uri.removeprefix("fork:").partition("@")[0]

    @property
    def cube(self) -> str:
        """Path of the cube."""
        return self.uri.partition("@")[2].partition("#")[0]


def staged(context: Context[ForecastRecipe], scope: str = "") -> list[Staged]:
    """Every fork that a record names, of one run when given; without those that were removed."""
    found = []
    for phase in _WRITING:
        settled = _settled(context, _PUBLISHER[phase], scope)
        for key, record in context.ledger.read_all(phase, scope).items():
            forks = [o.uri for o in record.outputs if o.uri.startswith("fork:")]
            found += [Staged(phase, key, uri, _is_published(phase, record, uri, settled)) for uri in forks]
    return found


def _settled(context: Context[ForecastRecipe], phase: str, scope: str) -> dict[str, Record]:
    records = context.ledger.read_all(phase, scope).items()
    done = {k: r for k, r in records if k.endswith(f"/{SETTLE}") and r.status is Status.DONE and not r.held}
    return {k.removesuffix(f"/{SETTLE}"): r for k, r in done.items()}


def _is_published(phase: str, record: Record, uri: str, settled: Mapping[str, Record]) -> bool:
    """Whether ``main`` holds what a fork wrote, unchanged: not masked by validation, not written again since."""
    over = settled.get(record.partition.split("/", 1)[0])
    if over is None or record.status is not Status.DONE:
        return False
    cube = uri.partition("@")[2]
    digest = next(o.digest for o in record.outputs if o.uri == uri)
    if phase == "refine":
        shard = f"cube:{cube}/{record.metrics.get('shard')}"
        return any(o.uri == shard and o.digest == digest for o in over.outputs)
    # What regrid publishes is made of many shards; its settling names the forks that it was made from.
    on_main = any(o.uri.startswith(f"cube:{cube}/") for o in over.outputs)
    return on_main and any(i.uri == f"{record.partition}:{uri}" and i.digest == digest for i in over.inputs)


def pins(context: Context[ForecastRecipe]) -> dict[str, list[Pin]]:
    """Path of each cube -> the forks that may become part of its ``main`` one day."""
    wanted = [s for s in staged(context) if not s.published]
    found: dict[str, list[Pin]] = {}
    for one, data in _contents(context, wanted):
        found.setdefault(one.cube, []).append(Pin(index_of(context.recipe, parse_run(one.scope)), data))
    return found


def _contents(context: Context[ForecastRecipe], wanted: list[Staged]) -> Iterator[tuple[Staged, bytes]]:
    def read(one: Staged) -> bytes | None:
        try:
            return context.lake.objects.get(one.key)
        except NotFound:
            return None

    with ThreadPoolExecutor(16) as pool:
        for one, data in zip(wanted, pool.map(read, wanted), strict=True):
            if data is not None:
                yield one, data


def horizon(context: Context[ForecastRecipe], grace: timedelta) -> datetime:
    """The time (UTC) before which nothing was begun that is still under way, and at least ``grace`` ago."""
    now = utcnow()
    begun = [
        record.started - _SKEW
        for phase in (*_WRITING, "validate")
        for record in context.ledger.read_all(phase).values()
        if record.status is Status.RUNNING
    ]
    return min([now - grace, *begun])


def clear(context: Context[ForecastRecipe], fate: Fate, *, dry_run: bool) -> Chore:
    """Delete the forks that are published as they were written, or move them to a storage class of S3.

    The ledger is told first. Forks of runs that are held, and of partitions of which validation masked cells, stay:
    a person may release them. What is made anew of a run without its forks starts from ``main``, which holds them.
    """
    by_run: dict[str, list[Staged]] = {}
    for one in staged(context):
        if one.published and fate != "keep":
            by_run.setdefault(one.scope, []).append(one)
    size = {m.key: m.size for m in context.lake.objects.listing(f"staging/{context.recipe.name}")} if by_run else {}
    rows = []
    for scope, forks in sorted(by_run.items()):
        if not dry_run:
            _clear(context, forks, fate)
        rows.append((scope, len(forks), sum(size.get(f.key, 0) for f in forks)))
    count = sum(row[1] for row in rows)
    done = "deleted" if fate == "delete" else f"moved to {fate}"
    said = f"{counted(count, 'published fork')} {'would be ' if dry_run else ''}{done}"
    if fate == "keep":
        said = "staging is kept, as the recipe says"
    return Chore("staging", said, ("run", "forks", "bytes"), tuple(rows), facts={"forks": count})


def _clear(context: Context[ForecastRecipe], forks: list[Staged], fate: Fate) -> None:
    if fate == "delete":
        for one in forks:
            context.ledger.retire(one.phase, one.partition, {one.uri})

    def away(one: Staged) -> None:
        if fate == "delete":
            context.lake.objects.delete(one.key)
        else:
            move(context.lake.objects, one.key, fate)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(away, forks):
            pass
