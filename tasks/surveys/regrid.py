"""Regridding does not apply to a survey: it has verdicts, and no fields. That is on record, once a round."""

from ..lake.partition import Partition, Produced, fingerprint
from ..lake.phase import Context, ScopePlan
from .recipe import SurveyRecipe
from .round import SurveyPhase


class Regrid(SurveyPhase):
    """Partition: ``<round>/not-applicable``; no output."""

    name = "regrid"
    version = "1"
    settles = False

    def plan(self, context: Context[SurveyRecipe], scope: str) -> ScopePlan:
        partition = Partition(f"{scope}/not-applicable", fingerprint(self.version, None, ()))
        return ScopePlan(scope, (partition,), ("regridding does not apply to a survey",))

    def picks(self, context: object, record: object) -> None:
        """Reasons are of no concern here."""

    def process(self, context: Context[SurveyRecipe], partition: Partition) -> Produced:
        return Produced(metrics={"applicable": "no", "why": "a survey has verdicts and no fields to regrid"})
