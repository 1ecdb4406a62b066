"""Regrid a forecast: published fields times weights, into point-shaped chunks of a cube per target grid."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import xxhash

from ..grids.apply import apply
from ..grids.grid import Grid, from_spec
from ..grids.spec import GridSpec
from ..grids.weights import Weights, load_weights, make
from ..lake.cube_template import ArrayTemplate, CubeTemplate
from ..lake.cubes import Cube
from ..lake.errors import ConflictError, CorruptInput
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import Output, Partition, Produced, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from .branch import assemble, publish
from .recipe import ForecastRecipe
from .refine import fork_key
from .runs import index_of, ingested_scopes, parse_run
from .template import Template, load, ordered, refined_cube
from .validate import published, published_values

_SHARD_BYTES = 384 * 2**20
_CONSERVED = 1e-5
"""Allowed relative change of a global mean by a conservative method: float32 fields, float64 weights."""


class Regrid(Phase[ForecastRecipe]):
    """Partition: run x target grid x variable. Output: a fork of the target grid's cube; settling publishes it."""

    name = "regrid"
    version = "1"
    batch_bytes = 512 * 2**20
    batch_count = 4

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        if not recipe.grids:
            return ScopePlan(scope, (), (f"{recipe.name} names no target grid",))
        record = published(context, scope)
        template = load(context)
        source = template.cube(recipe)
        partitions = []
        for spec in recipe.grids:
            target = regridded_template(template, recipe, spec)
            for name, array in target.arrays.items():
                inputs = published_values(record, name)
                part = {
                    "grid": spec.model_dump(mode="json", exclude={"variables"}),
                    "path": regridded_path(recipe, spec, target),
                }
                size = 4 * int(np.prod(source.arrays[name].shape))
                partitions.append(
                    Partition(
                        key=f"{scope}/{spec.name}/{name}",
                        fingerprint=fingerprint(self.version, part, inputs),
                        inputs=inputs,
                        params={"grid": spec.name, "variable": name},
                        bytes=size,
                        memory=size + 8 * int(np.prod(array.shape)),
                    )
                )
        return ScopePlan(scope, tuple(partitions))

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        recipe, template = context.recipe, load(context)
        wanted = {str(p.params["grid"]) for p in partitions}
        for spec in (g for g in recipe.grids if g.name in wanted):
            store_weights(context, template, spec)
            target = regridded_template(template, recipe, spec)
            cube = context.lake.cube(regridded_path(recipe, spec, target))
            cube.ensure(target)
            cube.begin(scope, index_of(recipe, parse_run(scope)))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        name = str(partition.params["variable"])
        spec = next(g for g in recipe.grids if g.name == partition.params["grid"])
        template = load(context)
        source = template.cube(recipe)
        weights = _weights(context.lake.url, weights_key(template, recipe, spec))
        index = index_of(recipe, parse_run(scope))
        values = refined_cube(context, source).read(name, index)
        target = regridded_template(template, recipe, spec)
        array = target.arrays[name]
        fields = apply(weights, values, skipna=True, na_thres=0.5) if np.isnan(values).any() else apply(weights, values)
        if spec.method == "conservative":
            _conserves(template, recipe, spec, values, fields, partition.key)
        cube = context.lake.cube(regridded_path(recipe, spec, target))
        with cube.fork(scope) as fork:
            fork.group[name][index] = fields
        key = fork_key(f"{recipe.name}/{spec.name}", partition.key)
        context.lake.objects.put(key, fork.data)
        return Produced(
            outputs=(
                Output(
                    f"fork:{key}@{cube.path}#{cube.identity}",
                    f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(fields))}",
                    fields.nbytes,
                ),
            ),
            metrics={
                "fields": int(np.prod(values.shape[: -len(template.grid.shape)])),
                "shard": array.chunk_key(name, index, *[0] * len(array.dims)),
            },
        )

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Assemble, look once more, publish: grid by grid."""
        recipe, template = context.recipe, load(context)
        status = str(published(context, scope).metrics.get("verdict", "accepted"))
        outputs: list[Output] = []
        for spec in recipe.grids:
            mine = {k: r for k, r in records.items() if k.startswith(f"{scope}/{spec.name}/")}
            if not mine:
                continue
            target = regridded_template(template, recipe, spec)
            cube = context.lake.cube(regridded_path(recipe, spec, target))
            assemble(context, cube, target, scope, mine)
            _complete(cube, target, scope, index_of(recipe, parse_run(scope)))
            metadata = {"run": scope, "verdict": status, "grid": spec.name}
            outputs += publish(context, cube, spec.name, target, scope, mine, status, metadata)
        return Produced(outputs=tuple(outputs))


def regridded_template(template: Template, recipe: ForecastRecipe, spec: GridSpec) -> CubeTemplate:
    """Structure of a target grid's cube: chunks hold all lead times and members of a small tile."""
    key = (recipe.digest, spec.name)
    if key not in template.structures:
        template.structures[key] = _structure(template, recipe, spec)
    return template.structures[key]


