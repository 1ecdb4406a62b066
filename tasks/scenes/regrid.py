"""Overviews of a scene: every level of every band is a partition of its own, made from the level before."""

import numpy as np

from ..grids.overviews import reduced
from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from .layout import spans
from .recipe import SceneRecipe
from .refine import store
from .scopes import published_scopes
from .shards import Encoder, form
from .stored import Stored, outputs_of
from .structure import Band, Structure, structure

_STRIP = 2048
"""Rows of the source's level that are in memory at once when levels in between are not there yet."""


class Regrid(Phase[SceneRecipe]):
    """Partition: item x level x band. Output: shards of that level, with their SHA-256.

    A level is made from the one before. Where that is not on record (yet, or any more), it is made on the way and
    in strips from the finest level that is: the same pixels come out in whatever order partitions are worked on.
    """

    name = "regrid"
    version = "1"
    settles = False
    batch_bytes = 2**30

    def scopes(self, context: Context[SceneRecipe], window: Window) -> list[str]:
        return published_scopes(context, window)

    def plan(self, context: Context[SceneRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        if recipe.overviews.scheme == "none":
            return ScopePlan(scope, (), ("overviews are not asked for",))
        built = structure(context.lake, recipe, scope)
        records = context.ledger.read_all("refine", scope)
        return ScopePlan(scope, tuple(_partition(self.version, built, b, recipe, records) for b in built.derived()))

    def process(self, context: Context[SceneRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        built = structure(context.lake, recipe, scope)
        band = built.bands[str(partition.params["band"])]
        levels = _Levels(context, built, scope)
        outputs: list[Output] = []
        y, encoder = band.cuts[0], Encoder(form(band.document))
        for top, bottom in spans(y.length, y.shard):
            # As many rows at a time as one row of chunks has: what they are made from is all there is decoded.
            for a, b in spans(bottom - top, y.chunk):
                values = levels.made(band, top + a, top + b)
                start, stop = (*(0 for _ in band.shape[:-2]), top + a, 0), (*band.shape[:-2], top + b, band.shape[-1])
                for chunk in encoder.form.within(start, stop):
                    encoder.put(chunk, values[..., encoder.form.where(chunk)[-1]])
            outputs += store(context.lake, f"{built.prefix(recipe.name)}/{band.path}", encoder.shards())
        levels.close()
        return Produced(tuple(outputs), {"pixels": int(np.prod(band.shape)), "bytes": sum(o.bytes for o in outputs)})


def level_key(scene: str, band: Band) -> str:
    """Partition of a level of a band: ``<item>/measurements/reflectance/r10m/1/b02``."""
    return f"{scene}/{band.path}"


class _Levels:
    """The bands of a scene by their parent, read where they are on record and made where they are not."""

    def __init__(self, context: Context[SceneRecipe], built: Structure, scope: str) -> None:
        self._context = context
        self._built = built
        self._scope = scope
        self._prefix = built.prefix(context.recipe.name)
        self._open: dict[str, Stored | None] = {}

    def close(self) -> None:
        """Give back what the bands keep."""
        for stored in self._open.values():
            if stored is not None:
                stored.close()

    def made(self, band: Band, top: int, bottom: int) -> np.ndarray:
        """Rows of a band, made from its parent."""
        assert band.parent is not None
        parent, factor = self._built.bands[band.parent], band.level.factor
        stored = self._stored(parent)
        if stored is not None:
            rows = stored.rows(top * factor, min(bottom * factor, parent.level.rows))
            return reduced(rows, factor, band.method, parent.nodata)
        source = self._root(band)
        step = max(1, _STRIP * band.level.rows // max(1, source.level.rows))
        pieces = []
        for a, b in spans(bottom - top, step):
            rows = self.made(parent, (top + a) * factor, min((top + b) * factor, parent.level.rows))
            pieces.append(reduced(rows, factor, band.method, parent.nodata))
        return np.concatenate(pieces, axis=-2)

    def _root(self, band: Band) -> Band:
        while band.parent is not None:
            band = self._built.bands[band.parent]
        return band

    def _stored(self, band: Band) -> Stored | None:
        """A band as it is in the lake; None when a derived one is not on record. Raises ``UsageError`` for others."""
        if band.path not in self._open:
            ledger = self._context.ledger
            if band.parent is None:
                records = ledger.read_all("refine", f"{self._scope}/{band.group}/{band.name}")
            else:
                record = ledger.read("regrid", level_key(self._scope, band))
                records = {record.partition: record} if record else {}
            outputs = outputs_of(records, self._prefix, band)
            if outputs is None and band.parent is None:
                raise UsageError(f"/{band.path} of {self._scope} is not refined; run flows.refine first")
            if outputs is not None and self._context.lake.missing(outputs):
                outputs = None if band.parent else outputs
            self._open[band.path] = Stored(self._context.lake, self._prefix, band, outputs) if outputs else None
        return self._open[band.path]


def _partition(
    version: str, built: Structure, band: Band, recipe: SceneRecipe, records: dict[str, Record]
) -> Partition:  # fmt: skip
    root = band
    while root.parent is not None:
        root = built.bands[root.parent]
    outputs = outputs_of(records, built.prefix(recipe.name), root)
    if outputs is None:
        raise UsageError(
            f"/{root.path} of {built.scene} is not refined (or not from this recipe); run flows.refine first"
        )
    inputs = tuple(Input(o.uri, o.digest) for o in outputs.values())
    parent = built.bands[str(band.parent)]
    pixels = int(np.prod(parent.shape))
    strip = int(np.prod(parent.shape[:-2])) * parent.level.columns * min(parent.level.rows, band.cuts[0].chunk * 2)
    return Partition(
        key=level_key(built.scene, band),
        fingerprint=fingerprint(version, [built.version, band.path, band.method], inputs),
        inputs=inputs,
        params={"band": band.path},
        bytes=pixels * parent.stored.itemsize // 2,
        memory=strip * 16 + int(np.prod(band.shape)) * band.stored.itemsize * 2,
    )
