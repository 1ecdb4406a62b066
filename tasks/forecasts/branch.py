"""Forks of a run merged: into the run's branch for the checks, into ``main`` for the readers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import orjson

from ..lake.cube_template import CubeTemplate
from ..lake.cubes import Cube
from ..lake.errors import CorruptInput
from ..lake.ledger import Record
from ..lake.partition import RETIRED, Output, digest_json
from ..lake.phase import Context
from ..lake.run_axis import ABSENT, FIELD_AXES, RunEntry
from . import completeness
from .quarantine import Masked
from .recipe import ForecastRecipe
from .runs import index_of, lead_times, parse_run, steps_of


def forks(context: Context[ForecastRecipe], records: Mapping[str, Record], cube: Cube) -> dict[str, bytes]:
    """The forks that partitions wrote into this cube, by partition key, in a stable order."""
    keys = {}
    for partition, record in sorted(records.items()):
        for output in record.outputs:
            if output.uri.startswith("fork:"):
                key, _, place = output.uri.removeprefix("fork:").partition("@")
                if place == f"{cube.path}#{cube.identity}":
                    keys[partition] = key
    found = context.lake.objects.get_many(list(keys.values()))
    return {p: data for p, (data, _) in zip(keys, found, strict=True)}


def digest(records: Mapping[str, Record]) -> str:
    """Identity of what a set of partitions wrote."""
    return digest_json(sorted((o.uri.removeprefix(RETIRED), o.digest) for r in records.values() for o in r.outputs))


def entry(recipe: ForecastRecipe, scope: str, status: str, fields: Mapping[str, np.ndarray] | None = None) -> RunEntry:
    """What the coordinates say of a run; ``fields`` are the statuses of its fields, (lead_time, member, level)."""
    run = parse_run(scope)
    steps = steps_of(recipe, run)
    last = max(steps, default=0)
    if not fields:
        return RunEntry(index_of(recipe, run), status, last, last)
    reached = completeness.complete_to(fields, lead_times(recipe))
    squeezed = {
        v.name: _squeezed(fields[v.name], recipe, len(v.levels)) for v in recipe.select.variables if v.name in fields
    }
    return RunEntry(index_of(recipe, run), status, last, min(reached, last) if reached >= 0 else ABSENT, squeezed)


def _squeezed(status: np.ndarray, recipe: ForecastRecipe, levels: int) -> np.ndarray:
    """Statuses (lead_time, member, level) with those dimensions only that the variable has."""
    lengths = ((1, recipe.select.members is None), (2, levels <= 1))
    return status.squeeze(axis=tuple(axis for axis, lacks in lengths if lacks))


def assemble(
    context: Context[ForecastRecipe], cube: Cube, template: CubeTemplate, scope: str, records: Mapping[str, Record]
) -> str:
    """Make sure that the run's branch holds exactly these partitions' results; its snapshot id."""
    wanted = digest(records)
    tip = cube.tip(f"run/{scope}")
    if tip is not None and tip[1].get("weatherlake_forks") == wanted:
        return tip[0]
    data = forks(context, records, cube)
    return cube.assemble(
        scope, list(data.values()), template, entry(context.recipe, scope, "absent"), {"weatherlake_forks": wanted}
    )


def publish(
    context: Context[ForecastRecipe], cube: Cube, zone: str, template: CubeTemplate, scope: str,
    records: Mapping[str, Record], status: str, metadata: Mapping[str, object],
    shards: Sequence[Output] | None = None, *, masked: Mapping[str, Masked] | None = None,
    made: Mapping[str, np.ndarray] | None = None,
) -> list[Output]:  # fmt: skip
    """Publish a run: one commit on ``main``, then the pointer of the zone.

    ``masked`` holds what stands in for the forks of partitions with quarantined cells. The statuses of the fields that
    validation left are written with the run, whatever the zone, and beside them those of ``made``: of what was made of
    the variables. Returns an output per shard as it now stands on
    ``main``, with the digest of its values: of ``shards`` (``uri`` is the key of the chunk), or of the one shard that
    each partition wrote.
    """
    masked = masked or {}
    data = forks(context, records, cube) | {key: m.fork for key, m in masked.items()}
    # The fork of what is published as it was written may have been removed since: main holds its chunks.
    there = f"@{cube.path}#{cube.identity}"
    removed = (k for k, r in records.items() for o in r.outputs if o.uri.startswith(RETIRED) and o.uri.endswith(there))
    gone = sorted(set(records) - set(data) - set(removed))
    if gone:
        raise CorruptInput(f"{gone[0]} was written into another cube than {cube.path}")
    fields = completeness.load(context, scope)
    said = entry(context.recipe, scope, status, fields)
    # A cube of statistics over the members has the same names without that dimension.
    every = {**(made or {}), **said.fields}
    said = replace(said, fields={n: f for n, f in every.items() if f.shape == _outer(template, n)})
    cube.publish(scope, list(data.values()), template, said, metadata)
    point(context, zone, cube)
    cube.drop_branch(scope)
    if shards is None:
        shards = [
            Output(
                str(record.metrics["shard"]),
                masked[key].digest if key in masked else record.outputs[0].digest,
                record.outputs[0].bytes,
            )
            for key, record in records.items()
        ]
    return [Output(f"cube:{cube.path}#{cube.identity}/{s.uri}", s.digest, s.bytes) for s in shards]


def _outer(template: CubeTemplate, name: str) -> tuple[int, ...] | None:
    """Lengths of the dimensions that a variable's status has in this cube; None when it is not in it."""
    array = template.arrays.get(name)
    if array is None:
        return None
    return tuple(n for d, n in zip(array.dims, array.shape, strict=True) if d in FIELD_AXES)


def point(context: Context[ForecastRecipe], zone: str, cube: Cube) -> None:
    """Make a zone's pointer name this cube: the old one stands until a new one was published."""
    key = pointer_key(context.recipe.name, zone)
    wanted = orjson.dumps({"path": cube.path, "identity": cube.identity})
    context.lake.objects.put(key, wanted)


def pointer_key(recipe: str, zone: str) -> str:
    """Where the pointer of a zone lies: a small JSON that names the cube readers are to open."""
    return f"cubes/{recipe}/{zone}.json"
