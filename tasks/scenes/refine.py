"""Refine of a scene: whole chunks of the source are decoded once and written as whole shards of the store."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..lake.errors import CorruptInput
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from .conventions import axis_document, coordinates, other_axes
from .layout import keys_within, spans
from .manifest import Reader
from .performance import watch
from .recipe import SceneRecipe
from .scopes import ingested_scopes
from .structure import Band, Structure, structure
from .zarr_array import chunk_key, write


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
        for left, right in spans(x.length, x.block):
            values = _source(reader, band, (top, bottom), (left, right))
            stored, empty = _converted(values, band)
            del values
            without += empty
            where = (*(slice(None) for _ in band.shape[:-2]), slice(top, bottom), slice(left, right))
            objects = write(band.document, where, stored)
            del stored
            outputs += store(context.lake, f"{built.prefix(recipe.name)}/{band.path}", objects)
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
                outputs += store(context.lake, f"{prefix}/{level.path}/{name}", objects)
            for group, name, path in other_axes(built, level):
                reader = Reader(context.lake, built.manifests[group], recipe.source.tries)
                values = reader.region(name, (slice(None),), list(built.manifests[group].arrays[name].objects))
                objects = write(axis_document(built.manifests[group].arrays[name]), (slice(None),), values)
                outputs += store(context.lake, f"{prefix}/{path}", objects)
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


def _converted(values: np.ndarray, band: Band) -> tuple[np.ndarray, int]:
    """Values as they are stored, and how many of them are without data.

    Decoded values are float32(stored * scale_factor + add_offset), reckoned in float64 (CF conventions, 8.1).
    """
    nodata = band.source_nodata
    empty = np.isnan(values) if values.dtype.kind == "f" else None
    if nodata is not None and not np.isnan(nodata):
        empty = values == nodata if empty is None else empty | (values == nodata)
    count = 0 if empty is None else int(np.count_nonzero(empty))
    if not band.decoded:
        return np.ascontiguousarray(values.astype(band.stored, copy=False)), count
    scale, offset = band.scale if band.scale is not None else 1.0, band.offset or 0.0
    if values.dtype.itemsize <= 2:
        # There are at most 65,536 different values: a table is ten times quicker than arithmetic on each pixel.
        info = np.iinfo(values.dtype)
        table = (np.arange(info.min, info.max + 1, dtype="f8") * scale + offset).astype("f4")
        if nodata is not None:
            table[int(nodata) - info.min] = np.nan
        index = values if info.min == 0 else values.astype("i4") - info.min
        return table[index], count
    decoded = (values.astype("f8") * scale + offset).astype("f4")
    if empty is not None:
        decoded[empty] = np.nan
    return decoded, count


def store(lake: Lake, path: str, objects: dict[str, bytes]) -> Sequence[Output]:
    """Put an array's objects into the lake, letting go of each; what to record of them."""
    outputs = []
    for key in list(objects):
        data = objects.pop(key)
        lake.objects.put(f"{path}/{key}", data)
        outputs.append(Output(f"{path}/{key}", digest_bytes(data), len(data)))
    if not outputs:
        raise CorruptInput(f"{path} came to nothing: no object was encoded")
    return outputs
