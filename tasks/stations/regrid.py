"""Regrid observations: to longer intervals, and where the recipe wants it to a grid."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from ..lake.ledger import Record
from ..lake.objects import Objects
from ..lake.partition import Input, Output, Partition, Produced, Status, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import catalogue, tables
from .gridding import netcdf
from .recipe import Resample, StationGrid, StationRecipe
from .resample import joined, minutes, resampled
from .times import years
from .validate import silver


class Regrid(Phase[StationRecipe]):
    """Partition: year x resampling x station, and year x grid once all of those are done.

    Output: ``resampled/<recipe>/<name>/station_id=<id>/year=<year>/part.parquet``; settling: one NetCDF file a grid,
    ``gridded/<recipe>/<grid>/<year>.nc``.
    """

    name = "regrid"
    version = "1"
    threads = 2
    batch_count = 64

    def scopes(self, context: Context[StationRecipe], window: Window) -> list[str]:
        return years(context.recipe, window, datetime.now(UTC))

    def plan(self, context: Context[StationRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        if not recipe.resample and not recipe.grids:
            return ScopePlan(scope, (), (f"{recipe.name} names neither a longer interval nor a grid",))
        here, before = silver(context, scope), silver(context, str(int(scope) - 1))
        partitions = []
        for spec in recipe.resample:
            for station, output in here.items():
                # The first interval that ends in this year began in the one before.
                outputs = [output, *([before[station]] if station in before else [])]
                inputs = tuple(Input(o.uri, o.digest) for o in outputs)
                part = [spec.model_dump(mode="json"), recipe.every]
                partitions.append(
                    Partition(
                        key=f"{scope}/{spec.name}/{station}",
                        fingerprint=fingerprint(self.version, part, inputs),
                        inputs=inputs,
                        params={"resample": spec.name, "station": station},
                        bytes=sum(o.bytes for o in outputs),
                        memory=8760 * 60 // recipe.every * 1000,
                    )
                )
        return ScopePlan(scope, tuple(partitions))

    def process(self, context: Context[StationRecipe], partition: Partition) -> Produced:
        recipe, year = context.recipe, int(partition.scope)
        spec = next(r for r in recipe.resample if r.name == partition.params["resample"])
        station = str(partition.params["station"])
        own, *before = [tables.read(context.lake.objects, i.uri, i.digest) for i in partition.inputs]
        start = datetime(year, 1, 1, tzinfo=UTC) - timedelta(minutes=minutes(spec))
        rows = joined([*[b.filter(b["timestamp"] > start) for b in before], own])
        table = tables.of_year(resampled(rows, spec, recipe.every), year)
        data = tables.write(table, {"station_id": station, "recipe": recipe.name, "attribution": recipe.attribution})
        key = resampled_key(recipe.name, spec, partition.scope, station)
        return Produced((context.lake.write(key, data),), metrics={"rows": table.height})

    def settle_part(self, context: Context[StationRecipe]) -> object:
        return context.recipe.part("grids", "title", "attribution")

    def settling(self, context: Context[StationRecipe], scope: str, records: Mapping[str, Record]) -> Partition:
        """Grids of the silver table depend on it, too, not only on what was resampled."""
        partition = super().settling(context, scope, records)
        if not any(g.of is None for g in context.recipe.grids):
            return partition
        inputs = (*partition.inputs, *(Input(o.uri, o.digest) for o in silver(context, scope).values()))
        print = fingerprint(f"{self.name}-{self.version}-settle", self.settle_part(context), inputs)
        return Partition(key=partition.key, fingerprint=print, inputs=inputs)

    def settle(self, context: Context[StationRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        """Interpolate to the recipe's grids."""
        outputs = []
        for spec in context.recipe.grids:
            sources = _sources(context, spec, scope, records)
            if not sources:
                continue
            data = _fields(context, spec, scope, sources)
            key = f"gridded/{context.recipe.name}/{spec.name}/{scope}.nc"
            outputs.append(context.lake.write(key, data))
        return Produced(tuple(outputs), metrics={"grids": len(outputs)})


def resampled_key(recipe: str, spec: Resample, year: str, station: str) -> str:
    """Where the resampled table of a station and year lies in the lake."""
    return f"resampled/{recipe}/{spec.name}/station_id={station}/year={year}/part.parquet"


def _sources(
    context: Context[StationRecipe], spec: StationGrid, scope: str, records: Mapping[str, Record]
) -> dict[str, Output]:
    """Station -> the table that a grid is made from."""
    if spec.of is None:
        return silver(context, scope)
    prefix = f"{scope}/{spec.of}/"
    return {
        k.removeprefix(prefix): r.outputs[0]
        for k, r in sorted(records.items())
        if k.startswith(prefix) and r.status is Status.DONE and r.outputs
    }


def _fields(context: Context[StationRecipe], spec: StationGrid, scope: str, sources: dict[str, Output]) -> bytes:
    recipe = context.recipe
    offered = catalogue.stored(context.lake, recipe)
    stations = [offered.station(s) for s in sources]
    times, values = stacked(context.lake.objects, list(sources.values()), spec.variables)
    return netcdf(
        spec, stations, times, values,
        {"title": recipe.title, "attribution": recipe.attribution, "year": scope},
    )  # fmt: skip


def stacked(
    objects: Objects, outputs: list[Output], columns: tuple[str, ...]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Tables of stations as arrays: times datetime64[s] (time,), column -> float64 (time, station), NaN for nothing."""
    import polars as pl

    read = [tables.read(objects, o.uri, o.digest).select("timestamp", *columns) for o in outputs]
    times = pl.concat([t.select("timestamp") for t in read]).unique().sort("timestamp")
    aligned = [times.join(t, on="timestamp", how="left", maintain_order="left") for t in read]
    values = {name: np.stack([t[name].to_numpy() for t in aligned], axis=1) for name in columns}
    return times["timestamp"].dt.replace_time_zone(None).to_numpy().astype("datetime64[s]"), values
