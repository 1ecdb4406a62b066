"""Refine of a forecast: byte ranges are fetched, decoded and written as whole shards of the run's branch."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..lake.errors import CorruptInput, ResourceError, UsageError
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import blocks, decode, manifest, slab
from .archive import Archive
from .branch import assemble
from .decoders import Decoders, guarded
from .ingest import manifest_keys
from .message import without_data
from .metadata import departures
from .quarantine import Collector, verify_digest
from .recipe import ForecastRecipe
from .redriven import overridden
from .regrid_plan import amount
from .runs import index_of, ingested_scopes, lead_times, parse_run, steps_of
from .template import Learnt, Template, load, ordered, refined_cube, refined_path
from .worker_memory import share


class Refine(Phase[ForecastRecipe]):
    """Partition: run x variable x member (x level): one shard of the cube, written by one task.

    Output: a *fork* under ``staging/`` (see `lake.cubes`), whose digest is that of the values.
    """

    name = "refine"
    version = "1"
    batch_bytes = 512 * 2**20
    batch_count = 8

    def __init__(self) -> None:
        # As long as the batch: what it held is free once another phase begins.
        self._slabs = slab.Slabs()

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        rows = run_manifest(context, scope)
        template = load(context)
        cube = template.cube(recipe)
        layout = recipe.part("layout") | {"path": refined_path(recipe, cube), "steps": lead_times(recipe)}
        # How bits are chosen is told by those of each variable.
        layout["layout"] = {k: v for k, v in layout["layout"].items() if k != "rounding"}
        partitions = []
        for block, found in blocks.with_rows(recipe, cube, rows):
            variable = block.variable
            inputs = (Input(f"manifest:{variable.name}", blocks.digest(found)),)
            compressed = int(pc.sum(found["length"]).as_py() or 0)
            part = layout | {"variable": {"levels": variable.levels, "keep_bits": block.kept_bits}}
            if variable.packed is not None:
                part["variable"]["packed"] = variable.packed.model_dump()
            if recipe.checks.damaged != "refuse":
                part = part | {"damaged": recipe.checks.damaged}
            partitions.append(
                Partition(
                    key=blocks.block_key(scope, variable.name, block.member, block.level),
                    fingerprint=fingerprint(self.version, part, inputs),
                    inputs=inputs,
                    params={"variable": variable.name, "member": block.member, "level": block.level},
                    bytes=compressed,
                    memory=slab.memory(blocks.size(block), len(found), template.grid.size, compressed),
                )
            )
        return ScopePlan(scope, tuple(partitions), tuple(_notes(template, recipe, partitions)))

    def prepare(self, context: Context[ForecastRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        del partitions
        structure = load(context).cube(context.recipe)
        cube = refined_cube(context, structure)
        cube.ensure(structure)
        cube.begin(scope, index_of(context.recipe, parse_run(scope)))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        run = parse_run(scope)
        template = load(context)
        structure = template.cube(recipe)
        block = blocks.block_of(recipe, structure, partition)
        rows = blocks.rows_of(run_manifest(context, scope), block)
        _refuse_too_large(partition)
        learnt = template.variables[block.variable.name]
        levels = {v: i for i, v in enumerate(block.variable.levels)} if block.layered else {}
        steps = {hours: i for i, hours in enumerate(structure.lead_time)}

        def place(row: Mapping[str, Any]) -> tuple[int, int]:
            return steps[int(row["lead_time"].total_seconds() // 3600)], levels.get(row["level"], 0)

        def checked(row: Mapping[str, Any], message: bytes) -> bytes:
            where = f"{row['url']} at {row['offset']}"
            verify_digest(message, row["etag"], where)
            decode.verify(message)
            _agree(_header(decoders, message, row["sub"]), row, learnt, run, where)
            return message

        damage, decoders = Collector(context, scope), guarded(partition)
        grid, order = ordered(template.grid, recipe)
        index = index_of(recipe, run)
        cube = refined_cube(context, structure)
        with self._slabs.of(block.shape) as values:
            fields = values.reshape(len(steps), -1, *grid.shape)
            slab.fill(
                fields,
                rows,
                Archive(context),
                place,
                template.grid.shape,
                order,
                block.kept_bits,
                damage,
                checked,
                decoders,
            )
            _refuse_unfit(values, block)
            with cube.fork(scope) as fork:
                fork.group[block.variable.name][(slice(index, index + 1), *block.where)] = values[None]
            digest = f"xxh3:{xxhash.xxh3_128_hexdigest(values)}"
            size = values.nbytes
        key = fork_key(recipe.name, partition.key)
        context.lake.objects.put(key, fork.data)
        return Produced(
            outputs=(
                Output(f"fork:{key}@{cube.path}#{cube.identity}", digest, size), *damage.outputs(partition.key),
            ),
            metrics={
                "fields": len(rows),
                "bytes": partition.bytes,
                "shard": block.array.chunk_key(block.variable.name, index, *block.shard),
                **decoders.metrics,
            },
        )  # fmt: skip

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Assemble the run's branch, where validation (or a person) reads it."""
        structure = load(context).cube(context.recipe)
        snapshot = assemble(context, refined_cube(context, structure), structure, scope, records)
        return Produced(metrics={"snapshot": snapshot})


