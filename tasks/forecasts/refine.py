"""Refine of a forecast: byte ranges are fetched, decoded and written as whole shards of the run's branch."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..lake.cube_template import CubeTemplate
from ..lake.errors import CorruptInput, UsageError
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import decode, manifest
from .archive import Archive
from .branch import assemble
from .recipe import ForecastRecipe, Variable
from .rounding import keep_bits
from .runs import index_of, ingested_scopes, lead_times, parse_run, steps_of
from .template import Learnt, Template, load, ordered, refined_cube, refined_path

_FETCHERS = 8


class Refine(Phase[ForecastRecipe]):
    """Partition: run x variable x member (x level): one shard of the cube, written by one task.

    Output: a *fork* under ``staging/`` (see `lake.cubes`), whose digest is that of the values.
    """

    name = "refine"
    version = "1"
    batch_bytes = 512 * 2**20
    batch_count = 8

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        rows = run_manifest(context, scope)
        template = load(context, rows)
        cube = template.cube(recipe)
        layout = recipe.part("layout") | {"path": refined_path(recipe, cube), "steps": lead_times(recipe)}
        partitions = []
        for variable in recipe.select.variables:
            mine = rows.filter(pc.equal(rows["variable"].cast(pa.string()), variable.name))
            array = cube.arrays[variable.name]
            shard = 4 * int(np.prod(array.shards))
            for member, level in _blocks(variable, recipe, cube):
                found = _block_rows(mine, member, level)
                inputs = (Input(f"manifest:{variable.name}", _digest(found)),)
                part = layout | {"variable": {"levels": variable.levels, "keep_bits": variable.keep_bits}}
                size = int(pc.sum(found["length"]).as_py() or 0)
                partitions.append(
                    Partition(
                        key=block_key(scope, variable.name, member, level),
                        fingerprint=fingerprint(self.version, part, inputs),
                        inputs=inputs,
                        params={"variable": variable.name, "member": member, "level": level},
                        bytes=size,
                        memory=2 * shard + _FETCHERS * 4 * template.grid.size * 3,
                    )
                )
        return ScopePlan(scope, tuple(partitions))

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        del partitions
        template = load(context, run_manifest(context, scope))
        template.store(context)
        structure = template.cube(context.recipe)
        cube = refined_cube(context, structure)
        cube.ensure(structure)
        cube.begin(scope, index_of(context.recipe, parse_run(scope)))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        name = str(partition.params["variable"])
        member, level = partition.params["member"], partition.params["level"]
        variable = next(v for v in recipe.select.variables if v.name == name)
        template = load(context)
        structure = template.cube(recipe)
        array = structure.arrays[name]
        rows = run_manifest(context, scope)
        rows = _block_rows(rows.filter(pc.equal(rows["variable"].cast(pa.string()), name)), member, level)
        slab = np.full(
            (
                len(structure.lead_time),
                max(1, array.shards[_level_at(array.dims)]) if "level" in array.dims else 1,
                *template.grid.shape,
            ),
            np.nan,
            "float32",
        )
        _fill(context, slab, rows, variable, template, structure, parse_run(scope), level)
        grid, order = ordered(template.grid, recipe)
        slab = order(slab)
        if variable.keep_bits is not None:
            keep_bits(slab, variable.keep_bits)
        index = index_of(recipe, parse_run(scope))
        cube = refined_cube(context, structure)
        identity = cube.identity
        where: list[int | slice] = [index, slice(None)]
        shard = [0]
        if recipe.select.members is not None:
            where.append(recipe.select.members.index(int(str(member))))
            shard.append(where[-1])
        if "level" in array.dims:
            where.append(slice(None) if level is None else variable.levels.index(float(str(level))))
            shard.append(0 if level is None else where[-1])
        shard += [0] * len(grid.shape)
        if "level" not in array.dims or level is not None:
            slab = slab[:, 0]
        with cube.fork(scope) as fork:
            fork.group[name][tuple(where)] = slab
        key = fork_key(recipe.name, partition.key)
        context.lake.objects.put(key, fork.data)
        digest = f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(slab))}"
        return Produced(
            outputs=(Output(f"fork:{key}@{cube.path}#{identity}", digest, slab.nbytes),),
            metrics={
                "fields": len(rows),
                "bytes": int(pc.sum(rows["length"]).as_py() or 0),
                "shard": array.chunk_key(name, index, *shard),
            },
        )

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Assemble the run's branch, where validation (or a person) reads it."""
        structure = load(context).cube(context.recipe)
        snapshot = assemble(context, refined_cube(context, structure), structure, scope, records)
        return Produced(metrics={"snapshot": snapshot})


