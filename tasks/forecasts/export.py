"""Export of a forecast: a partition per run and exporter; files under ``exports/<recipe>/<run>/<name>/``."""

from collections.abc import Mapping

from ..exports.exporter import Exporter, Planned
from ..exports.placing import is_product
from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import catalogue
from .export_source import RunSource
from .ingest import manifest_keys
from .recipe import ForecastRecipe
from .runs import ingested_scopes, parse_run, run_id
from .validate import published, published_values


class Export(Phase[ForecastRecipe]):
    """Partition: run x export of the recipe. Settling enters the run and its exports into the lake's catalogue."""

    name = "export"
    version = "2"
    batch_count = 4

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        partitions = []
        notes: list[str] = []
        for exporter in context.recipe.chosen:
            runs = taken(context, scope, exporter)
            planned = exporter.plan(RunSource(context, scope, exporter, runs))
            if planned is None:
                planned = Planned(tuple(i for run in runs for i in _inputs(context, run, exporter)))
            inputs = planned.inputs
            notes += planned.notes
            part = exporter.model_dump(mode="json") | context.recipe.part("title", "attribution")
            partitions.append(
                Partition(
                    f"{scope}/{exporter.name}",
                    fingerprint(self.version, part, inputs),
                    inputs,
                    {"export": exporter.name, "runs": runs},
                    planned.bytes,
                    planned.memory,
                )
            )
        return ScopePlan(scope, tuple(partitions), tuple(notes))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        exporter = next(e for e in context.recipe.exports if e.name == partition.params["export"])
        runs: list[str] = list(partition.params["runs"])  # type: ignore[call-overload]
        outputs = exporter.export(RunSource(context, partition.scope, exporter, runs))
        return Produced(outputs=tuple(outputs), metrics={"files": len(outputs), "runs": len(runs)})

    def settling(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Partition:
        return catalogue.settling(context, scope, super().settling(context, scope, records))

    def settle(self, context: Context[ForecastRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        entered = catalogue.enter_run(context, scope)
        return Produced(outputs=(*(o for r in records.values() for o in r.outputs if is_product(o.uri)), *entered))


def taken(context: Context[ForecastRecipe], scope: str, exporter: Exporter) -> list[str]:
    """The published runs that an export of a run takes, oldest first: the run itself, and those of its span before it.

    Raises ``UsageError`` when the run itself is not published.
    """
    _record(context, scope, exporter)
    interval = context.recipe.runs.interval
    run, runs = parse_run(scope), [scope]
    before = run - interval
    while before > run - exporter.span and before >= context.recipe.runs.start:
        try:
            _record(context, run_id(before), exporter)
        except UsageError:
            pass  # Not there, or held back: the others are taken without it.
        else:
            runs.append(run_id(before))
        before -= interval
    return runs[::-1]


def _record(context: Context[ForecastRecipe], scope: str, exporter: Exporter) -> Record:
    """The record of a run's publication in the zone that an exporter reads. Raises ``UsageError``."""
    if exporter.zone == "refined":
        return published(context, scope)
    record = context.ledger.read("regrid", f"{scope}/{SETTLE}")
    if record is None or record.status is not Status.DONE:
        raise UsageError(
            f"run {scope} of {context.recipe.name} is not regridded; "
            f"run first: python -m flows.regrid {context.recipe.name} --run {scope}"
        )
    if record.held:
        raise UsageError(f"there is nothing to export of zone {exporter.zone}: {record.held}")
    return record


def _inputs(context: Context[ForecastRecipe], scope: str, exporter: Exporter) -> tuple[Input, ...]:
    """What an export is made of: the published results of the zone it reads, or the manifests of the run."""
    record = _record(context, scope, exporter)
    if exporter.made_of == "messages":
        records = [r for k, r in context.ledger.read_all("ingest", scope).items() if k != f"{scope}/{SETTLE}"]
        digests = {o.uri: o.digest for r in records for o in r.outputs}
        return tuple(Input(key, digests[key]) for key in manifest_keys(records))
    zone = f"cubes/{context.recipe.name}/{exporter.zone}/"
    return tuple(i for i in published_values(record) if i.uri.startswith(zone))
