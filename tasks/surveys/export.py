"""Export of a survey: all rows as JSON and Parquet, counts, what changed, a chart and an HTML summary."""

from collections.abc import Mapping
from typing import Any

from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, Status, digest_json, fingerprint
from ..lake.phase import Context, ScopePlan
from . import compiled, table
from .chart import chart
from .counting import changes, counts
from .page import page
from .probe import Row
from .recipe import SurveyRecipe
from .round import SurveyPhase, put

_TILES = 18


class Export(SurveyPhase):
    """Partition: ``<round>/report``. Outputs: ``exports/<recipe>/<round>/`` survey.json, survey.parquet, counts.json,
    changes.json, chart.png and summary.html.

    A survey that is not finished is reported as far as it got; the rows without a verdict say where they stand.
    """

    name = "export"
    version = "1"
    settles = False

    def picks(self, context: object, record: object) -> None:
        """Reasons select collections, and the report is of all of them."""

    def plan(self, context: Context[SurveyRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        found = {phase: compiled.records(context, phase) for phase in ("ingest", "refine", "validate")}
        if not found["ingest"]:
            raise UsageError(f"survey {scope!r} of {recipe.name} has no ingest yet; run flows.ingest first")
        seen = digest_json({phase: _seen(records) for phase, records in found.items()})
        inputs = [Input(f"ledger/{recipe.name}/validate/{scope}", seen)]
        earlier = _earlier(context)
        if earlier is not None:
            inputs.append(Input(earlier.uri, earlier.digest))
        part = recipe.part("title", "attribution", "collections")
        partition = Partition(f"{scope}/report", fingerprint(self.version, part, inputs), tuple(inputs))
        open_ = sum(not r.outputs for r in found["validate"].values()) + len(found["ingest"]) - len(found["validate"])
        return ScopePlan(scope, (partition,), (f"{open_} collections have no verdict yet",) if open_ > 0 else ())

    def process(self, context: Context[SurveyRecipe], partition: Partition) -> Produced:
        recipe = context.recipe
        found = [compiled.records(context, phase) for phase in ("ingest", "refine", "validate")]
        rows = compiled.rows(context, *found)
        counted = counts(rows)
        changed = _changed(context, rows, partition)
        title = f"{recipe.title or recipe.name}: survey {recipe.round}"
        picture = chart(counted, title)
        ended = max((r.finished for records in found for r in records.values() if r.finished), default=None)
        subtitle = f"{recipe.attribution}; as of {ended:%Y-%m-%d %H:%M} UTC" if ended else recipe.attribution
        tiles = _tiles(context, rows, found[2])
        html = page(rows, counted, changed, picture, title, subtitle, tiles).encode()
        base = f"exports/{recipe.name}/{recipe.round}"
        head = {"recipe": recipe.name, "survey": recipe.round, "counts": counted, "rows": rows}
        outputs = (
            context.lake.write(f"{base}/summary.html", html),
            put(context, f"{base}/survey.json", head),
            context.lake.write(f"{base}/survey.parquet", table.write(rows)),
            put(context, f"{base}/counts.json", counted),
            put(context, f"{base}/changes.json", changed),
            context.lake.write(f"{base}/chart.png", picture),
        )
        metrics = {k: counted[k] for k in ("collections", "compatible", "incompatible", "without_verdict")}
        return Produced(outputs, metrics=metrics)


def _seen(records: Mapping[str, Record]) -> list[Any]:
    """What of a phase's records is in the report: a claim that is renewed is not."""
    return sorted(
        (k, "done" if r.status is Status.DONE else str(r.status), r.attempt, *(o.digest for o in r.outputs))
        for k, r in records.items()
    )


def _earlier(context: Context[SurveyRecipe]) -> Output | None:
    """The rows of the survey to compare with: the recipe's, or the last in order of names before this one.

    Raises ``UsageError`` when the one that the recipe names is not there.
    """
    recipe = context.recipe
    tables = {}
    for key, record in context.ledger.read_all("export").items():
        output = next((o for o in record.outputs if o.uri.endswith("/survey.parquet")), None)
        if output is not None:
            tables[key.partition("/")[0]] = output
    if recipe.compare is not None:
        if recipe.compare not in tables:
            raise UsageError(f"there is no exported survey {recipe.compare!r} of {recipe.name} to compare with")
        return tables[recipe.compare]
    before = [name for name in tables if name < recipe.round]
    return tables[max(before)] if before else None


def _changed(context: Context[SurveyRecipe], rows: list[Row], partition: Partition) -> dict[str, Any]:
    if len(partition.inputs) < 2:
        return {"compared_with": None}
    uri = partition.inputs[1].uri
    return changes(table.results(context.lake.objects.get(uri)), rows, uri.split("/")[2])


def _tiles(context: Context[SurveyRecipe], rows: list[Row], validated: Mapping[str, Record]) -> dict[str, bytes]:
    """Some tiles for the page, spread over the compatible collections."""
    keys = [row.collection_concept_id for row in rows if row.tiling_compatible]
    some = keys[:: max(1, -(-len(keys) // _TILES))]
    pictures = {k: o.uri for k in some for o in validated[k].outputs if o.uri.endswith(".png")}
    return {k: context.lake.objects.get(uri) for k, uri in pictures.items()}
