"""Refine of a scene: whole chunks of the source are decoded once and written as whole shards of the store."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from ..lake.errors import CorruptInput
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from .conventions import axis_document, coordinates, other_axes
from .layout import Cut, keys_within, spans
from .manifest import Reader
from .performance import watch
from .recipe import SceneRecipe
from .scopes import ingested_scopes
from .shards import Encoder, form
from .structure import Band, Structure, structure
from .zarr_array import chunk_key, dtype, write


class Refine(Phase[SceneRecipe]):
    """Partition: item x group x band x row of blocks. Output: shards below ``scenes/...``, with their SHA-256."""

    name = "refine"
    version = "1"
    batch_bytes = 2**30
    batch_count = 16

    def scopes(self, context: Context[SceneRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[SceneRecipe], scope: str) -> ScopePlan:
        built = structure(context.lake, context.recipe, scope)
        return ScopePlan(scope, tuple(p for band in built.own() for p in _partitions(self.version, built, band)))

    def process(self, context: Context[SceneRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        if recipe.outputs.report:
            watch()
        built = structure(context.lake, recipe, scope)
        band = built.bands[str(partition.params["band"])]
        row = int(str(partition.params["row"]))
        reader = Reader(context.lake, built.manifests[band.group], recipe.source.tries)
        y, x = band.cuts
        top, bottom = row * y.block, min((row + 1) * y.block, y.length)
        outputs: list[Output] = []
        without = 0
        convert, encoder = _converter(band), Encoder(form(band.document))
        steps = tuple(_step(c, n) for c, n in zip(band.cuts, band.source.chunks[-2:], strict=True))
        for left, right in spans(x.length, x.block):
            for first, last, start, stop in _pieces((top, bottom), (left, right), steps):
                values = _source(reader, band, (first, last), (start, stop))
                corner = (*(0 for _ in band.shape[:-2]), first, start)
                for chunk in encoder.form.within(corner, (*band.shape[:-2], last, stop)):
                    rows, columns = encoder.form.where(chunk)[-2:]
                    part = values[
                        ..., rows.start - first : rows.stop - first, columns.start - start : columns.stop - start
                    ]
                    stored, empty = convert(part)
                    encoder.put(chunk, stored)
                    without += empty
                del values
            outputs += store(context.lake, f"{built.prefix(recipe.name)}/{band.path}", encoder.shards())
        pixels = int(np.prod(band.shape[:-2])) * (bottom - top) * x.length
        return Produced(tuple(outputs), {"pixels": pixels, "nodata": without, "bytes": sum(o.bytes for o in outputs)})

    def settle(self, context: Context[SceneRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Write the coordinates of every level."""
        recipe = context.recipe
        built = structure(context.lake, recipe, scope)
        prefix = built.prefix(recipe.name)
        outputs: list[Output] = []
        for level in built.levels.values():
            for name, (document, values) in coordinates(level).items():
                objects = write(document, tuple(slice(None) for _ in values.shape), values)
                outputs += store(context.lake, f"{prefix}/{level.path}/{name}", objects.items())
            for group, name, path in other_axes(built, level):
                reader = Reader(context.lake, built.manifests[group], recipe.source.tries)
                values = reader.region(name, (slice(None),), list(built.manifests[group].arrays[name].objects))
                objects = write(axis_document(built.manifests[group].arrays[name]), (slice(None),), values)
                outputs += store(context.lake, f"{prefix}/{path}", objects.items())
        return Produced(tuple(outputs), {"levels": len(built.levels)})

    def settle_part(self, context: Context[SceneRecipe]) -> object:
        return context.recipe.part("overviews")


def block_key(scene: str, band: Band, row: int) -> str:
    """Partition of a row of blocks of a band: ``<item>/measurements/reflectance/r10m/b02/0``."""
    return f"{scene}/{band.group}/{band.name}/{row}"


