"""Refine of a forecast: byte ranges are fetched, decoded and written as whole shards of the run's branch."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..lake.cube_template import ArrayTemplate, CubeTemplate
from ..lake.errors import CorruptInput, UsageError
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import decode, manifest
from .archive import Archive
from .branch import assemble
from .ingest import manifest_keys
from .quarantine import Collector, verify_digest
from .recipe import ForecastRecipe, Variable
from .redriven import overridden
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
        template = load(context)
        cube = template.cube(recipe)
        layout = recipe.part("layout") | {"path": refined_path(recipe, cube), "steps": lead_times(recipe)}
        partitions = []
        for block in _blocks(recipe, cube):
            variable = block.variable
            found = _block_rows(rows, block)
            inputs = (Input(f"manifest:{variable.name}", _digest(found)),)
            part = layout | {"variable": {"levels": variable.levels, "keep_bits": variable.keep_bits}}
            if recipe.checks.damaged != "refuse":
                part = part | {"damaged": recipe.checks.damaged}
            partitions.append(
                Partition(
                    key=block_key(scope, variable.name, block.member, block.level),
                    fingerprint=fingerprint(self.version, part, inputs),
                    inputs=inputs,
                    params={"variable": variable.name, "member": block.member, "level": block.level},
                    bytes=int(pc.sum(found["length"]).as_py() or 0),
                    memory=2 * 4 * int(np.prod(block.array.shards)) + _FETCHERS * 3 * 4 * template.grid.size,
                )
            )
        return ScopePlan(scope, tuple(partitions))

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        del partitions
        structure = load(context).cube(context.recipe)
        cube = refined_cube(context, structure)
        cube.ensure(structure)
        cube.begin(scope, index_of(context.recipe, parse_run(scope)))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        template = load(context)
        structure = template.cube(recipe)
        block = _block(recipe, structure, partition)
        rows = _block_rows(run_manifest(context, scope), block)
        damage = Collector(context, scope)
        values = _decoded(context, rows, block, template, structure, parse_run(scope), damage)
        if block.variable.keep_bits is not None:
            keep_bits(values, block.variable.keep_bits)
        index = index_of(recipe, parse_run(scope))
        cube = refined_cube(context, structure)
        with cube.fork(scope) as fork:
            fork.group[block.variable.name][(index, *block.where)] = values
        key = fork_key(recipe.name, partition.key)
        context.lake.objects.put(key, fork.data)
        digest = f"xxh3:{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values))}"
        return Produced(
            outputs=(
                Output(f"fork:{key}@{cube.path}#{cube.identity}", digest, values.nbytes),
                *damage.outputs(partition.key),
            ),
            metrics={
                "fields": len(rows),
                "bytes": int(pc.sum(rows["length"]).as_py() or 0),
                "shard": block.array.chunk_key(block.variable.name, index, *block.shard),
            },
        )

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Assemble the run's branch, where validation (or a person) reads it."""
        structure = load(context).cube(context.recipe)
        snapshot = assemble(context, refined_cube(context, structure), structure, scope, records)
        return Produced(metrics={"snapshot": snapshot})


def block_key(scope: str, variable: str, member: int | None, level: float | None) -> str:
    """Key of a refine partition: ``2026-11-20T00/t-m02-l0500``."""
    of_member = "" if member is None else f"-m{member:02d}"
    at_level = "" if level is None else f"-l{level:g}"
    return f"{scope}/{variable}{of_member}{at_level}"


def fork_key(recipe: str, partition: str) -> str:
    """Where the fork of a refine partition lies in the lake."""
    return f"staging/{recipe}/refined/{partition}.fork"


def run_manifest(context: Context[ForecastRecipe], scope: str) -> pa.Table:
    """The manifest of a whole run, as ingest recorded it. Raises ``UsageError`` when ingest is not done."""
    known = context.ledger.read_all("ingest", scope)
    records = {k: r for k, r in known.items() if r.status is Status.DONE}
    settled = records.pop(f"{scope}/{SETTLE}", None)
    steps = steps_of(context.recipe, parse_run(scope))
    lacking = [s for s in steps if f"{scope}/step-{s:03d}" not in records]
    if settled is None or (lacking and not context.recipe.runs.partial):
        what = f"{len(lacking)} of {len(steps)} steps are missing" if lacking else "its ingest did not end"
        raise UsageError(
            f"run {scope} of {context.recipe.name} is not ingested ({what}); "
            f"run first: python -m flows.ingest {context.recipe.name} --run {scope}"
        )
    if settled.held:
        raise UsageError(settled.held)
    mine = [records[k] for k in (f"{scope}/step-{s:03d}" for s in steps) if k in records]
    digests = {o.uri: o.digest for r in mine for o in r.outputs}
    keys = manifest_keys(mine)
    return overridden(context, scope, _stacked(context.lake.url, tuple((k, digests[k]) for k in keys)))


