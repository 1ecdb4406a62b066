"""Forks of a run merged: into the run's branch for the checks, into ``main`` for the readers."""

from collections.abc import Mapping

import orjson

from ..lake.cube_template import CubeTemplate
from ..lake.cubes import Cube
from ..lake.errors import CorruptInput
from ..lake.ledger import Record
from ..lake.partition import Output, digest_json
from ..lake.phase import Context
from ..lake.run_axis import RunEntry
from .recipe import ForecastRecipe
from .runs import index_of, parse_run, steps_of


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
    return digest_json(sorted((o.uri, o.digest) for r in records.values() for o in r.outputs))


def entry(recipe: ForecastRecipe, scope: str, status: str) -> RunEntry:
    """What the coordinates say of a run."""
    run = parse_run(scope)
    steps = steps_of(recipe, run)
    last = max(steps, default=0)
    return RunEntry(index_of(recipe, run), status, last, last)


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
) -> list[Output]:  # fmt: skip
    """Publish a run: one commit on ``main``, then the pointer of the zone.

    Returns an output per partition: the shard it wrote, as it now stands on ``main``, with the digest of
    its values.
    """
    data = forks(context, records, cube)
    if len(data) < len(records):
        gone = sorted(set(records) - set(data))
        raise CorruptInput(f"{gone[0]} was written into another cube than {cube.path}")
    cube.publish(scope, list(data.values()), template, entry(context.recipe, scope, status), metadata)
    point(context, zone, cube)
    cube.drop_branch(scope)
    return [
        Output(
            f"cube:{cube.path}#{cube.identity}/{record.metrics['shard']}",
            record.outputs[0].digest,
            record.outputs[0].bytes,
        )
        for record in records.values()
    ]


def point(context: Context[ForecastRecipe], zone: str, cube: Cube) -> None:
    """Make a zone's pointer name this cube: the old one stands until a new one was published."""
    key = pointer_key(context.recipe.name, zone)
    wanted = orjson.dumps({"path": cube.path, "identity": cube.identity})
    context.lake.objects.put(key, wanted)


def pointer_key(recipe: str, zone: str) -> str:
    """Where the pointer of a zone lies: a small JSON that names the cube readers are to open."""
    return f"cubes/{recipe}/{zone}.json"