def _structure(template: Template, recipe: ForecastRecipe, spec: GridSpec) -> CubeTemplate:
    source = template.cube(recipe)
    grid = from_spec(spec)
    spatial = set(template.grid.dims) | {"latitude", "longitude", "spatial_ref"}
    coordinates = {n: c for n, c in source.coordinates.items() if n not in spatial}
    coordinates |= {n: (d, np.asarray(v), a) for n, (d, v, a) in grid.coordinates().items()}
    arrays = {
        n: _array(a, grid, spec) for n, a in source.arrays.items() if spec.variables is None or n in spec.variables
    }
    return CubeTemplate(source.start, source.interval, source.lead_time, coordinates, arrays, source.attributes)


def regridded_path(recipe: ForecastRecipe, spec: GridSpec, target: CubeTemplate) -> str:
    """Where the cube of a target grid lies in the lake."""
    digest = target.digest.removeprefix("sha256:")[:12]
    return f"cubes/{recipe.name}/{spec.name}/{digest}-{spec.method}-{spec.tile}.icechunk"


def weights_key(template: Template, recipe: ForecastRecipe, spec: GridSpec) -> str:
    """Where the weights of a grid pair and method lie in the lake."""
    source, _ = ordered(template.grid, recipe)
    digests = "-".join(d.removeprefix("sha256:")[:12] for d in (source.digest, from_spec(spec).digest))
    return f"weights/{digests}-{spec.method}.nc"


def store_weights(context: Context[ForecastRecipe], template: Template, spec: GridSpec) -> str:
    """Make the weights unless they are there: written once, whoever asks first."""
    key = weights_key(template, context.recipe, spec)
    if context.lake.objects.head(key) is None:
        source, _ = ordered(template.grid, context.recipe)
        data = make(source, from_spec(spec), spec.method).save()
        with contextlib.suppress(ConflictError):
            context.lake.objects.put_new(key, data)
    return key


@lru_cache(maxsize=8)
def _weights(lake: str, key: str) -> Weights:
    return load_weights(Lake(lake).objects.get(key))


def _array(array: ArrayTemplate, grid: Grid, spec: GridSpec) -> ArrayTemplate:
    spatial = 2 if array.dims[-1] != "cell" else 1
    outer = array.shape[:-spatial]
    tile = tuple(min(spec.tile, n) for n in grid.shape)
    per_tile = 4 * int(np.prod(outer))
    # Whole maps in one shard while that stays writable at once; else as many rows of tiles as do.
    rows = max(1, min(-(-grid.shape[0] // tile[0]), _SHARD_BYTES // max(1, per_tile * tile[0] * grid.shape[1])))
    shards = (rows * tile[0], -(-grid.shape[1] // tile[1]) * tile[1])
    attributes = {k: v for k, v in array.attributes.items() if k not in ("coordinates", "keep_bits")}
    attributes["regrid_method"] = spec.method
    return ArrayTemplate(
        dims=(*array.dims[:-spatial], *grid.dims),
        shape=(*outer, *grid.shape),
        chunks=(*outer, *tile),
        shards=(*outer, *shards),
        attributes=attributes,
        level=array.level,
    )


def _conserves(
    template: Template, recipe: ForecastRecipe, spec: GridSpec, values: np.ndarray, fields: np.ndarray, key: str
) -> None:
    """A conservative method keeps the global mean of a complete global field."""
    source, _ = ordered(template.grid, recipe)
    target = from_spec(spec)
    if not (source.is_global and target.is_global) or np.isnan(values).any():
        return
    before = np.average(values.reshape(-1, source.size), axis=1, weights=source.areas.ravel())
    after = np.average(fields.reshape(-1, target.size), axis=1, weights=target.areas.ravel())
    scale = np.abs(values).max() or 1.0
    worst = int(np.abs(after - before).argmax())
    if abs(after[worst] - before[worst]) > _CONSERVED * scale:
        raise CorruptInput(
            f"{key}: regridding changed a global mean",
            partition=key,
            expected=float(before[worst]),
            found=float(after[worst]),
        )


def _complete(cube: Cube, target: CubeTemplate, scope: str, index: int) -> None:
    """Every shard of the run is on its branch."""
    store = cube.store(f"run/{scope}")
    import asyncio

    for name, array in target.arrays.items():
        key = array.chunk_key(name, index, *[0] * len(array.dims))
        if not asyncio.run(store.exists(key)):
            raise CorruptInput(f"{cube.path} lacks {key} of run {scope} after regridding")