def block_key(scope: str, variable: str, member: object, level: object) -> str:
    """Key of a refine partition: ``2026-11-20T00/t-m02-l0500``."""
    member = "" if member is None else f"-m{member:02d}"
    level = "" if level is None else f"-l{level:g}"
    return f"{scope}/{variable}{member}{level}"


def fork_key(recipe: str, partition: str) -> str:
    """Where the fork of a refine partition lies in the lake."""
    return f"staging/{recipe}/refined/{partition}.fork"


def run_manifest(context: Context[ForecastRecipe], scope: str) -> pa.Table:
    """The manifest of a whole run, as ingest recorded it. Raises ``UsageError`` when ingest is not done."""
    records = {k: r for k, r in context.ledger.read_all("ingest", scope).items() if r.status is Status.DONE}
    steps = steps_of(context.recipe, parse_run(scope))
    lacking = [s for s in steps if f"{scope}/step-{s:03d}" not in records]
    if lacking:
        raise UsageError(
            f"run {scope} of {context.recipe.name} is not ingested ({len(lacking)} of {len(steps)} steps are missing); "
            f"run first: python -m flows.ingest {context.recipe.name} --run {scope}"
        )
    keys = [records[f"{scope}/step-{s:03d}"].outputs[0].uri for s in steps]
    parts = [manifest.read(data, key) for key, (data, _) in zip(keys, context.lake.objects.get_many(keys), strict=True)]
    return pa.concat_tables(parts).unify_dictionaries()


def _blocks(variable: Variable, recipe: ForecastRecipe, cube: CubeTemplate):
    array = cube.arrays[variable.name]
    by_level = "level" in array.dims and array.shards[_level_at(array.dims)] == 1
    for member in recipe.select.members or (None,):
        for level in variable.levels if by_level else (None,):
            yield member, level


def _level_at(dims: Sequence[str]) -> int:
    return dims.index("level") if "level" in dims else 0


def _block_rows(rows: pa.Table, member: object, level: object) -> pa.Table:
    if member is not None:
        rows = rows.filter(pc.equal(rows["member"], member))
    if level is not None:
        rows = rows.filter(pc.equal(rows["level"], level))
    return rows.sort_by([("lead_time", "ascending"), ("level", "ascending")])


def _digest(rows: pa.Table) -> str:
    """What of a manifest decides the values: where the bytes are, and which version of them."""
    columns = ["lead_time", "level", "url", "offset", "length", "sub", "etag"]
    table = rows.select(columns)
    return digest_bytes(repr([table[c].to_pylist() for c in columns]).encode())


def _fill(
    context: Context[ForecastRecipe], slab: np.ndarray, rows: pa.Table, variable: Variable, template: Template,
    structure: CubeTemplate, run, level: object,
) -> None:  # fmt: skip
    """Fetch and decode every row into its place of ``slab`` (lead_time, level, *grid)."""
    archive = Archive(context)
    place = {hours: i for i, hours in enumerate(structure.lead_time)}
    levels = {v: i for i, v in enumerate(variable.levels)} if len(variable.levels) > 1 and level is None else {}
    learnt = template.variables[variable.name]

    def one(row: dict) -> None:
        lead: timedelta = row["lead_time"]
        store, key = archive.resolve(row["url"])
        message = store.get_range(key, row["offset"], row["length"])
        where = f"{row['url']} at {row['offset']}"
        decode.verify(message)
        _agree(decode.header(message, row["sub"]), row, learnt, run, where)
        target = slab[place[int(lead.total_seconds() // 3600)], levels.get(row["level"], 0)]
        decode.decode(message, row["sub"], out=target)

    with ThreadPoolExecutor(_FETCHERS) as pool:
        for _ in pool.map(one, rows.to_pylist()):
            pass


def _agree(header: decode.Header, row: dict, learnt: Learnt, run, where: str) -> None:
    """The message is the field that the index said: its own header is believed, and nothing else."""
    pairs = {
        "init_time": (run, header.init_time),
        "variable": (learnt.short_name, header.short_name),
        "units": (learnt.units, header.units),
        "lead_time": (row["lead_time"], timedelta(hours=header.end_step)),
    }
    if row["level_type"] == "isobaricInhPa":
        pairs["level"] = (row["level"], header.level)
    if row["member"] is not None and header.member is not None:
        pairs["member"] = (row["member"], header.member)
    for what, (wanted, found) in pairs.items():
        if wanted != found:
            raise CorruptInput(
                f"the index disagrees with the message at {where} on {what}", expected=wanted, found=found
            )
