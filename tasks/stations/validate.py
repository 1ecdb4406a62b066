"""Validate observations: flags and scores, a verdict for each station's year, silver and quarantined rows."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from ..lake.errors import CorruptInput
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import catalogue, tables
from .neighbours import medians, nearest
from .prepare import NO_DIRECTION, TRACE, prepared
from .quality import assess, flagged
from .recipe import Mapped, StationRecipe
from .refine import refined
from .schema import silver_schema
from .times import years
from .verdict import StationVerdict, verdict

if TYPE_CHECKING:
    import polars as pl


class Validate(Phase[StationRecipe]):
    """Partition: year x station. Output: ``silver/<recipe>/station_id=<id>/year=<year>/part.parquet``, the rows that do
    not pass under ``quarantine/``, and the verdict; settling: the year's table of verdicts."""

    name = "validate"
    version = "1"
    threads = 2
    batch_count = 64

    def scopes(self, context: Context[StationRecipe], window: Window) -> list[str]:
        return years(context.recipe, window, datetime.now(UTC))

    def plan(self, context: Context[StationRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        offered = catalogue.stored(context.lake, recipe)
        there = refined(context, scope)
        chosen = [s for s in catalogue.chosen(offered, recipe) if s.id in there]
        part = recipe.part("every", "columns", "checks")
        partitions = []
        for station in chosen:
            near = _neighbours(recipe, station, [s for s in offered.stations if s.id in there])
            inputs = tuple(Input(there[s].uri, there[s].digest) for s in (station.id, *near))
            place = [station.longitude, station.latitude, station.height]
            partitions.append(
                Partition(
                    key=f"{scope}/{station.id}",
                    fingerprint=fingerprint(self.version, [part, place, near], inputs),
                    inputs=inputs,
                    params={"station": station.id, "neighbours": near},
                    bytes=sum(there[s].bytes for s in (station.id, *near)),
                    memory=8760 * 60 // recipe.every * 1000,
                )
            )
        return ScopePlan(scope, tuple(partitions))

    def process(self, context: Context[StationRecipe], partition: Partition) -> Produced:
        recipe, year = context.recipe, partition.scope
        station = catalogue.stored(context.lake, recipe).station(str(partition.params["station"]))
        columns = tuple(recipe.columns.items())
        own, *near = [_ready(context.lake.url, i.uri, i.digest, columns, recipe.step) for i in partition.inputs]
        result, judged = examined(own, near, recipe, station)
        good, bad = split(result, recipe, judged)
        outputs = []
        for zone, rows in (("silver", good), ("quarantine", bad)):
            if not rows.is_empty():
                data = tables.write(rows, {"recipe": recipe.name, "attribution": recipe.attribution})
                key = silver_key(recipe.name, year, station.id, zone)
                outputs.append(context.lake.write(key, data))
        document = judged.model_dump_json(indent=1).encode()
        key = f"verdicts/{recipe.name}/{partition.key}.json"
        context.lake.objects.put(key, document)
        outputs.append(Output(key, digest_bytes(document), len(document)))
        # What was published of this year before stands until something better passes.
        why = ("; ".join(judged.reasons[:3]) or "no row passes") if good.is_empty() else None
        return Produced(
            outputs=tuple(outputs),
            metrics={
                "verdict": str(judged.state), "score": round(judged.score, 6), "outliers": round(judged.outliers, 6),
                "missing": round(judged.missing, 6), "rows": good.height, "quarantined": bad.height,
            },
            rejected=None if why is None else f"{partition.key} of {recipe.name} is held back, {judged.state}: {why}",
        )  # fmt: skip

    def settle_part(self, context: Context[StationRecipe]) -> object:
        return context.recipe.part("title", "attribution") | {"hold_below": context.recipe.checks.hold_below}

    def settle(self, context: Context[StationRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """The year's verdicts as one table; the year is held when too few of its stations pass."""
        recipe = context.recipe
        rows = [
            {"station_id": key.split("/", 1)[1], "published": record.status is Status.DONE, **record.metrics}
            for key, record in sorted(records.items())
        ]
        data = orjson.dumps({"recipe": recipe.name, "year": int(scope), "stations": rows}, option=orjson.OPT_INDENT_2)
        key = f"verdicts/{recipe.name}/{scope}/verdicts.json"
        output = context.lake.write(key, data)
        passed = sum(1 for r in rows if r["published"])
        held = None
        if rows and passed < recipe.checks.hold_below * len(rows):
            first = next(str(r.error.message) for r in records.values() if r.status is Status.REJECTED and r.error)
            held = f"{scope} of {recipe.name} is held back: {passed} of {len(rows)} stations pass; {first}"
        return Produced(
            (output,),
            metrics={"stations": len(rows), "published": passed},
            held=held,
        )


def silver_key(recipe: str, year: str, station: str, zone: str = "silver") -> str:
    """Where the table of a station and year lies in the lake."""
    return f"{zone}/{recipe}/station_id={station}/year={year}/part.parquet"


def silver(context: Context[StationRecipe], scope: str) -> dict[str, Output]:
    """Station -> its published table of a year."""
    records = context.ledger.read_all("validate", scope)
    return {
        key.split("/", 1)[1]: output
        for key, record in sorted(records.items())
        if not key.endswith(f"/{SETTLE}") and record.status is not Status.REJECTED
        for output in record.outputs
        if output.uri.startswith("silver/")
    }


@lru_cache(maxsize=24)
def _ready(
    lake: str, uri: str, digest: str | None, columns: tuple[tuple[str, Mapped], ...], step: timedelta
) -> "pl.DataFrame":
    """A refined table as it is checked, kept for the stations nearby, which are compared with it."""
    wanted = dict(columns)
    return prepared(tables.read(Lake(lake).objects, uri, digest, read_from(wanted)), wanted, step)


def read_from(columns: Mapping[str, Mapped]) -> list[str]:
    """What is read of a refined table: times, and the parameters that the recipe makes columns of."""
    return ["timestamp", *dict.fromkeys(m.parameter for m in columns.values())]


def examined(
    table: "pl.DataFrame", near: "list[pl.DataFrame]", recipe: StationRecipe, station: catalogue.Station
) -> "tuple[pl.DataFrame, StationVerdict]":
    """A prepared table as the silver one with every row, and the verdict. ``near`` are its neighbours' tables."""
    import polars as pl

    if table.is_empty():
        raise CorruptInput(f"station {station.id} has no row in this year")
    limits = recipe.checks
    buddies = {}
    if limits.neighbours is not None and near:
        buddies = medians(table["timestamp"], near, limits.neighbours, recipe.mapped)
    checks = assess(table, limits, recipe.every, buddies)
    judged = verdict(table, checks, limits)
    result = flagged(table, checks).drop(NO_DIRECTION, TRACE)
    place = {
        "station_id": pl.lit(station.id), "latitude": pl.lit(station.latitude, pl.Float64),
        "longitude": pl.lit(station.longitude, pl.Float64), "height": pl.lit(station.height, pl.Float64),
    }  # fmt: skip
    schema = silver_schema()
    return result.with_columns(**place).select(list(schema)), judged


def split(result: "pl.DataFrame", recipe: StationRecipe, judged: StationVerdict) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Rows for silver and rows for quarantine; rows without any value are gaps, and in neither."""
    import polars as pl

    rows = _filtered(result, result.select(pl.any_horizontal(pl.col(recipe.mapped).is_not_null())).to_series())
    if not judged.published:
        return rows.clear(), rows
    passes = rows["quality_score"] >= recipe.checks.row_above
    return _filtered(rows, passes), _filtered(rows, ~passes)


def _filtered(rows: "pl.DataFrame", which: "pl.Series") -> "pl.DataFrame":
    """Rows that are chosen; the table itself when that is all of them, as it is nearly always."""
    return rows if which.all() else rows.filter(which)


def _neighbours(recipe: StationRecipe, station: catalogue.Station, stations: list[catalogue.Station]) -> list[str]:
    limits = recipe.checks.neighbours
    return [] if limits is None else [s.id for s in nearest(station, stations, limits)]
