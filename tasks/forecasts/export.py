"""Export of a forecast: a partition per run and exporter; files under ``exports/<recipe>/<run>/<name>/``."""

from ..exports.exporter import Exporter
from ..lake.errors import UsageError
from ..lake.partition import SETTLE, Input, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from ..lake.reading import open_zone
from .recipe import ForecastRecipe
from .runs import ingested_scopes, one_run
from .validate import published, published_values


class Export(Phase[ForecastRecipe]):
    """Partition: run x export of the recipe."""

    name = "export"
    version = "1"
    batch_count = 4
    settles = False

    def scopes(self, context: Context[ForecastRecipe], window: Window) -> list[str]:
        return ingested_scopes(context, window)

    def plan(self, context: Context[ForecastRecipe], scope: str) -> ScopePlan:
        partitions = []
        for exporter in context.recipe.exports:
            inputs = _inputs(context, scope, exporter)
            part = exporter.model_dump(mode="json") | context.recipe.part("title", "attribution")
            partitions.append(
                Partition(
                    f"{scope}/{exporter.name}",
                    fingerprint(self.version, part, inputs),
                    inputs,
                    {"export": exporter.name},
                )
            )
        return ScopePlan(scope, tuple(partitions))

    def process(self, context: Context[ForecastRecipe], partition: Partition) -> Produced:
        exporter = next(e for e in context.recipe.exports if e.name == partition.params["export"])
        cube = open_zone(context.lake, context.recipe.name, exporter.zone)
        run = one_run(cube, partition.scope)
        prefix = f"exports/{context.recipe.name}/{partition.key}"
        outputs = context.lake.write_files(prefix, lambda folder: exporter.render(run, folder))
        return Produced(outputs=tuple(outputs), metrics={"files": len(outputs)})


def _inputs(context: Context[ForecastRecipe], scope: str, exporter: Exporter) -> tuple[Input, ...]:
    """What an export is made of: the published results of the zone it reads."""
    if exporter.zone == "refined":
        record = published(context, scope)
    else:
        record = context.ledger.read("regrid", f"{scope}/{SETTLE}")
        if record is None or record.status is not Status.DONE:
            raise UsageError(
                f"run {scope} of {context.recipe.name} is not regridded; "
                f"run first: python -m flows.regrid {context.recipe.name} --run {scope}"
            )
        if record.held:
            raise UsageError(f"there is nothing to export of zone {exporter.zone}: {record.held}")
    zone = f"cubes/{context.recipe.name}/{exporter.zone}/"
    return tuple(i for i in published_values(record) if i.uri.startswith(zone))
