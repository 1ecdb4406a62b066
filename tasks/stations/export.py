"""Export of observations: files under ``exports/<recipe>/<year>/<export>/``."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..lake.errors import UsageError
from ..lake.ledger import Record
from ..lake.partition import Input, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import catalogue, tables
from .exporters.exporter import StationYear, Year
from .recipe import StationRecipe
from .refine import refined
from .requests import SCOPE, read_book
from .times import Span, moment, number, year_span, years
from .validate import silver

if TYPE_CHECKING:
    import polars as pl


class Export(Phase[StationRecipe]):
    """Partition: year x export of the recipe."""

    name = "export"
    version = "1"
    batch_count = 4
    settles = False

    def scopes(self, context: Context[StationRecipe], window: Window) -> list[str]:
        return years(context.recipe, window, datetime.now(UTC))

    def plan(self, context: Context[StationRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        records = context.ledger.read_all("validate", scope)
        if not records:
            raise UsageError(
                f"{scope} of {recipe.name} is not validated; run first: python -m flows.validate {recipe.name} "
                f"--start {scope}-01-01 --end {scope}-12-31"
            )
        chosen = [s.id for s in catalogue.chosen(catalogue.stored(context.lake, recipe), recipe)]
        found = silver(context, scope) | {f"refined {k}": o for k, o in refined(context, scope).items()}
        inputs = [Input(o.uri, o.digest) for k, o in found.items() if k.removeprefix("refined ") in chosen]
        inputs += [Input(f"asked:{s}", repr(spans)) for s, spans in _asked(context, int(scope)).items() if s in chosen]
        partitions = [
            Partition(
                key=f"{scope}/{exporter.name}",
                fingerprint=fingerprint(
                    self.version,
                    [exporter.model_dump(mode="json"), recipe.part("title", "attribution", "columns", "every"), chosen],
                    inputs,
                ),
                inputs=tuple(inputs),
                params={"export": exporter.name},
                memory=len(chosen) * 8760 * 60 // recipe.every * 500,
            )
            for exporter in recipe.exports
        ]
        return ScopePlan(scope, tuple(partitions))

    def process(self, context: Context[StationRecipe], partition: Partition) -> Produced:
        recipe = context.recipe
        exporter = next(e for e in recipe.exports if e.name == partition.params["export"])
        year = _year(context, partition.scope)
        prefix = f"exports/{recipe.name}/{partition.key}"
        outputs = context.lake.write_files(prefix, lambda folder: exporter.render(year, folder))
        return Produced(outputs=tuple(outputs), metrics={"files": len(outputs)})


def _year(context: Context[StationRecipe], scope: str) -> Year:
    import polars as pl

    recipe, objects = context.recipe, context.lake.objects
    offered = catalogue.stored(context.lake, recipe)
    published, raw = silver(context, scope), refined(context, scope)
    records = context.ledger.read_all("validate", scope)
    asked = _asked(context, int(scope))
    span = year_span(int(scope), recipe.step)
    span = span.clipped(Span(span.first, number(datetime.now(UTC), recipe.step)))
    stations = []
    for station in catalogue.chosen(offered, recipe):
        output, source = published.get(station.id), raw.get(station.id)
        stations.append(
            StationYear(
                station=station.id,
                name=station.name,
                latitude=station.latitude,
                longitude=station.longitude,
                height=station.height,
                silver=None if output is None else tables.read(objects, output.uri, output.digest),
                refined=None if source is None else tables.read(objects, source.uri, source.digest),
                asked=_times(asked.get(station.id, []), recipe),
                measured=frozenset(station.parameters) or None,
                held=_held(records.get(f"{scope}/{station.id}")),
            )
        )
    return Year(
        recipe=recipe.name,
        year=int(scope),
        title=recipe.title,
        attribution=recipe.attribution,
        step=recipe.every,
        parameters={n: recipe.columns[n].parameter for n in recipe.mapped},
        expected=_times([span], recipe)["timestamp"] if len(span) else pl.Series(dtype=pl.Datetime("us", "UTC")),
        stations=tuple(stations),
    )


def _held(record: Record | None) -> str | None:
    if record is None or record.status is not Status.REJECTED or record.error is None:
        return None
    return record.error.message


def _asked(context: Context[StationRecipe], year: int) -> dict[str, list[Span]]:
    """Station -> the timestamps of a year that finished requests cover, as sorted spans that do not overlap."""
    recipe = context.recipe
    whole = year_span(year, recipe.step)
    records = context.ledger.read_all("ingest", SCOPE)
    book, _ = read_book(context.lake, recipe.name)
    found: dict[str, list[Span]] = {}
    for ask in sorted(book.asks):
        record = records.get(ask.key(recipe.step))
        if record is None or not record.outputs or not len(span := ask.span.clipped(whole)):
            continue
        for station in ask.stations:
            spans = found.setdefault(station, [])
            if spans and span.first <= spans[-1].stop:
                spans[-1] = Span(spans[-1].first, max(spans[-1].stop, span.stop))
            else:
                spans.append(span)
    return found


def _times(spans: list[Span], recipe: StationRecipe) -> "pl.DataFrame":
    """Every timestamp of the spans, with ``_asked`` true."""
    import polars as pl

    parts = [
        pl.datetime_range(
            moment(s.first, recipe.step), moment(s.stop - 1, recipe.step), recipe.step,
            time_unit="us", time_zone="UTC", eager=True,
        )
        for s in spans
    ]  # fmt: skip
    times = pl.concat(parts) if parts else pl.Series(dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"timestamp": times, "_asked": pl.repeat(True, len(times), dtype=pl.Boolean, eager=True)})
