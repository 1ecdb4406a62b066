"""Refine of a survey: the sampled granule is opened, and what it holds is read."""

from collections.abc import Sequence

import msgspec

from ..lake.errors import AccessError
from ..lake.partition import Partition, Produced
from ..lake.phase import Context, ScopePlan
from . import check
from .collection import Sample
from .formats import choose
from .login import account
from .probe import Probe
from .reasons import Reason
from .recipe import SurveyRecipe
from .redact import redact
from .round import SurveyPhase, collection_id, folder, put, result


class Refine(SurveyPhase):
    """Partition: a collection. Output: ``surveys/<recipe>/<round>/probes/<collection>.json``.

    Limits of time and memory are no part of the fingerprint: they change nothing for what stayed within them, and
    ``--reason timeout --set check.seconds=300`` takes those that did not again.
    """

    name = "refine"
    version = "1"
    threads = 8
    batch_count = 128

    def plan(self, context: Context[SurveyRecipe], scope: str) -> ScopePlan:
        part = {"access": context.recipe.check.access}
        memory = context.recipe.check.memory * 2**20
        return ScopePlan(scope, self.after(context, "ingest", part, memory))

    def prepare(self, context: Context[SurveyRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        """A wrong password is found out here, and not by every collection. Raises ``AccessError``."""
        who = account(context.recipe.login)
        if who is not None:
            who.token()

    def process(self, context: Context[SurveyRecipe], partition: Partition) -> Produced:
        recipe = context.recipe
        sample = msgspec.json.decode(context.lake.objects.get(result(partition)), type=Sample)
        probe, seconds = self._probe(context, sample, partition)
        output = put(context, f"{folder(recipe)}/probes/{collection_id(partition)}.json", probe)
        metrics = {"reason": str(probe.reason or ""), "seconds": round(seconds, 3), "extension": probe.extension}
        return Produced((output,), metrics=metrics)

    def _probe(self, context: Context[SurveyRecipe], sample: Sample, partition: Partition) -> tuple[Probe, float]:
        recipe = context.recipe
        if sample.granule is None:
            return Probe(sample, reason=Reason.NO_GRANULE_FOUND, message="the catalogue has no granule for it"), 0.0
        link = choose(sample.links, sample.format or sample.collection.format, recipe.check.access)
        if link is None:
            said = "the granule has no data link" if not sample.links else "the granule has no https or S3 link"
            return Probe(sample, reason=Reason.FAILED_TO_EXTRACT_URL, message=said), 0.0
        url = redact(link.url)
        if link.family is None:
            what = f".{link.extension}" if link.extension else "a file without an extension"
            declared = sample.format or sample.collection.format
            said = f"{what} is no format that can be tiled" + (f" (the catalogue says {declared})" if declared else "")
            return Probe(sample, url, link.extension, reason=Reason.UNSUPPORTED_FORMAT, message=said), 0.0
        try:
            question = check.question(recipe, "structure", link, sample.credentials, None)
        except AccessError as error:
            return Probe(sample, url, link.extension, link.family, reason=Reason.FORBIDDEN, message=str(error)), 0.0
        answer, seconds = check.ask(recipe, question)
        if answer.passing:
            answer = check.unreachable(context, self.name, partition.key, answer.message)
        probe = Probe(
            sample, url, link.extension, link.family, answer.structure, answer.reason, answer.message or None,
            answer.versions,
        )  # fmt: skip
        return probe, seconds
