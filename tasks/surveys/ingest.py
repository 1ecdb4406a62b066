"""Ingest of a survey: the catalogue's list of collections, and for each one the granule that stands for it."""

import msgspec

from ..lake.partition import Input, Partition, Produced, fingerprint
from ..lake.phase import Context, ScopePlan
from .catalogue import catalogue, listing
from .collection import Collection
from .reasons import Reason
from .recipe import SurveyRecipe
from .round import SurveyPhase, collection_id, folder, put


class Ingest(SurveyPhase):
    """Partition: a collection. Output: ``surveys/<recipe>/<round>/samples/<collection>.json``.

    What is done stays done: the fingerprint holds neither the collection's revision nor its number of granules, so
    a catalogue that goes on living only adds partitions.
    """

    name = "ingest"
    version = "1"
    threads = 8
    batch_count = 256

    def plan(self, context: Context[SurveyRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        found = listing(recipe.catalogue)
        wanted = set(recipe.collections)
        part = {"catalogue": recipe.catalogue.url, "seed": recipe.seed}
        partitions = []
        for one in sorted(found.collections, key=lambda c: c.id):
            if wanted and one.id not in wanted:
                continue
            inputs = (Input(f"{recipe.catalogue.url}/search/concepts/{one.id}"),)
            params = {"collection": msgspec.to_builtins(one)}
            partitions.append(Partition(f"{scope}/{one.id}", fingerprint(self.version, part, inputs), inputs, params))
        note = f"the catalogue has {found.hits} collections, listed in {found.pages} pages"
        missing = sorted(wanted - {c.id for c in found.collections})
        notes = (note, f"not in the catalogue: {', '.join(missing)}") if missing else (note,)
        return ScopePlan(scope, tuple(partitions), notes)

    def process(self, context: Context[SurveyRecipe], partition: Partition) -> Produced:
        recipe = context.recipe
        of = msgspec.convert(partition.params["collection"], Collection)
        found = catalogue(recipe.catalogue).sample(of, recipe.seed)
        reason = ""
        if found.granule is None:
            reason = Reason.NO_GRANULE_FOUND
        elif not found.links:
            reason = Reason.FAILED_TO_EXTRACT_URL
        output = put(context, f"{folder(recipe)}/samples/{collection_id(partition)}.json", found)
        metrics = {"granules": found.hits, "reason": str(reason), "granule": found.granule or ""}
        return Produced((output,), metrics=metrics)
