"""A survey as scope and partitions: what the phases of a survey have in common."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, Status, digest_json, fingerprint
from ..lake.phase import Context, Phase, Window
from .recipe import SurveyRecipe


def folder(recipe: SurveyRecipe) -> str:
    """Where a survey keeps its results in the lake."""
    return f"surveys/{recipe.name}/{recipe.round}"


class SurveyPhase(Phase[SurveyRecipe]):
    """A phase with a partition per collection: scope is the round, settling counts the reasons."""

    def scopes(self, context: Context[SurveyRecipe], window: Window) -> list[str]:
        if window.run or window.start or window.end or window.latest:
            raise UsageError("a survey has no runs", expected="--round NAME", found="--run, --start, --end or --latest")
        return [context.recipe.round]

    def picks(self, context: Context[SurveyRecipe], record: Record | None) -> bool | None:
        """With ``--reason``: the partitions whose last result has one of these reasons, and no other."""
        if not context.recipe.reasons:
            return None
        return record is not None and record.metrics.get("reason") in context.recipe.reasons

    def earlier(self, context: Context[SurveyRecipe], phase: str) -> dict[str, Record]:
        """Records of an earlier phase by collection id, those with a result. Raises ``UsageError`` without any."""
        recipe = context.recipe
        records = context.ledger.read_all(phase, recipe.round)
        done = {
            r.partition.partition("/")[2]: r
            for r in records.values()
            if r.outputs and not r.partition.endswith(f"/{SETTLE}")
        }
        if not done:
            raise UsageError(f"survey {recipe.round!r} of {recipe.name} has no {phase} yet; run flows.{phase} first")
        wanted = set(recipe.collections)
        return {k: r for k, r in done.items() if not wanted or k in wanted}

    def after(self, context: Context[SurveyRecipe], phase: str, part: object, memory: int = 0) -> tuple[Partition, ...]:
        """A partition for each result of an earlier phase."""
        partitions = []
        for key, record in self.earlier(context, phase).items():
            inputs = tuple(Input(o.uri, o.digest) for o in record.outputs)
            partitions.append(
                Partition(
                    f"{context.recipe.round}/{key}", fingerprint(self.version, part, inputs), inputs, memory=memory
                )
            )
        return tuple(partitions)

    def settling(self, context: Context[SurveyRecipe], scope: str, records: Mapping[str, Record]) -> Partition:
        # One digest in the place of a hundred thousand inputs.
        made = digest_json(sorted((r.partition, *(o.digest for o in r.outputs)) for r in records.values()))
        inputs = (Input(f"{context.recipe.name}/{self.name}/{scope}", made),)
        return Partition(f"{scope}/{SETTLE}", fingerprint(f"{self.name}-{self.version}-settle", None, inputs), inputs)

    def settle(self, context: Context[SurveyRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """How many collections have which result: ``surveys/<recipe>/<round>/<phase>.json``."""
        counts = Counter(str(r.metrics.get("reason", "")) or "found" for r in records.values())
        summary = {
            "survey": scope,
            "phase": self.name,
            "collections": sum(r.status is Status.DONE for r in records.values()),
            "counts": dict(sorted(counts.items())),
        }
        output = put(context, f"{folder(context.recipe)}/{self.name}.json", summary)
        return Produced((output,), metrics={"collections": len(records)})


def put(context: Context[SurveyRecipe], key: str, value: Any) -> Output:
    """Write a result as JSON; the output to record."""
    data = msgspec.json.encode(value)
    return context.lake.write(key, data)


def result(partition: Partition) -> str:
    """The key of the earlier phase's result that a partition is made from."""
    return partition.inputs[0].uri


def collection_id(partition: Partition) -> str:
    """The collection that a partition is about."""
    return partition.key.partition("/")[2]
