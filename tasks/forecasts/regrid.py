"""Regrid a forecast: published fields times weights, with all that is made of them, into point-shaped chunks.

docs/regrid.md says how. The pieces: `regrid_plan` (what is made together), `regrid_template` (the target cube),
`regrid_target` (weights and blocks), `regrid_block` (the work on one block), `postcheck` and `regrid_review` (the
look before publication).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
import orjson
import xxhash

from ..grids import store
from ..lake.cubes import Cube
from ..lake.errors import NotFound, UsageError
from ..lake.fork import fast_codecs
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import regrid_block
from .accumulated import known_of
from .branch import assemble, publish
from .postcheck import Tally, merged, pack, unpack
from .recipe import ForecastRecipe
from .refine import fork_key
from .regrid_block import Known
from .regrid_plan import Group, Item, Size, amount, passes
from .regrid_review import gaps, incomplete, judged, statuses
from .regrid_target import Target, angles, part_of, request_of, source_of, target_of
from .regrid_template import blocks, place
from .rounding import keep_bits
from .runs import index_of, ingested_scopes, parse_run
from .template import Template, load, refined_cube
from .validate import published, published_values
from .worker_memory import share

_GRIDS_AT_ONCE = 4


class Regrid(Phase[ForecastRecipe]):
    """Partition: run x target grid x variables that belong together x block of tiles.

    Output: a fork of the target grid's cube and a tally of what is in it; settling checks the run and publishes it.
    """

    name = "regrid"
    version = "2"
    batch_bytes = 512 * 2**20
    batch_count = 2

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        if not recipe.grids:
            return ScopePlan(scope, (), (f"{recipe.name} names no target grid",))
        record, template = published(context, scope), load(context)
        partitions: list[Partition] = []
        notes: list[str] = []
        for spec in recipe.grids:
            target = target_of(template, recipe, spec)
            for group in target.groups:
                known = known_of(context, template, scope, group)
                size = target.size(source_of(template, recipe), template.cube(recipe), group)
                memory, note = _projected(f"{scope}/{spec.name}/{group.name}", size, group, _limit(recipe))
                notes += note
                inputs = tuple(i for name in group.variables for i in published_values(record, name))
                partitions += _partitions(scope, target, group, known, inputs, size, memory)
        return ScopePlan(scope, tuple(partitions), tuple(dict.fromkeys(notes)))

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        recipe, template = context.recipe, load(context)
        wanted = {str(p.params["grid"]) for p in partitions}
        index = index_of(recipe, parse_run(scope))

        def one(target: Target) -> None:
            cube = context.lake.cube(target.path)
            _refuse_other_products(cube, target)
            cube.ensure(target.structure)
            cube.begin(scope, index)

        targets = [target_of(template, recipe, spec) for spec in recipe.grids if spec.name in wanted]
        for target in targets:
            store.ensure(context.lake, request_of(template, recipe, target.spec))
        _side_by_side(one, targets)

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, scope, template = context.recipe, partition.scope, load(context)
        spec = next(g for g in recipe.grids if g.name == partition.params["grid"])
        target = target_of(template, recipe, spec)
        group = target.group(partition.params["group"])
        number, known = _as_planned(partition)
        grid, structure = source_of(template, recipe), template.cube(recipe)
        index, size = index_of(recipe, parse_run(scope)), target.size(grid, structure, group)
        part = part_of(context.lake.url, request_of(template, recipe, spec).key, target.block(group), number)
        if group.turned:
            part = replace(part, angle=angles(grid)[part.window])
        with fast_codecs():
            source: Any = refined_cube(context, structure).group()
            arrays = {name: source[name] for name in group.variables}

        def read(name: str, at: tuple[slice | int, ...]) -> np.ndarray:
            return np.asarray(arrays[name][(index, *at, *part.window)])

        cube = context.lake.cube(target.path)
        where = place(number, target.grid.shape, target.block(group))
        tallies: dict[str, Tally] = {}
        shards: list[Output] = []
        with cube.fork(scope) as fork:
            out = {name: fork.group[name] for name in group.arrays}
            for items in passes(group, size, _limit(recipe), partition.key):
                for name, values, tally in regrid_block.make(
                    group, items, part, read, target.fields(group), known, structure.lead_time,
                    size.at_once(len(group.variables)), spec.na_thres,
                ):  # fmt: skip
                    if spec.keep_bits is not None:
                        # A copy: other products are still made of the values as they are.
                        values = values.copy()
                        keep_bits(values, spec.keep_bits)
                    outer = values.ndim - len(where)
                    out[name][(index, *(slice(None),) * outer, *where)] = values
                    digest = f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values))}"
                    chunk = target.structure.arrays[name].chunk_key(name, index, *(0,) * outer, *number)
                    shards.append(Output(chunk, digest, values.nbytes))
                    tallies[name] = tally
        key = fork_key(f"{recipe.name}/{spec.name}", partition.key)
        context.lake.objects.put(key, fork.data)
        packed = pack(tallies, shards)
        context.lake.objects.put(_tally_key(key), packed)
        whole = xxhash.xxh3_128_hexdigest("".join(s.uri + s.digest for s in shards).encode())
        return Produced(
            outputs=(
                Output(f"fork:{key}@{cube.path}#{cube.identity}", f"xxh3:{whole}", sum(s.bytes for s in shards)),
                Output(_tally_key(key), digest_bytes(packed), len(packed)),
            ),
            metrics={"fields": len(group.variables) * prod(target.fields(group)), "arrays": len(shards)},
        )

    def settle_part(self, context: Context[ForecastRecipe]) -> object:
        return context.recipe.regrid.conservation

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Assemble and look at every grid; publish all of them, or none."""
        recipe, template = context.recipe, load(context)
        status = str(published(context, scope).metrics.get("verdict", "accepted"))
        mine = {g.name: {k: r for k, r in records.items() if k.startswith(f"{scope}/{g.name}/")} for g in recipe.grids}
        targets = [target_of(template, recipe, spec) for spec in recipe.grids if mine[spec.name]]
        looked = _side_by_side(lambda t: _looked_at(context, template, scope, t, mine[t.spec.name]), targets)
        problems = [p for look in looked for p in look.problems]
        notes = [n for look in looked for n in look.notes]
        numbers = {look.target.spec.name: look.numbers for look in looked if look.numbers is not None}
        outputs = [_report(context, scope, problems, notes, numbers)]
        said = {"note": f"run {scope} of {recipe.name}, {'; '.join(notes)}"} if notes else {}
        if problems:
            more = f"; {len(problems) - 3} more in {outputs[0].uri}" if len(problems) > 3 else ""
            held = f"run {scope} of {recipe.name} is regridded but held back: {'; '.join(problems[:3])}{more}"
            return Produced(outputs=tuple(outputs), metrics={"problems": len(problems), **said}, held=held)

        def out(look: _Look) -> list[Output]:
            name = look.target.spec.name
            metadata = {"run": scope, "verdict": status, "grid": name, "notes": notes}
            return publish(
                context, look.cube, name, look.target.structure, scope, mine[name], status, metadata,
                shards=look.shards, made=look.made,
            )  # fmt: skip

        outputs += [o for published_now in _side_by_side(out, looked) for o in published_now]
        return Produced(outputs=tuple(outputs), metrics={"problems": 0, **said})


