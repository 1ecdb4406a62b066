"""Validate a forecast: checks on the run's branch, a verdict, and publication when it allows it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..checks.check import Cell, Finding, Subject
from ..checks.verdict import Verdict, judge, suite
from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from .branch import assemble, publish
from .recipe import ForecastRecipe, Variable
from .refine import run_manifest
from .runs import index_of, ingested_scopes, parse_run, steps_of
from .template import Template, load, refined_cube

PUBLISHED = ("accepted", "flagged")
"""Verdicts that let a run be published."""


class Validate(Phase[ForecastRecipe]):
    """Partition: run x variable. Output: ``verdicts/<recipe>/<run>/<variable>.json``; settling: the verdict,
    a report, and the run on ``main``."""

    name = "validate"
    version = "1"
    batch_count = 4

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        records = refined_records(context, scope)
        array_of = load(context).cube(recipe).arrays
        partitions = []
        for variable in recipe.select.variables:
            mine = {k: r for k, r in records.items() if _is_of(k, variable.name)}
            inputs = tuple(Input(k, r.outputs[0].digest) for k, r in sorted(mine.items()))
            size = 4 * int(np.prod(array_of[variable.name].shape))
            partitions.append(
                Partition(
                    key=f"{scope}/{variable.name}",
                    fingerprint=fingerprint(self.version, recipe.part("checks"), inputs),
                    inputs=inputs,
                    params={"variable": variable.name},
                    bytes=size,
                    memory=2 * size,
                )
            )
        return ScopePlan(scope, tuple(partitions))

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        del partitions
        structure = load(context).cube(context.recipe)
        cube = refined_cube(context, structure)
        cube.ensure(structure)
        assemble(context, cube, structure, scope, refined_records(context, scope))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, scope, name = context.recipe, partition.scope, str(partition.params["variable"])
        template = load(context)
        subject = _subject(context, template, scope, name)
        findings = [check.run(subject) for check in suite(recipe.checks)]
        document = {"variable": name, "findings": [_as_json(f) for f in findings], "statistics": _statistics(subject)}
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        key = f"verdicts/{recipe.name}/{partition.key}.json"
        context.lake.objects.put(key, data)
        fatal = next((f.sentence for f in findings if f.fatal), None)
        return Produced(
            outputs=(Output(key, digest_bytes(data), len(data)),),
            metrics={"checks": len(findings), "score": min((f.score for f in findings), default=1.0)},
            rejected=fatal,
        )

    def settle_part(self, context: Context[ForecastRecipe]) -> object:
        return context.recipe.part("checks", "title", "attribution")

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Judge the run; publish it when the verdict allows, hold it back otherwise."""
        from .report import report

        recipe = context.recipe
        documents = {
            name: orjson.loads(context.lake.objects.get(f"verdicts/{recipe.name}/{scope}/{name}.json"))
            for name in (v.name for v in recipe.select.variables)
        }
        findings = [_from_json(f) for d in documents.values() for f in d["findings"]]
        statistics = {name: d["statistics"] for name, d in documents.items()}
        verdict = judge(findings, recipe.checks)
        outputs = _store_verdict(context, scope, verdict)
        structure = load(context).cube(recipe)
        cube = refined_cube(context, structure)
        refined = refined_records(context, scope)
        # A run that was published has no branch any more; settled again (another title, a lost report), it needs one.
        assemble(context, cube, structure, scope, refined)
        page = report(context, scope, verdict, statistics, cube, presence(context, scope)).encode()
        key = f"verdicts/{recipe.name}/{scope}/report.html"
        context.lake.objects.put(key, page)
        outputs.append(Output(key, digest_bytes(page), len(page)))
        held = None
        if verdict.state in PUBLISHED:
            metadata = {
                "run": scope,
                "verdict": verdict.state,
                "score": verdict.score,
                "reasons": list(verdict.reasons),
            }
            outputs += publish(context, cube, "refined", structure, scope, refined, verdict.state, metadata)
        else:
            reasons = "; ".join(verdict.reasons[:3])
            held = (
                f"run {scope} of {recipe.name} is held back, {verdict.state} with score {verdict.score:.3f}: {reasons}"
            )
        return Produced(outputs=tuple(outputs), metrics={"verdict": verdict.state, "score": verdict.score}, held=held)


def refined_records(context: Context[ForecastRecipe], scope: str) -> dict[str, Record]:
    """Records of the refine partitions of a run. Raises ``UsageError`` when the run is not refined (yet)."""
    prefix = f"{scope}/"
    names = {v.name for v in context.recipe.select.variables}
    records = {k: r for k, r in context.ledger.read_all("refine", scope).items() if k != prefix + SETTLE}
    records = {k: r for k, r in records.items() if any(_is_of(k, n) for n in names)}
    undone = sorted(k for k, r in records.items() if r.status is not Status.DONE)
    lacking = sorted(n for n in names if not any(_is_of(k, n) for k in records))
    if undone or lacking:
        what = undone[0] if undone else lacking[0]
        raise UsageError(
            f"run {scope} of {context.recipe.name} is not refined ({what} is missing); "
            f"run first: python -m flows.refine {context.recipe.name} --run {scope}"
        )
    return records


def published(context: Context[ForecastRecipe], scope: str) -> Record:
    """The record of a run's publication. Raises ``UsageError`` when it is not published."""
    record = context.ledger.read("validate", f"{scope}/{SETTLE}")
    if record is None or record.status is not Status.DONE or record.held:
        why = record.held if record is not None and record.held else "it was not validated"
        raise UsageError(f"run {scope} of {context.recipe.name} is not published: {why}")
    return record


