"""Refine of observations: raw CoverageJSON to one Parquet table a station and year, by the provider's names."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from ..lake.errors import CorruptInput, UsageError
from ..lake.lake import Lake
from ..lake.partition import Input, Output, Partition, Produced, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import catalogue, raw, tables
from .covjson import Series, parse
from .recipe import StationRecipe
from .requests import SCOPE, read_book
from .times import year_span, years

_BYTES_A_ROW = 2000
_NEAR = 0.01
"""Degrees within which a coverage without a station's name is that of a station."""


class Refine(Phase[StationRecipe]):
    """Partition: year x station. Output: ``refined/<recipe>/station_id=<id>/year=<year>/part.parquet``."""

    name = "refine"
    version = "1"
    threads = 2
    batch_count = 64
    settles = False

    def scopes(self, context: Context[StationRecipe], window: Window) -> list[str]:
        return years(context.recipe, window, datetime.now(UTC))

    def plan(self, context: Context[StationRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        chosen = {s.id for s in catalogue.chosen(catalogue.stored(context.lake, recipe), recipe)}
        partitions = []
        for station, inputs in sorted(_raw(context, int(scope)).items()):
            if station in chosen:
                partitions.append(
                    Partition(
                        key=f"{scope}/{station}",
                        fingerprint=fingerprint(self.version, recipe.every, inputs),
                        inputs=tuple(inputs),
                        params={"station": station},
                        bytes=8760 * _BYTES_A_ROW // 10,
                        memory=8760 * _BYTES_A_ROW,
                    )
                )
        notes = () if partitions else (f"nothing of {recipe.name} was ingested for {scope}",)
        return ScopePlan(scope, tuple(partitions), notes)

    def process(self, context: Context[StationRecipe], partition: Partition) -> Produced:
        recipe, year, station = context.recipe, int(partition.scope), str(partition.params["station"])
        place = catalogue.stored(context.lake, recipe).station(station)
        answers = []
        # Later answers stand above earlier ones, so that a correction replaces what it corrects.
        for source in sorted(partition.inputs, key=lambda i: (i.uri.rpartition("/")[2], i.uri)):
            parsed = _parsed(context.lake.url, source.uri, source.digest)
            answers += [series.table for series in parsed if _is_of(series, place, source.uri)]
        table = tables.of_year(tables.merged(answers), year)
        key = refined_key(recipe.name, year, station)
        data = tables.write(table, {"station_id": station, "recipe": recipe.name, "attribution": recipe.attribution})
        return Produced(
            (context.lake.write(key, data),),
            metrics={"rows": table.height, "parameters": len(table.columns) - 1},
        )


def refined_key(recipe: str, year: int, station: str) -> str:
    """Where the refined table of a station and year lies in the lake."""
    return f"refined/{recipe}/station_id={station}/year={year}/part.parquet"


def refined(context: Context[StationRecipe], scope: str) -> dict[str, Output]:
    """Station -> its refined table of a year. Raises ``UsageError`` when nothing of the year is refined."""
    records = context.ledger.read_all("refine", scope)
    found = {r.partition.split("/", 1)[1]: r.outputs[0] for r in records.values() if r.outputs}
    if not found:
        name = context.recipe.name
        raise UsageError(
            f"nothing of {name} is refined for {scope}; run first: python -m flows.refine {name} "
            f"--start {scope}-01-01 --end {scope}-12-31"
        )
    return found


def _raw(context: Context[StationRecipe], year: int) -> dict[str, list[Input]]:
    """Station -> the raw answers that may hold something of it in a year."""
    recipe = context.recipe
    span = year_span(year, recipe.step)
    book, _ = read_book(context.lake, recipe.name)
    records = context.ledger.read_all("ingest", SCOPE)
    found: dict[str, list[Input]] = defaultdict(list)
    for ask in book.asks:
        record = records.get(ask.key(recipe.step))
        if record is None or not len(ask.span.clipped(span)):
            continue
        for output in record.outputs:
            for station in ask.stations:
                found[station].append(Input(output.uri, output.digest))
    return found


@lru_cache(maxsize=6)
def _parsed(lake: str, uri: str, digest: str | None) -> Sequence[Series]:
    """A raw answer, kept for the other stations and years that it holds."""
    return parse(raw.load(Lake(lake).objects, uri, digest), uri)


def _is_of(series: Series, place: catalogue.Station, uri: str) -> bool:
    """Whether a coverage is of a station: by its name, or where it has none by its place."""
    if series.station is not None:
        return series.station == place.id
    if series.longitude is None or series.latitude is None:
        raise CorruptInput(f"{uri} has a coverage with neither a station nor a place")
    apart = np.hypot(series.longitude - place.longitude, series.latitude - place.latitude)
    return bool(apart < _NEAR)
