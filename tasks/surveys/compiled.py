"""All rows of a survey, compiled from what its phases recorded: also of collections that have no verdict (yet)."""

from collections.abc import Mapping

import msgspec

from ..lake.contents import contents
from ..lake.ledger import Record, lease_over, utcnow
from ..lake.partition import SETTLE, Status
from ..lake.phase import Context
from .collection import Sample
from .probe import Row
from .recipe import SurveyRecipe

NEVER = "never tried"


def records(context: Context[SurveyRecipe], phase: str) -> dict[str, Record]:
    """Records of a phase by collection id."""
    scope = context.recipe.round
    found = {r.partition.partition("/")[2]: r for r in context.ledger.read_all(phase, scope).values()}
    found.pop(SETTLE, None)
    wanted = set(context.recipe.collections)
    return {k: r for k, r in found.items() if not wanted or k in wanted}


def state(*later: Record | None) -> tuple[str, str | None]:
    """Where the check of a collection without a verdict stands, and what is known of why.

    ``later`` are the records of its phases, the last phase first.
    """
    for record in later:
        if record is None:
            continue
        said = record.error.message if record.error else None
        if record.status is Status.RUNNING:
            return ("lost", "its worker is gone") if lease_over(record, utcnow()) else ("running", None)
        if record.status is Status.LOST:
            return "lost", said
        if record.status is Status.FAILED:
            return "failed", said
        return "waiting", None
    return NEVER, None


def rows(
    context: Context[SurveyRecipe],
    ingested: Mapping[str, Record],
    refined: Mapping[str, Record],
    validated: Mapping[str, Record],
) -> list[Row]:
    """A row for every collection of the survey, in order of their ids."""
    keys = sorted(ingested)
    # The old verdict stands until a new one is verified, so it counts even while a check runs again.
    verdicts = {k: validated[k].outputs[0].uri for k in keys if k in validated and validated[k].outputs}
    samples = {k: ingested[k].outputs[0].uri for k in keys if k not in verdicts and ingested[k].outputs}
    objects = context.lake.objects
    bodies = dict(zip(verdicts, contents(objects, list(verdicts.values())), strict=True))
    sampled = dict(zip(samples, contents(objects, list(samples.values())), strict=True))
    decode = msgspec.json.Decoder(Row).decode
    found = []
    for key in keys:
        tried = refined.get(key), validated.get(key)
        attempt = max((r.attempt for r in tried if r), default=None)
        seconds = [float(r.metrics.get("seconds", 0.0)) for r in tried if r]
        duration = round(sum(seconds), 3) if seconds else None
        if key in bodies:
            row = decode(bodies[key])
            found.append(msgspec.structs.replace(row, attempt=attempt, duration=duration))
        else:
            where, said = state(validated.get(key), refined.get(key), _unless_done(ingested[key]))
            sample = msgspec.json.decode(sampled[key], type=Sample) if key in sampled else None
            found.append(_without_verdict(key, sample, where, said, attempt, duration))
    return found


def _unless_done(record: Record) -> Record | None:
    return None if record.status is Status.DONE else record


def _without_verdict(
    key: str, sample: Sample | None, where: str, said: str | None, attempt: int | None, duration: float | None
) -> Row:
    of = sample.collection if sample else None
    return Row(
        collection_concept_id=key,
        collection_short_name_and_version=f"{of.short_name}_{of.version}" if of else "",
        concept_id=sample.granule if sample else None,
        data_center=of.data_center if of else "",
        data_url=None, backend=None, format=(sample.format if sample else None) or (of.format if of else None),
        extension=None, tiling_compatible=None, incompatible_reason=None, error_message=said, tiles_url=None,
        variable=None, data_variables=(), num_granules=sample.hits if sample else None,
        processing_level=of.processing_level if of else "", groups=(), seed=sample.seed if sample else 0,
        granule_index=sample.index if sample else None, state=where, attempt=attempt, duration=duration,
    )  # fmt: skip
