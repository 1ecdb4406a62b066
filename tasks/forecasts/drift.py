"""Drift: a run held against the template of its recipe and the contents of its era; a report, and what follows."""

from collections.abc import Mapping
from datetime import datetime

import orjson

from ..lake.errors import NotFound
from ..lake.ledger import Record
from ..lake.partition import Output
from ..lake.phase import Context
from . import contents, manifest, template
from .recipe import ForecastRecipe
from .runs import parse_run

_SHOWN = 3


def settle(
    context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]
) -> tuple[list[Output], list[str], str | None]:
    """Hold an ingested run against what is known of its recipe and era; what is not known yet is learnt from it.

    Returns outputs (the drift report), the changes found, a sentence each, and why the run is held, if it is.
    """
    recipe, run = context.recipe, parse_run(scope)
    now = {step: _contents(context, record) for step, record in _by_step(records)}
    learnt = template.learn(context, _sample(context, records))
    number = template.version(context)
    changes: list[str] = []
    if number:
        in_use = template.load(context)
        changes += template.changed(in_use, learnt)
        known = _read(context, number, run)
        changes += contents.drift(known, now) if known else []
    relearnt = bool(changes) and recipe.drift == "relearn"
    if not number or relearnt:
        number = template.store(context, learnt, scope)
    if relearnt or not (known := _read(context, number, run)):
        context.lake.objects.put(_key(context, number, run), contents.write(now))
    elif set(now) - set(known):
        # A partial run was learnt from; this one is longer.
        context.lake.objects.put(_key(context, number, run), contents.write(now | known))
    stopped = bool(changes) and recipe.drift == "stop"
    report = {"run": scope, "version": number, "policy": recipe.drift, "relearnt": relearnt, "changes": changes}
    data = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    key = f"manifests/{recipe.name}/{scope}/drift.json"
    held = sentence(recipe, scope, changes) if stopped else None
    return [context.lake.write(key, data)], changes, held


def sentence(recipe: ForecastRecipe, scope: str, changes: list[str]) -> str:
    """The drift of a run, in one sentence."""
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    what = "; ".join(changes[:_SHOWN])
    end = {
        "stop": f" (held; accept it with: python -m flows.ingest {recipe.name} --run {scope} --relearn)",
        "warn": "",
        "relearn": " (learnt anew)",
    }[recipe.drift]
    return f"run {scope} of {recipe.name} drifted from the template: {what}{more}{end}"


def _by_step(records: Mapping[str, Record]) -> list[tuple[int, Record]]:
    return sorted((int(key.rpartition("-")[2]), record) for key, record in records.items())


def _contents(context: Context[ForecastRecipe], record: Record) -> contents.StepContents:
    key = next(o.uri for o in record.outputs if o.uri.endswith(".contents.json"))
    return contents.from_json(orjson.loads(context.lake.objects.get(key)))


def _sample(context: Context[ForecastRecipe], records: Mapping[str, Record]):
    """Manifests of as few steps as hold every variable: the last one, and the others where it lacks some."""
    left = {v.name for v in context.recipe.select.variables}
    parts = []
    for _, record in reversed(_by_step(records)):
        key = next(o.uri for o in record.outputs if o.uri.endswith(".parquet"))
        rows = manifest.read(context.lake.objects.get(key), key)
        found = set(rows["variable"].unique().to_pylist())
        if found & left:
            parts.append(rows)
            left -= found
        if not left:
            break
    return manifest.concatenated(parts)


def _read(context: Context[ForecastRecipe], number: int, run: datetime) -> dict[int, contents.StepContents]:
    """What is known of the run's era; empty when it is the first run of it."""
    try:
        return contents.read(context.lake.objects.get(_key(context, number, run)))
    except NotFound:
        return {}


def _key(context: Context[ForecastRecipe], number: int, run: datetime) -> str:
    recipe = context.recipe
    return f"{template.base(recipe)}/v{number}/contents-{recipe.source.era(run)}.json"
