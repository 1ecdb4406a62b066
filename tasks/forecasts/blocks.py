"""Blocks of a refined cube: the shards of a run, each made by one partition of refine."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..lake.cube_template import ArrayTemplate, CubeTemplate
from ..lake.partition import Partition, digest_bytes
from .recipe import ForecastRecipe
from .selection import Variable


@dataclass(frozen=True, slots=True)
class Block:
    """One shard of the cube: a variable, for one member where there are any, at one level or at all of them.

    ``where`` is its place in the array after init_time, ``shard`` its number along each of those dimensions.
    """

    variable: Variable
    member: int | None
    level: float | None
    array: ArrayTemplate
    where: tuple[slice, ...]
    shard: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block's values, in the order of the array's dimensions after init_time."""
        return tuple(n if at == slice(None) else 1 for n, at in zip(self.array.shape, self.where, strict=True))

    @property
    def kept_bits(self) -> int | None:
        """Mantissa bits that are kept; None keeps all."""
        return self.array.attributes.get("keep_bits")

    @property
    def layered(self) -> bool:
        """Whether the block holds several levels."""
        return "level" in self.array.dims and self.level is None


def blocks(recipe: ForecastRecipe, cube: CubeTemplate) -> Iterator[Block]:
    """Every block of a run, in a stable order."""
    for variable in recipe.select.variables:
        array = cube.arrays[variable.name]
        layered = "level" in array.dims
        by_level = layered and array.shards[array.dims.index("level")] == 1
        for m, member in enumerate(recipe.select.members) if recipe.select.members is not None else [(0, None)]:
            for n, level in enumerate(variable.levels) if by_level else [(0, None)]:
                numbers = {"member": m} if member is not None else {}
                if by_level:
                    numbers["level"] = n
                where = tuple(_one(numbers[d]) if d in numbers else slice(None) for d in array.dims)
                shard = tuple(numbers.get(d, 0) for d in array.dims)
                yield Block(variable, member, level, array, where, shard)


def block_of(recipe: ForecastRecipe, cube: CubeTemplate, partition: Partition) -> Block:
    """The block that a partition of refine makes."""
    name, member, level = (partition.params[k] for k in ("variable", "member", "level"))
    return next(b for b in blocks(recipe, cube) if (b.variable.name, b.member, b.level) == (name, member, level))


def block_key(scope: str, variable: str, member: int | None, level: float | None) -> str:
    """Key of a refine partition: ``2026-11-20T00/t-m02-l0500``."""
    of_member = "" if member is None else f"-m{member:02d}"
    at_level = "" if level is None else f"-l{level:g}"
    return f"{scope}/{variable}{of_member}{at_level}"


def rows_of(rows: pa.Table, block: Block) -> pa.Table:
    """The rows of a manifest that a block is made of, by lead time and level."""
    rows = rows.filter(pc.equal(rows["variable"].cast(pa.string()), block.variable.name))
    if block.member is not None:
        rows = rows.filter(pc.equal(rows["member"], block.member))
    if block.level is not None:
        rows = rows.filter(pc.equal(rows["level"], block.level))
    return rows.sort_by([("lead_time", "ascending"), ("level", "ascending")])


def with_rows(recipe: ForecastRecipe, cube: CubeTemplate, rows: pa.Table) -> Iterator[tuple[Block, pa.Table]]:
    """Every block of a run with its rows (see `rows_of`), sorted once for all of them."""
    every = list(blocks(recipe, cube))
    by_level = {b.variable.name for b in every if b.level is not None}
    rows = rows.unify_dictionaries().combine_chunks()
    names = rows["variable"].chunk(0).dictionary.to_pylist() if len(rows) else []
    variable = rows["variable"].chunk(0).indices.to_numpy() if len(rows) else np.empty(0, np.int32)
    member, level = (rows[c].cast(pa.float64()).to_numpy() for c in ("member", "level"))
    member, level = np.nan_to_num(member, nan=-1.0), np.nan_to_num(level, nan=0.0)
    # Levels tell blocks apart only of variables with a block a level; of the others they are sorted last.
    apart = np.where(np.isin(variable, [i for i, n in enumerate(names) if n in by_level]), level, 0.0)
    lead = rows["lead_time"].cast(pa.int64()).to_numpy()
    if recipe.select.members is None:
        member = np.full_like(member, -1.0)
    order = np.lexsort((level, lead, apart, member, variable))
    keys = np.stack([variable[order].astype("float64"), member[order], apart[order]])
    starts = np.flatnonzero(np.r_[True, (np.diff(keys) != 0).any(axis=0)]) if len(rows) else np.empty(0, np.int64)
    ends = np.r_[starts[1:], len(rows)]
    spans = {
        (names[int(keys[0, a])], keys[1, a], keys[2, a]): (int(a), int(b)) for a, b in zip(starts, ends, strict=True)
    }
    ordered = rows.take(pa.array(order))
    for block in every:
        key = (block.variable.name, -1.0 if block.member is None else block.member, block.level or 0.0)
        first, last = spans.get(key, (0, 0))
        yield block, ordered.slice(first, last - first)


def digest(rows: pa.Table) -> str:
    """What of a manifest decides the values: which bytes, and which field they are.

    A copy is known by its messages' digests, wherever in the lake they lie; bytes that stay at the provider by their
    place and the version of the object there.
    """
    columns = ["lead_time", "level", "length", "sub", "etag"]
    if any("://" in str(url) for url in rows["url"].unique().to_pylist()):
        columns += ["url", "offset"]
    return digest_bytes(repr([rows[c].to_pylist() for c in columns]).encode())


def size(block: Block) -> int:
    """Bytes of a block's values as they are decoded."""
    return 4 * int(np.prod(block.shape))


def _one(number: int) -> slice:
    # A slice, not a number: Zarr then takes the values of a whole shard as they are, without a copy.
    return slice(number, number + 1)
