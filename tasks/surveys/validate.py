"""Validation of a survey: a tile is made, and every collection gets one verdict."""

import msgspec

from ..lake.errors import AccessError
from ..lake.ledger import code_version
from ..lake.partition import Output, Partition, Produced, digest_bytes
from ..lake.phase import Context, ScopePlan
from . import check
from .formats import choose
from .probe import Probe, Row
from .question import Answer, Tile
from .reasons import COMPATIBLE, Reason
from .recipe import SurveyRecipe
from .round import SurveyPhase, collection_id, folder, put, result


class Validate(SurveyPhase):
    """Partition: a collection. Outputs: ``surveys/<recipe>/<round>/verdicts/<collection>.json``, and the tile.

    An incompatible collection is a finished partition: that was the question.
    """

    name = "validate"
    version = "1"
    threads = 8
    batch_count = 128

    def plan(self, context: Context[SurveyRecipe], scope: str) -> ScopePlan:
        part = {"access": context.recipe.check.access, "tiles_url": context.recipe.tiles_url}
        memory = context.recipe.check.memory * 2**20
        return ScopePlan(scope, self.after(context, "refine", part, memory))

    def process(self, context: Context[SurveyRecipe], partition: Partition) -> Produced:
        probe = msgspec.json.decode(context.lake.objects.get(result(partition)), type=Probe)
        answer, seconds = self._tile(context, probe, partition)
        base, name = folder(context.recipe), collection_id(partition)
        outputs: list[Output] = []
        if answer.tile is not None:
            key = f"{base}/tiles/{name}.png"
            context.lake.objects.put(key, answer.tile.png)
            outputs.append(Output(key, digest_bytes(answer.tile.png), len(answer.tile.png)))
        row = verdict(context.recipe, probe, answer, outputs[0].uri if outputs else None)
        outputs.insert(0, put(context, f"{base}/verdicts/{name}.json", row))
        metrics = {"reason": row.incompatible_reason or COMPATIBLE, "seconds": round(seconds, 3)}
        return Produced(tuple(outputs), metrics=metrics)

    def _tile(self, context: Context[SurveyRecipe], probe: Probe, partition: Partition) -> tuple[Answer, float]:
        """The tile or the reason why there is none; what the probe found out stands."""
        if probe.reason is not None or probe.structure is None:
            return Answer(reason=probe.reason or Reason.CRASHED, message=probe.message or ""), 0.0
        recipe, sample = context.recipe, probe.sample
        link = choose(sample.links, sample.format or sample.collection.format, recipe.check.access)
        assert link is not None
        try:
            question = check.question(recipe, "tile", link, sample.credentials, probe.structure.variable)
        except AccessError as error:
            return Answer(reason=Reason.FORBIDDEN, message=str(error)), 0.0
        answer, seconds = check.ask(recipe, question)
        if answer.passing:
            answer = check.unreachable(context, self.name, partition.key, answer.message)
        return answer, seconds


def verdict(recipe: SurveyRecipe, probe: Probe, answer: Answer, picture: str | None) -> Row:
    """The line of the report for a collection. Pure."""
    sample, structure = probe.sample, probe.structure
    of = sample.collection
    compatible = answer.tile is not None
    variable = structure.variable if structure else None
    tiles = None
    if compatible and recipe.tiles_url:
        tiles = recipe.tiles_url.replace("{collection}", of.id).replace("{variable}", variable or "")
    return Row(
        collection_concept_id=of.id,
        collection_short_name_and_version=f"{of.short_name}_{of.version}" if of.version else of.short_name,
        concept_id=sample.granule,
        data_center=of.data_center,
        data_url=probe.link,
        backend=structure.backend if structure else None,
        format=structure.format if structure else sample.format or of.format,
        extension=probe.extension or None,
        tiling_compatible=compatible,
        incompatible_reason=None if compatible else str(answer.reason or Reason.TILE_GENERATION_FAILED),
        error_message=None if compatible else answer.message or None,
        tiles_url=tiles,
        variable=variable,
        data_variables=tuple(v.name for v in structure.variables) if structure else (),
        num_granules=sample.hits if sample.index is not None else of.granules or 0,
        processing_level=of.processing_level,
        groups=structure.groups if structure else (),
        crs=structure.crs if structure else None,
        dimensions=structure.dimensions if structure else {},
        seed=sample.seed,
        granule_index=sample.index,
        tile=_place(answer.tile),
        tile_valid=answer.tile.valid if answer.tile else None,
        versions={"weatherlake": code_version(), **probe.versions},
    )


def _place(tile: Tile | None) -> str | None:
    return None if tile is None else f"{tile.z}/{tile.x}/{tile.y}"