def published_values(record: Record, variable: str | None = None) -> tuple[Input, ...]:
    """What a publication put on ``main`` of its cubes (of one variable, when named), as inputs of what is made of it.

    A shard is named by its place and its values, not by the cube's identity: a cube that was made anew with the
    same values leaves everything downstream alone.
    """
    inputs = []
    for output in record.outputs:
        if output.uri.startswith("cube:"):
            path, _, place = output.uri.removeprefix("cube:").partition("#")
            shard = place.partition("/")[2]
            if variable is None or shard.split("/")[0] == variable:
                inputs.append(Input(f"{path}/{shard}", output.digest))
    return tuple(inputs)


def presence(context: Context[ForecastRecipe], scope: str) -> dict[str, np.ndarray]:
    """Variable -> bool array (lead_time, member, level): whether the source has the field."""
    recipe = context.recipe
    rows = run_manifest(context, scope)
    return {v.name: _present(rows, recipe, v, load(context).cube(recipe).lead_time) for v in recipe.select.variables}


def _present(rows: pa.Table, recipe: ForecastRecipe, variable: Variable, leads: Sequence[int]) -> np.ndarray:
    members, levels = recipe.select.members or (None,), variable.levels if len(variable.levels) > 1 else (None,)
    present = np.zeros((len(leads), len(members), len(levels)), bool)
    mine = rows.filter(pc.equal(rows["variable"].cast(pa.string()), variable.name))
    columns = (mine[c].to_pylist() for c in ("lead_time", "member", "level"))
    for lead, member, level in zip(*columns, strict=True):
        step = leads.index(int(lead.total_seconds() // 3600))
        at_member = members.index(member) if members != (None,) else 0
        at_level = levels.index(level) if levels != (None,) else 0
        present[step, at_member, at_level] = True
    return present


def _is_of(key: str, variable: str) -> bool:
    """Whether a refine partition belongs to a variable: ``<run>/t-m02-l500`` to ``t``."""
    rest = key.split("/", 1)[1]
    return rest == variable or rest.startswith((f"{variable}-m", f"{variable}-l"))


def _subject(context: Context[ForecastRecipe], template: Template, scope: str, name: str) -> Subject:
    recipe = context.recipe
    structure = template.cube(recipe)
    array = structure.arrays[name]
    values = refined_cube(context, structure).read(name, index_of(recipe, parse_run(scope)), f"run/{scope}")
    if "member" not in array.dims:
        values = np.expand_dims(values, 1)
    if "level" not in array.dims:
        values = np.expand_dims(values, 2)
    variable = next(v for v in recipe.select.variables if v.name == name)
    rows = run_manifest(context, scope)
    rows = rows.filter(pc.equal(rows["variable"].cast(pa.string()), name))
    present = _present(rows, recipe, variable, structure.lead_time)
    # What the model does not produce at a step is no fault of the run: those steps are left out.
    expected = [
        i
        for i, step in enumerate(structure.lead_time)
        if step not in variable.not_at and step in steps_of(recipe, parse_run(scope))
    ]
    coordinates = structure.coordinates
    return Subject(
        name=name,
        units=template.variables[name].units,
        window=variable.window or template.variables[name].step_type,
        values=values[expected],
        present=present[expected],
        lead_time=np.asarray(structure.lead_time)[expected],
        member=np.asarray(recipe.select.members) if recipe.select.members is not None else None,
        level=np.asarray(variable.levels) if "level" in array.dims else None,
        latitude=coordinates["latitude"][1],
        longitude=coordinates["longitude"][1],
        attributes={**array.attributes, **_level_of(variable)},
        window_start=_window_starts(rows, structure.lead_time)[expected],
    )


def _level_of(variable: Variable) -> dict[str, float]:
    """The level of a variable that has just one and so no level dimension, for the checks' table of ranges."""
    return {"level": variable.levels[0]} if len(variable.levels) == 1 else {}


def _window_starts(rows: pa.Table, leads: Sequence[int]) -> np.ndarray:
    """Hour at which the window of each lead time begins (lead_time,); 0 for instant fields."""
    starts = np.zeros(len(leads), "int64")
    for lead, start in zip(rows["lead_time"].to_pylist(), rows["window_start"].to_pylist(), strict=True):
        if start is not None:
            starts[leads.index(int(lead.total_seconds() // 3600))] = int(start.total_seconds() // 3600)
    return starts


def _statistics(subject: Subject) -> dict[str, float | None]:
    finite = subject.values[np.isfinite(subject.values)]
    if not finite.size:
        return {"minimum": None, "mean": None, "maximum": None}
    return {"minimum": float(finite.min()), "mean": float(finite.mean(dtype="float64")), "maximum": float(finite.max())}


def _store_verdict(context: Context[ForecastRecipe], scope: str, verdict: Verdict) -> list[Output]:
    data = verdict.to_json()
    key = f"verdicts/{context.recipe.name}/{scope}/verdict.json"
    context.lake.objects.put(key, data)
    return [Output(key, digest_bytes(data), len(data))]


def _as_json(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"cells": [[c.lead_time, c.member, c.level] for c in finding.cells]}


def _from_json(value: Mapping[str, Any]) -> Finding:
    fields: dict[str, Any] = {**value, "cells": tuple(Cell(*c) for c in value["cells"])}
    return Finding(**fields)