def _partitions(version: str, built: Structure, band: Band) -> list[Partition]:
    chunks = dict(sorted(band.source.objects.items()))
    inputs = tuple(Input(f"{band.group}/{band.name}/{k}", s.digest or s.version) for k, s in chunks.items())
    inputs += tuple(Input(f"{band.group}/{band.name}/{k}:size", str(s.size)) for k, s in chunks.items())
    size = sum(s.size for s in chunks.values()) // max(1, band.cuts[0].blocks)
    y, x = band.cuts
    held = int(np.prod(band.shape[:-2])) * min(y.block, y.length) * min(x.block, x.length)
    # The version of the store says which source and layout it is of; a part of the recipe is not needed beside it.
    part = [built.version, band.path]
    return [
        Partition(
            key=block_key(built.scene, band, row),
            fingerprint=fingerprint(version, [*part, row], inputs),
            inputs=inputs,
            params={"band": band.path, "row": row},
            bytes=size,
            memory=held * (band.stored.itemsize * 2 + 2),
        )
        for row in range(y.blocks)
    ]


def _source(reader: Reader, band: Band, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    leading = band.source.shape[:-2]
    start, stop = (*(0 for _ in leading), rows[0], columns[0]), (*leading, rows[1], columns[1])
    indices = keys_within(start, stop, band.source.chunks)
    where = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return reader.region(band.name, where, [chunk_key(band.source.document, i) for i in indices])


def _step(cut: Cut, source: int) -> int:
    """Pixels along an axis that are decoded at once: a chunk of the source where no chunk of ours needs two of them."""
    return source if source < cut.block and source % cut.chunk == 0 else cut.block


def _pieces(
    rows: tuple[int, int], columns: tuple[int, int], steps: tuple[int, ...]
) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of the parts of a block that are decoded one after the other."""
    for a, b in spans(rows[1] - rows[0], steps[0]):
        for c, d in spans(columns[1] - columns[0], steps[1]):
            yield rows[0] + a, rows[0] + b, columns[0] + c, columns[0] + d


def _converter(band: Band) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    """What makes of the source's values those that are stored, and counts how many of them are without data.

    Decoded values are float32(stored * scale_factor + add_offset), reckoned in float64 (CF conventions, 8.1).
    """
    nodata = None if band.source_nodata is None or np.isnan(band.source_nodata) else band.source_nodata
    scale, offset = band.scale if band.scale is not None else 1.0, band.offset or 0.0
    own = dtype(band.source.document).newbyteorder("=")

    def none(values: np.ndarray) -> np.ndarray | None:
        empty = np.isnan(values) if values.dtype.kind == "f" else None
        if nodata is None:
            return empty
        return values == nodata if empty is None else empty | (values == nodata)

    def packed(values: np.ndarray) -> tuple[np.ndarray, int]:
        empty = none(values)
        return values.astype(band.stored, copy=False), 0 if empty is None else int(np.count_nonzero(empty))

    def reckoned(values: np.ndarray) -> tuple[np.ndarray, int]:
        empty = none(values)
        out = (values.astype("f8") * scale + offset).astype("f4")
        if empty is None:
            return out, 0
        out[empty] = np.nan
        return out, int(np.count_nonzero(empty))

    if not band.decoded:
        return packed
    if own.itemsize > 2:
        return reckoned
    # There are at most 65,536 different values: a table is ten times quicker than arithmetic on each pixel.
    info = np.iinfo(own)
    table = (np.arange(info.min, info.max + 1, dtype="f8") * scale + offset).astype("f4")
    if nodata is not None:
        table[int(nodata) - info.min] = np.nan

    def looked_up(values: np.ndarray) -> tuple[np.ndarray, int]:
        empty = none(values)
        index = values if info.min == 0 else values.astype("i4") - info.min
        return table[index], 0 if empty is None else int(np.count_nonzero(empty))

    return looked_up


def store(lake: Lake, path: str, objects: Iterable[tuple[str, bytes | memoryview]]) -> Sequence[Output]:
    """Put an array's objects into the lake, one after the other; what to record of them."""
    outputs = []
    for key, data in objects:
        # Any buffer will do, and is written by the time this returns.
        outputs.append(lake.write(f"{path}/{key}", cast("bytes", data)))
    if not outputs:
        raise CorruptInput(f"{path} came to nothing: no object was encoded")
    return outputs
