"""Validation of a scene: what is stored is read back and compared with what the source and the grid say."""

from collections.abc import Mapping

import numpy as np

from ..lake.errors import CorruptInput, UsageError
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from .conventions import coordinates
from .recipe import SceneRecipe
from .refine import block_key
from .scopes import ingested_scopes
from .stored import Stored, outputs_of
from .structure import Band, Level, Structure, structure
from .verdict import Finding, State, judge, page
from .zarr_array import read


class Validate(Phase[SceneRecipe]):
    """Partition: item x group x band. Output: what was found, ``verdicts/...``; settling gives the verdict."""

    name = "validate"
    version = "1"
    batch_bytes = 2**30

    def scopes(self, context: Context[SceneRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[SceneRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        built = structure(context.lake, recipe, scope)
        records = context.ledger.read_all("refine", scope)
        settled = records.get(f"{scope}/{SETTLE}")
        partitions = []
        for band in built.own():
            outputs = outputs_of(records, built.prefix(recipe.name), band)
            if outputs is None or settled is None or settled.status is not Status.DONE:
                raise UsageError(f"/{band.path} of {scope} is not refined (or not from this recipe); run flows.refine")
            axes = [o for o in settled.outputs if o.uri.startswith(f"{built.prefix(recipe.name)}/{band.level.path}/")]
            inputs = tuple(Input(o.uri, o.digest) for o in [*outputs.values(), *axes])
            partitions.append(
                Partition(
                    key=f"{scope}/{band.group}/{band.name}",
                    fingerprint=fingerprint(self.version, recipe.part("checks"), inputs),
                    inputs=inputs,
                    params={"band": band.path},
                    bytes=sum(o.bytes for o in outputs.values()),
                    memory=int(np.prod(band.shape[:-2])) * band.cuts[0].chunk * band.level.columns * 8,
                )
            )
        return ScopePlan(scope, tuple(partitions))

    def process(self, context: Context[SceneRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        built = structure(context.lake, recipe, scope)
        band = built.bands[str(partition.params["band"])]
        refined = context.ledger.read_all("refine", f"{scope}/{band.group}/{band.name}")
        found = _findings(context, built, band, refined)
        data = Finding.to_bytes(found)
        key = f"verdicts/{recipe.name}/{scope}/{band.group}/{band.name}.json"
        return Produced((context.lake.write(key, data),), {"score": min(f.score for f in found)})

    def settle(self, context: Context[SceneRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        recipe, objects = context.recipe, context.lake.objects
        found = [f for r in records.values() for o in r.outputs for f in Finding.from_bytes(objects.get(o.uri))]
        verdict = judge(scope, found, recipe.checks)
        prefix = f"verdicts/{recipe.name}/{scope}"
        outputs = []
        for name, data in (("verdict.json", verdict.to_bytes()), ("verdict.html", page(verdict))):
            outputs.append(context.lake.write(f"{prefix}/{name}", data))
        held = None
        if verdict.state in (State.QUARANTINED, State.REJECTED):
            held = f"{scope} is {verdict.state} (score {verdict.score:.2f}): {verdict.reasons[0]}"
        return Produced(tuple(outputs), {"score": verdict.score, "state": str(verdict.state)}, held=held)

    def settle_part(self, context: Context[SceneRecipe]) -> object:
        return context.recipe.part("checks")


def _findings(
    context: Context[SceneRecipe], built: Structure, band: Band, refined: Mapping[str, Record]
) -> list[Finding]:  # fmt: skip
    recipe, path = context.recipe, band.path
    prefix = built.prefix(recipe.name)
    outputs = outputs_of(refined, prefix, band)
    if outputs is None:
        return [Finding("bands", path, 0.0, "objects of the band are on no record", True)]
    stored = Stored(context.lake, prefix, band, outputs)
    try:
        pixels, without = _counted(stored)
    except CorruptInput as error:
        return [Finding("checksums", path, 0.0, str(error), True)]
    rows = range(band.cuts[0].blocks)
    source = sum(int(refined[block_key(built.scene, band, row)].metrics["nodata"]) for row in rows)
    share = without / pixels
    found = [
        Finding("bands", path, 1.0, f"{' x '.join(map(str, band.shape))} {band.stored}, {len(outputs)} object(s)"),
        Finding("checksums", path, 1.0, f"SHA-256 of {len(outputs)} object(s) as recorded"),
    ]
    if without != source:
        text = f"{without} pixels are without data, {source} of the source are"
        found.append(Finding("nodata", path, 0.0, text, True))
    elif share > recipe.checks.nodata_above:
        found.append(Finding("nodata", path, 0.0, f"{share:.1%} of the pixels are without data"))
    else:
        found.append(Finding("nodata", path, 1.0, f"{share:.1%} of the pixels are without data, as in the source"))
    found.append(_coordinates(context, f"{prefix}/{band.level.path}", band.level))
    return found


def _counted(stored: Stored) -> tuple[int, int]:
    """(pixels, pixels without data) of a band. Raises ``CorruptInput``."""
    band, pixels, without = stored.band, 0, 0
    nodata = None if band.nodata is None or np.isnan(band.nodata) else band.nodata
    # A chunk at a time: shards are held as they are stored, and decoded no further than needed.
    for values in stored.chunks():
        pixels += values.size
        if values.dtype.kind == "f":
            without += int(np.count_nonzero(np.isnan(values)))
        if nodata is not None:
            without += int(np.count_nonzero(values == nodata))
    if pixels != np.prod(band.shape):
        raise CorruptInput(f"{band.path} has another form", expected=int(np.prod(band.shape)), found=pixels)
    return pixels, without


def _coordinates(context: Context[SceneRecipe], path: str, level: Level) -> Finding:
    """Whether the stored coordinates are those of pixel centres under the transform."""
    for name, (document, expected) in coordinates(level).items():
        if name == "spatial_ref":
            continue
        try:
            values = read(document, {"c/0": context.lake.objects.get(f"{path}/{name}/c/0")}, (slice(None),), path)
        except (CorruptInput, UsageError) as error:
            return Finding("coordinates", level.path, 0.0, str(error), True)
        if not np.array_equal(values, expected):
            text = f"{name} is not what transform and shape say (first {values[0]}, expected {expected[0]})"
            return Finding("coordinates", level.path, 0.0, text, True)
    return Finding("coordinates", level.path, 1.0, "centres as transform and shape say")
