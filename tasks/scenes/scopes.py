"""Which scenes a run is about: named, found by a search, or those that were ingested."""

from ..lake.errors import UsageError
from ..lake.partition import SETTLE, Status
from ..lake.phase import Context, Window
from .items import Scene, absolute, catalogued, parse_time, resolve, search
from .recipe import SceneRecipe


def ingest_scenes(context: Context[SceneRecipe], window: Window) -> list[Scene]:
    """The scenes to ingest. Of a search, those that the catalogue of results has already are left out."""
    _no_run(window)
    source = context.recipe.source
    if source.items:
        scenes = [resolve(reference, source) for reference in source.items]
    elif source.search is not None:
        scenes = search(source.search, window, source.asset)
        catalogue = context.recipe.outputs.catalogue
        there = catalogued(catalogue, scenes) if catalogue and scenes else set()
        scenes = [s for s in scenes if s.id not in there]
    else:
        raise UsageError(f"which scenes? name an item (--item); recipe {context.recipe.name} has no search")
    twice = sorted({s.id for s in scenes if [o.id for o in scenes].count(s.id) > 1})
    if twice:
        raise UsageError(f"two items are named {twice[0]}")
    return scenes


def ingested_scopes(context: Context[SceneRecipe], window: Window) -> list[str]:
    """Ids of the ingested scenes that the items or the window of time mean; all of them when neither is given.

    Raises ``UsageError`` when a named item was not ingested.
    """
    _no_run(window)
    records = [r for r in context.ledger.read_all("ingest").values() if r.status is Status.DONE]
    times = {r.partition.split("/", 1)[0]: str(r.metrics.get("datetime", "")) for r in records}
    origins = {i.uri: r.partition.split("/", 1)[0] for r in records for i in r.inputs}
    items = context.recipe.source.items
    if items:
        missing = [i for i in items if absolute(i) not in origins]
        if missing:
            raise UsageError(f"{missing[0]} is not ingested yet; run flows.ingest first")
        return list(dict.fromkeys(origins[absolute(i)] for i in items))
    found = sorted(times, key=lambda scope: (times[scope], scope))
    if window.latest:
        return found[-1:]
    if window.start is not None or window.end is not None:
        found = [s for s in found if times[s] and _within(times[s], window)]
    return found


def published_scopes(context: Context[SceneRecipe], window: Window) -> list[str]:
    """The ingested scenes that validation let through."""
    passed = []
    for scope in ingested_scopes(context, window):
        record = context.ledger.read("validate", f"{scope}/{SETTLE}")
        if record is not None and record.status is Status.DONE and not record.held:
            passed.append(scope)
        elif context.recipe.source.items:
            why = f"was held back: {record.held}" if record is not None and record.held else "is not validated yet"
            raise UsageError(f"{scope} {why}")
    return passed


def _within(text: str, window: Window) -> bool:
    when = parse_time(text)
    return (window.start is None or when >= window.start) and (window.end is None or when <= window.end)


def _no_run(window: Window) -> None:
    if window.run is not None:
        raise UsageError("scenes have no runs; name an item (--item) or a window of time (--start, --end)")