@dataclass(frozen=True)
class _Look:
    """A target grid whose run is assembled on its branch, and what was found there before publication."""

    target: Target
    cube: Cube
    shards: list[Output]
    problems: list[str]
    notes: list[str]
    numbers: dict[str, Any] | None
    made: dict[str, np.ndarray]


def _looked_at(
    context: Context[ForecastRecipe], template: Template, scope: str, target: Target, records: dict[str, Record]
) -> _Look:
    """Assemble a run on its branch of a target grid's cube, and look at it."""
    recipe, cube = context.recipe, context.lake.cube(target.path)
    assemble(context, cube, target.structure, scope, records)
    keys = [next(o.uri for o in r.outputs if not o.uri.startswith("fork:")) for r in records.values()]
    found = [unpack(d, k) for k, (d, _) in zip(keys, context.lake.objects.get_many(keys), strict=True)]
    shards = [s for _, written in found for s in written]
    wrong = incomplete(cube, target, scope, shards)
    if wrong:
        return _Look(target, cube, shards, wrong, [], None, {})
    weights = store.read(context.lake.url, request_of(template, recipe, target.spec).key)
    tallies = merged(t for t, _ in found)
    problems, numbers = judged(target, recipe, weights, tallies)
    made = statuses({n: t for n, t in tallies.items() if n not in {v.name for v in recipe.select.variables}})
    return _Look(target, cube, shards, problems, gaps(recipe, scope, target, tallies), numbers, made)


