"""Validate a forecast: checks on the run's branch, a verdict, and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from ..checks.check import Cell, Finding
from ..checks.inspection import inspect
from ..checks.report import picture
from ..checks.statistics import Statistics, Summary
from ..checks.verdict import Outcome, State, Verdict, judge, suite
from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import climatology, completeness, quarantine, release
from .branch import assemble, publish
from .recipe import ForecastRecipe
from .refine import run_manifest
from .runs import index_of, ingested_scopes, parse_run
from .subjects import groups, subjects
from .template import load, refined_cube

_SCALE_ONLY = {"accept_above", "flag_above", "action"}
"""Keys of a check that decide what follows from its findings, not what it finds."""


class Validate(Phase[ForecastRecipe]):
    """Partition: run x variable (several where they are compared with each other).

    Output: findings ``verdicts/<recipe>/<run>/<variable>.json`` and statistics ``.npz``; settling: the verdict, the
    statuses of all fields, a report, the quarantine, and the run on ``main``.
    """

    name = "validate"
    version = "2"
    batch_count = 4

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe, records, template = context.recipe, refined_records(context, scope), load(context)
        array_of = template.cube(recipe).arrays
        partitions = []
        for names in groups(recipe, template):
            mine = {k: r for k, r in records.items() if any(_is_of(k, n) for n in names)}
            inputs = tuple(Input(k, r.outputs[0].digest) for k, r in sorted(mine.items()))
            arrays = [array_of[n] for n in names]
            # A few maps: the one looked at, the one read ahead, those that checks remember, and the chunks behind them.
            rows = max(a.chunks[a.dims.index("lead_time")] for a in arrays)
            points = int(np.prod([n for d, n in zip(arrays[0].dims, arrays[0].shape, strict=True) if d not in _OUTER]))
            partitions.append(
                Partition(
                    key=f"{scope}/{'+'.join(names)}",
                    fingerprint=fingerprint(self.version, _looking(recipe), inputs),
                    inputs=inputs,
                    params={"variables": list(names)},
                    bytes=sum(4 * int(np.prod(a.shape)) for a in arrays),
                    memory=4 * points * (8 + 2 * rows) * len(names),
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
        recipe, scope = context.recipe, partition.scope
        names = [str(n) for n in partition.params["variables"]]  # type: ignore[attr-defined]
        damaged = quarantine.damaged(context, refined_records(context, scope))
        found = subjects(context, load(context), run_manifest(context, scope), scope, names, damaged)
        statistics = [Statistics(subject) for subject in found]
        findings = inspect(found, suite(recipe.checks), [[s] for s in statistics])
        outputs = []
        for subject, watch in zip(found, statistics, strict=True):
            summary = watch.result()
            mine = [f for f in findings if f.variable == subject.name]
            runs = list(subject.climate.runs) if subject.climate is not None else []
            document = {
                "variable": subject.name, "findings": [_as_json(f) for f in mine], "statistics": _extent(summary),
                "histogram": {"counts": summary.counts.tolist(), "edges": summary.edges.tolist()},
                "cells": int(subject.present.size), "climatology": runs,
            }  # fmt: skip
            data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
            numbers = summary.to_bytes()
            for key, content in (
                (f"verdicts/{recipe.name}/{scope}/{subject.name}.json", data),
                (climatology.summary_key(recipe.name, scope, subject.name), numbers),
            ):
                context.lake.objects.put(key, content)
                outputs.append(Output(key, digest_bytes(content), len(content)))
        alone = judge(findings, recipe.checks)
        return Produced(
            outputs=tuple(outputs),
            metrics={"checks": len(findings), "score": alone.score, "fields": sum(int(s.present.sum()) for s in found)},
            rejected=alone.reasons[0] if alone.state is State.REJECTED and alone.reasons else None,
        )

    def settle_part(self, context: Context[ForecastRecipe]) -> object:
        part = context.recipe.part("checks", "title", "attribution")
        part["checks"] = {k: v for k, v in part["checks"].items() if k not in ("notify", "scale")}
        return part

    def settling(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Partition:
        """Like any settling; what a person released of the run is one more input."""
        base = super().settling(context, scope, records)
        _, digest = release.waivers(context, scope)
        if digest is None:
            return base
        inputs = (*base.inputs, Input(f"waivers:{scope}", digest))
        version = f"{self.name}-{self.version}-settle"
        return Partition(base.key, fingerprint(version, self.settle_part(context), inputs), inputs)

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Judge the run; publish it as the verdict and the policy allow, hold it or roll it back otherwise."""
        from .report import completeness_matrix, report

        recipe = context.recipe
        run = _Run.of(context, scope)
        verdict = judge(
            [_from_json(f) for d in run.documents.values() for f in d["findings"]],
            recipe.checks,
            sizes={name: int(d["cells"]) for name, d in run.documents.items()},
            waivers=release.waivers(context, scope)[0],
        )
        statuses = completeness.statuses(
            context, scope, run.rows, damaged=run.damaged, rejected=verdict.quarantined, flagged=verdict.flagged,
            read_at=run.read_at,
        )  # fmt: skip
        outputs = _store(context, scope, verdict, statuses)
        apart = verdict.state is State.QUARANTINED
        outputs += quarantine.keep_all(context, scope, run.rows, verdict.quarantined, with_bytes=apart)
        structure = load(context).cube(recipe)
        cube = refined_cube(context, structure)
        # A run that was published has no branch any more; settled again (another title, a lost report), it needs one.
        assemble(context, cube, structure, scope, run.refined)
        page = report(context, scope, verdict, run.documents, cube, statuses).encode()
        matrix = picture(completeness_matrix(recipe, statuses))
        for name, content in (("report.html", page), ("completeness.svg", matrix)):
            key = f"verdicts/{recipe.name}/{scope}/{name}"
            context.lake.objects.put(key, content)
            outputs.append(Output(key, digest_bytes(content), len(content)))
        held = None
        if verdict.outcome is Outcome.PUBLISH:
            places = {v.name: completeness.Places(recipe, v) for v in recipe.select.variables}
            index = index_of(recipe, parse_run(scope))
            masked = quarantine.mask(cube, scope, index, run.refined, verdict.quarantined, places)
            status = "accepted" if verdict.state is State.ACCEPTED else "flagged"
            metadata = _metadata(scope, verdict)
            outputs += publish(context, cube, "refined", structure, scope, run.refined, status, metadata, masked=masked)
        else:
            if verdict.outcome is Outcome.ROLL_BACK:
                cube.drop_branch(scope)
            held = _held(context, scope, verdict)
        climatology.remember(context, scope, verdict.state is State.ACCEPTED)
        return Produced(
            outputs=tuple(outputs),
            metrics={
                "verdict": verdict.state, "score": verdict.score, "outcome": verdict.outcome,
                "quarantined": len(verdict.quarantined), "flagged": len(verdict.flagged),
                "damaged": len(run.damaged),
            },
            held=held,
        )  # fmt: skip