def fork_key(recipe: str, partition: str) -> str:
    """Where the fork of a refine partition lies in the lake."""
    return f"staging/{recipe}/refined/{partition}.fork"


def run_manifest(context: Context[ForecastRecipe], scope: str) -> pa.Table:
    """The manifest of a whole run, as ingest recorded it. Raises ``UsageError`` when ingest is not done."""
    # Every partition of a worker asks. The settling's fingerprint follows what every step recorded: while it is the
    # same, so is the manifest.
    settling = context.ledger.read("ingest", f"{scope}/{SETTLE}")
    key = (context.lake.url, context.recipe.digest, scope)
    known = _runs.get(key)
    if known is None or settling is None or settling.held or known[0] != (settling.fingerprint, settling.finished):
        rows = _run_rows(context, scope)
        if settling is not None:
            _runs.clear()
            _runs[key] = (settling.fingerprint, settling.finished), rows
    else:
        rows = known[1]
    return overridden(context, scope, rows)


_runs: dict[tuple[str, str, str], tuple[tuple[Any, Any], pa.Table]] = {}
"""Lake, recipe, run -> the settling of its ingest, and its manifest; of the last run that was asked for."""


def _run_rows(context: Context[ForecastRecipe], scope: str) -> pa.Table:
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
    return _stacked(context.lake.url, tuple((k, digests[k]) for k in keys))


@lru_cache(maxsize=2)
def _stacked(lake: str, manifests: tuple[tuple[str, str], ...]) -> pa.Table:
    """Manifests (key, digest on record) as one table. Kept: every partition that a worker does of a run asks for it."""
    keys = [key for key, _ in manifests]
    found = Lake(lake).objects.get_many(keys)
    return manifest.concatenated([manifest.read(data, key) for key, (data, _) in zip(keys, found, strict=True)])


def _notes(template: Template, recipe: ForecastRecipe, partitions: Sequence[Partition]) -> Iterator[str]:
    """What a person should know before it begins."""
    for sentence in departures(template, recipe):
        yield f"not as in deployments/templates/{recipe.name}: {sentence}"
    largest = max((p.memory for p in partitions), default=0)
    if largest > share():
        yield (
            f"a block needs {amount(largest)}, more than a worker of this machine has for it ({amount(share())}): "
            "select fewer levels or a box (--level, --bbox), or take a cluster with larger workers"
        )


def _refuse_too_large(partition: Partition) -> None:
    if partition.memory > share():
        raise ResourceError(
            "the block needs more memory than a worker has for a partition",
            partition=partition.key,
            expected=f"at most {amount(share())}",
            found=amount(partition.memory),
        )


def _refuse_unfit(values: np.ndarray, block: blocks.Block) -> None:
    """Values that a packed variable cannot hold are an error, never cut off."""
    if block.variable.packed is None:
        return
    least, largest = block.variable.packed.range
    low, high = (float(f.reduce(values, axis=None, initial=block.variable.packed.offset)) for f in (np.fmin, np.fmax))
    if not (least <= low and high <= largest):
        raise CorruptInput(
            f"{block.variable.name} has values that its packing cannot hold",
            expected=f"{least:g} to {largest:g}",
            found=f"{low:g} to {high:g}",
        )


def _header(decoders: Decoders, message: bytes, sub: int) -> decode.Header:
    # Read without the data, which ecCodes would copy.
    start = without_data(message) if sub == 0 else None
    return decoders.header(message, sub) if start is None else decoders.header(start)


def _agree(header: decode.Header, row: Mapping[str, Any], learnt: Learnt, run: datetime, where: str) -> None:
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