@lru_cache(maxsize=2)
def _stacked(lake: str, manifests: tuple[tuple[str, str], ...]) -> pa.Table:
    """Manifests (key, digest on record) as one table. Kept: every partition that a worker does of a run asks for it."""
    keys = [key for key, _ in manifests]
    found = Lake(lake).objects.get_many(keys)
    return manifest.concatenated([manifest.read(data, key) for key, (data, _) in zip(keys, found, strict=True)])


@dataclass(frozen=True, slots=True)
class Block:
    """One shard of the cube: a variable, for one member where there are any, at one level or at all of them.

    ``where`` is its place in the array after init_time, ``shard`` its number along each of those dimensions.
    """

    variable: Variable
    member: int | None
    level: float | None
    array: ArrayTemplate
    where: tuple[int | slice, ...]
    shard: tuple[int, ...]


def _block(recipe: ForecastRecipe, cube: CubeTemplate, partition: Partition) -> Block:
    name, member, level = (partition.params[k] for k in ("variable", "member", "level"))
    return next(b for b in _blocks(recipe, cube) if (b.variable.name, b.member, b.level) == (name, member, level))


def _blocks(recipe: ForecastRecipe, cube: CubeTemplate) -> Iterator[Block]:
    """Every block of a run, in a stable order."""
    for variable in recipe.select.variables:
        array = cube.arrays[variable.name]
        layered = "level" in array.dims
        by_level = layered and array.shards[array.dims.index("level")] == 1
        for m, member in enumerate(recipe.select.members) if recipe.select.members is not None else [(0, None)]:
            for n, level in enumerate(variable.levels) if by_level else [(0, None)]:
                where: list[int | slice] = [slice(None)]
                shard = [0]
                if member is not None:
                    where.append(m)
                    shard.append(m)
                if layered:
                    where.append(n if by_level else slice(None))
                    shard.append(n)
                shard += [0] * (len(array.dims) - len(shard))
                yield Block(variable, member, level, array, tuple(where), tuple(shard))


def _block_rows(rows: pa.Table, block: Block) -> pa.Table:
    """The rows of a manifest that a block is made of, by lead time and level."""
    rows = rows.filter(pc.equal(rows["variable"].cast(pa.string()), block.variable.name))
    if block.member is not None:
        rows = rows.filter(pc.equal(rows["member"], block.member))
    if block.level is not None:
        rows = rows.filter(pc.equal(rows["level"], block.level))
    return rows.sort_by([("lead_time", "ascending"), ("level", "ascending")])


def _digest(rows: pa.Table) -> str:
    """What of a manifest decides the values: which bytes, and which field they are.

    A copy is known by its messages' digests, wherever in the lake they lie; bytes that stay at the provider by their
    place and the version of the object there.
    """
    columns = ["lead_time", "level", "length", "sub", "etag"]
    if any("://" in str(url) for url in rows["url"].unique().to_pylist()):
        columns += ["url", "offset"]
    return digest_bytes(repr([rows[c].to_pylist() for c in columns]).encode())


def _decoded(
    context: Context[ForecastRecipe],
    rows: pa.Table,
    block: Block,
    template: Template,
    structure: CubeTemplate,
    run: datetime,
    damage: Collector,
) -> np.ndarray:
    """A block's values, float32 (lead_time, [level], *grid) in the cube's order; NaN where the manifest has no row.

    Fields are fetched and decoded side by side, each straight into its place: decoding releases the GIL, and
    waiting for one message leaves time for the next.
    """
    archive = Archive(context)
    levels = {v: i for i, v in enumerate(block.variable.levels)} if block.level is None else {}
    layered = "level" in block.array.dims and block.level is None
    steps = {hours: i for i, hours in enumerate(structure.lead_time)}
    values = np.full((len(steps), len(levels) if layered else 1, *template.grid.shape), np.nan, "float32")
    learnt = template.variables[block.variable.name]

    def one(row: dict[str, Any]) -> None:
        lead: timedelta = row["lead_time"]
        target = values[steps[int(lead.total_seconds() // 3600)], levels[row["level"]] if layered else 0]

        def use(message: bytes) -> None:
            where = f"{row['url']} at {row['offset']}"
            verify_digest(message, row["etag"], where)
            decode.verify(message)
            _agree(decode.header(message, row["sub"]), row, learnt, run, where)
            decode.decode(message, row["sub"], out=target)

        if not damage.guarded(row, lambda: archive.fetch(row["url"], row["offset"], row["length"]), use):
            target[:] = np.nan

    with ThreadPoolExecutor(_FETCHERS) as pool:
        for _ in pool.map(one, rows.to_pylist()):
            pass
    _, order = ordered(template.grid, context.recipe)
    values = order(values)
    return values if layered else values[:, 0]


def _agree(header: decode.Header, row: dict[str, Any], learnt: Learnt, run: datetime, where: str) -> None:
    """The message is the field that the index said: its own header is believed, and nothing else."""
    pairs: dict[str, tuple[object, object]] = {
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