def _side_by_side[T, R](work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Results in order. Grids are cubes of their own, and most of the time spent on one is waiting for the store."""
    with ThreadPoolExecutor(max(1, min(_GRIDS_AT_ONCE, len(items)))) as pool:
        return list(pool.map(work, items))


def _limit(recipe: ForecastRecipe) -> int:
    """Bytes that a partition may take: what the recipe says, or what this worker has."""
    return int(recipe.regrid.memory_gb * 1e9) if recipe.regrid.memory_gb is not None else share()


def _projected(where: str, size: Size, group: Group, limit: int) -> tuple[int, list[str]]:
    """Projected memory of a group's partitions, and a sentence when they are made in several passes."""
    taken = passes(group, size, limit, where)
    whole, least = size.memory(group, group.items), max(size.memory(group, items) for items in taken)
    if len(taken) == 1:
        return whole, []
    said = f"in one it would take {amount(whole)}, the limit is {amount(limit)}, so it takes {amount(least)}"
    return least, [f"{where} is made in {len(taken)} passes over its source: {said}"]


def _partitions(
    scope: str,
    target: Target,
    group: Group,
    known: Mapping[str, Known],
    inputs: tuple[Input, ...],
    size: Size,
    memory: int,
) -> list[Partition]:
    """A partition per block of a group."""
    windows = {name: asdict(k) for name, k in known.items()}
    part = {
        "path": target.path,
        "items": [_definition(i) for i in group.items],
        "turned": group.turned,
        "known": windows,
    }
    return [
        Partition(
            key=f"{scope}/{target.spec.name}/{group.name}/{'-'.join(map(str, number))}",
            fingerprint=fingerprint(Regrid.version, part, inputs),
            inputs=inputs,
            params={"grid": target.spec.name, "group": group.name, "block": list(number), "known": windows},
            bytes=len(group.variables) * size.array,
            memory=memory,
        )
        for number in blocks(target.grid.shape, target.block(group))
    ]


def _definition(item: Item) -> object:
    """What decides the values of an item, as JSON values."""
    product = None if item.product is None else item.product.model_dump(mode="json")
    return [item.name, product, [s.model_dump(mode="json") for s in item.statistics]]


def _as_planned(partition: Partition) -> tuple[tuple[int, ...], dict[str, Known]]:
    """Number of the block and what is known of the variables, from a partition's parameters."""
    params: Any = partition.params
    known = {
        name: Known(k["units"], k["step_type"], k["rising"], tuple(tuple(w) if w else None for w in k["windows"]))
        for name, k in params["known"].items()
    }
    return tuple(params["block"]), known


def _refuse_other_products(cube: Cube, target: Target) -> None:
    """Raise ``UsageError`` where the cube holds a product under a name that now means another one."""
    try:
        there = {name: dict(array.attrs) for name, array in cube.group().arrays()}
    except NotFound:
        return
    for name, array in target.structure.arrays.items():
        if name not in there:
            continue
        for what in ("product", "units"):
            found, wanted = there[name].get(what), array.attributes.get(what)
            if found != wanted:
                raise UsageError(
                    f"{name} is another product in the runs that {cube.path} holds; give the new one another name",
                    expected=f"{what} {found}",
                    found=wanted,
                )


def _tally_key(fork: str) -> str:
    return f"{fork.removesuffix('.fork')}.tally.npz"


def _report(
    context: Context[ForecastRecipe], scope: str, problems: list[str], notes: list[str], numbers: dict[str, Any]
) -> Output:
    """What was looked at before publication, as JSON beside the verdict of validation."""
    document = {"run": scope, "problems": problems, "notes": notes, "grids": numbers}
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    key = f"verdicts/{context.recipe.name}/{scope}/regrid.json"
    return context.lake.write(key, data)