_OUTER = ("lead_time", "member", "level")


@dataclass(frozen=True)
class _Run:
    """What a run is judged by: its manifest, the refine records, what refine could not read, and the findings."""

    rows: Any
    refined: Mapping[str, Record]
    damaged: Sequence[quarantine.Damage]
    documents: Mapping[str, dict[str, Any]]
    read_at: datetime | None

    @classmethod
    def of(cls, context: Context[ForecastRecipe], scope: str) -> "_Run":
        """Everything that is on record of a run."""
        recipe = context.recipe
        refined = refined_records(context, scope)
        keys = [f"verdicts/{recipe.name}/{scope}/{v.name}.json" for v in recipe.select.variables]
        found = [orjson.loads(data) for data, _ in context.lake.objects.get_many(keys)]
        steps = [r for k, r in context.ledger.read_all("ingest", scope).items() if not k.endswith(f"/{SETTLE}")]
        return cls(
            rows=run_manifest(context, scope),
            refined=refined,
            damaged=quarantine.damaged(context, refined),
            documents={d["variable"]: d for d in found},
            read_at=max((r.finished for r in steps if r.finished is not None), default=None),
        )


def _looking(recipe: ForecastRecipe) -> object:
    """The part of the recipe that decides what is found; what follows from it is for settling."""
    return [
        {k: v for k, v in check.model_dump(mode="json").items() if k not in _SCALE_ONLY}
        for check in suite(recipe.checks)
    ]


def _metadata(scope: str, verdict: Verdict) -> dict[str, object]:
    """What the published snapshot says of its verdict: score, every reason, what was taken out and released."""
    return {
        "run": scope,
        "verdict": str(verdict.state),
        "score": verdict.score,
        "reasons": list(verdict.reasons),
        "quarantined": [s.key for s in verdict.quarantined],
        "released": [w.model_dump(mode="json") for w in verdict.released],
    }


def _held(context: Context[ForecastRecipe], scope: str, verdict: Verdict) -> str:
    reasons = "; ".join(verdict.reasons[:3])
    name = context.recipe.name
    how = "rolled back" if verdict.outcome is Outcome.ROLL_BACK else "held back"
    return f"run {scope} of {name} is {how}, {verdict.state} with score {verdict.score:.3f}: {reasons}"


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


def _is_of(key: str, variable: str) -> bool:
    """Whether a refine partition belongs to a variable: ``<run>/t-m02-l500`` to ``t``."""
    rest = key.split("/", 1)[1]
    return rest == variable or rest.startswith((f"{variable}-m", f"{variable}-l"))


def _extent(summary: Summary) -> dict[str, float | None]:
    names = ("minimum", "mean", "maximum")
    values = (float(v) for v in summary.extent)
    return {n: v if np.isfinite(v) else None for n, v in zip(names, values, strict=True)}


def _store(
    context: Context[ForecastRecipe], scope: str, verdict: Verdict, statuses: Mapping[str, np.ndarray]
) -> list[Output]:
    name = context.recipe.name
    outputs = []
    for key, data in (
        (release.verdict_key(name, scope), verdict.to_json()),
        (completeness.key(name, scope), completeness.to_bytes(statuses)),
    ):
        outputs.append(context.lake.write(key, data))
    return outputs


def _as_json(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"cells": [[c.lead_time, c.member, c.level] for c in finding.cells]}


def _from_json(value: Mapping[str, Any]) -> Finding:
    fields: dict[str, Any] = {**value, "cells": tuple(Cell(*c) for c in value["cells"])}
    return Finding(**fields)
