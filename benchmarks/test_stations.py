"""Stations: refine and validate beside the obvious pandas way, and ingest beside what the provider permits."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest

from tasks.executor import Threads
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Window
from tasks.plan import Options
from tasks.runner import run_phase
from tasks.stations import tables
from tasks.stations.catalogue import Station
from tasks.stations.covjson import parse
from tasks.stations.edr import close_clients
from tasks.stations.prepare import prepared
from tasks.stations.validate import examined, read_from, split
from tests.stations.edr_server import KEY, PARAMETERS, SLOTS, Edr, _document, places, serve

STATION_YEARS = 70
NEIGHBOURS = 5
TIMES = pd.date_range("2023-01-01", "2023-12-31 23:00", freq="h", tz="UTC")


def answers() -> list[bytes]:
    """A year of hourly CoverageJSON with 23 parameters, of as many stations as one has neighbours, and one more."""
    names = [*PARAMETERS, *(f"X{n}" for n in range(SLOTS - len(PARAMETERS)))]
    edr = Edr("", [], None, 60, _weather, dict.fromkeys(names, ""), "", None)  # type: ignore[arg-type]
    first, last = TIMES[0].to_pydatetime(), TIMES[-1].to_pydatetime()
    return [
        orjson.dumps(_document([p], names, first, last, edr), option=orjson.OPT_SERIALIZE_NUMPY)
        for p in places(NEIGHBOURS + 1)
    ]


def _weather(place: Any, parameter: str, times: np.ndarray) -> np.ndarray:
    from tests.stations.edr_server import weather

    return weather(place, parameter, times)


def ours(documents: Sequence[bytes], recipe: Any) -> list[pl.DataFrame]:
    """Refine and validate of so many station-years: JSON to refined Parquet, that to silver Parquet."""
    written = [tables.write(tables.of_year(tables.merged([s.table for s in parse(d, "x")]), 2023)) for d in documents]
    result = []
    # Validate keeps a table for the stations nearby, which are compared with it.
    columns, step = recipe.columns, recipe.step
    ready = [prepared(pl.read_parquet(BytesIO(w), columns=read_from(columns)), columns, step) for w in written]
    for n, own in enumerate(ready):
        near = [ready[(n + k) % len(ready)] for k in range(1, NEIGHBOURS + 1)]
        table, judged = examined(own, near, recipe, Station("a", "a", 5.0, 52.0, 1.0))
        good, _ = split(table, recipe, judged)
        tables.write(good)
        result.append(good)
    return result


def ours_counted(documents: Sequence[bytes], recipe: Any) -> int:
    """The same in a worker; how many rows it made."""
    return sum(len(table) for table in ours(documents, recipe))


def with_pandas(documents: Sequence[bytes], recipe: Any) -> list[pd.DataFrame]:
    """The same the obvious way: a dict per row, a DataFrame of them, checks with pandas, ``to_parquet`` between."""
    written = []
    for data in documents:
        rows = []
        for coverage in json.loads(data)["coverages"]:
            ranges = coverage["ranges"]
            for at, time in enumerate(coverage["domain"]["axes"]["t"]["values"]):
                rows.append({"timestamp": time} | {name: r["values"][at] for name, r in ranges.items()})
        frame = pd.DataFrame(rows)
        frame["timestamp"] = pd.to_datetime(frame["timestamp"])
        buffer = BytesIO()
        frame.to_parquet(buffer, compression="zstd")
        written.append(buffer.getvalue())
    limits, mapped = recipe.checks, recipe.columns
    result = []
    for n in range(len(written)):
        near = [pd.read_parquet(BytesIO(written[(n + k) % len(written)])) for k in range(NEIGHBOURS + 1)]
        own, *others = [
            t.rename(columns={m.parameter: c for c, m in mapped.items()}).set_index("timestamp").sort_index()
            for t in near
        ]
        own["precipitation"] = own["precipitation"].replace(-1, 0)
        own["wind_direction"] = own["wind_direction"].replace({0: np.nan, 990: np.nan})
        own = own[~own.index.duplicated()].reindex(TIMES)
        flags = pd.DataFrame({c: own[c].notna().map({True: 1, False: 9}) for c in mapped}, index=own.index)
        for c, r in limits.ranges.items():
            low, high = r.suspect or r.fail
            flags[c] = np.where((own[c] < low) | (own[c] > high), np.maximum(flags[c], 3), flags[c])
            flags[c] = np.where((own[c] < r.fail[0]) | (own[c] > r.fail[1]), 4, flags[c])
        for c, steps in limits.steps.items():
            for hours, tolerance in steps.items():
                flags[c] = np.where(own[c].diff(int(hours)).abs() > tolerance, np.maximum(flags[c], 3), flags[c])
            before, after = own[c].diff(), -own[c].diff(-1)
            flags[c] = np.where((before > 4) & (after < -4), 4, flags[c])
        for c, f in limits.flat.items():
            run = (own[c].diff().abs() > f.within).cumsum()
            length = own.groupby(run)[c].transform("size")
            exempt = own[c].isin(f.unless)
            flags[c] = np.where((length >= f.suspect) & ~exempt, np.maximum(flags[c], 3), flags[c])
            flags[c] = np.where((length >= (f.fail or np.inf)) & ~exempt, 4, flags[c])
        broken = {
            ("dew_point", "temperature"): own["dew_point"] > own["temperature"] + 0.1,
            ("wind_speed_10min", "wind_gust"): own["wind_speed_10min"] > own["wind_gust"] + 1,
            ("precipitation_duration", "precipitation"): (own["precipitation_duration"] > 0)
            != (own["precipitation"] > 0),
            ("sunshine_duration", "radiation"): (own["sunshine_duration"] > 0) & ~(own["radiation"] > 0),
        }  # fmt: skip
        for pair, wrong in broken.items():
            for c in pair:
                flags[c] = np.where(wrong, np.maximum(flags[c], 3), flags[c])
        for c, tolerance in limits.neighbours.tolerance.items():
            median = pd.concat([o[c] for o in others], axis=1).median(axis=1)
            flags[c] = np.where((own[c] - median).abs() > tolerance, np.maximum(flags[c], 3), flags[c])
        worth = flags.replace({1: 1.0, 2: 1.0, 3: 0.5, 4: 0.0, 9: np.nan})
        own["quality_score"] = worth.mean(axis=1)
        own = own.join(flags.add_suffix("_flag"))
        good = own[own["quality_score"] >= limits.row_above]
        good.to_parquet(BytesIO(), compression="zstd")
        result.append(good)
    return result


def test_refine_and_validate(benchmark: Any) -> None:
    recipe = recipes.load("knmi-hourly")
    made = answers()
    documents = [made[n % len(made)] for n in range(STATION_YEARS)]
    # CPU time besides: on a machine that is shared, waiting for others says nothing of either.
    worked = process_time()
    fast = benchmark.pedantic(ours, (documents, recipe), rounds=1, warmup_rounds=0)
    seconds, cpu = benchmark.stats.stats.total, process_time() - worked
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        half = STATION_YEARS // 2
        # What a worker that has been at work for a while has done already.
        list(pool.map(ours_counted, [documents[:2], documents[:2]], [recipe, recipe]))
        begun = perf_counter()
        assert (
            sum(pool.map(ours_counted, [documents[:half], documents[half:]], [recipe, recipe])) == 8760 * STATION_YEARS
        )
        together = perf_counter() - begun
    begun, worked = perf_counter(), process_time()
    slow = with_pandas(documents, recipe)
    other, other_cpu = perf_counter() - begun, process_time() - worked
    # Both did the same work.
    assert [len(t) for t in fast] == [len(t) for t in slow] == [8760] * STATION_YEARS
    np.testing.assert_allclose(fast[0]["temperature"].to_numpy(), slow[0]["temperature"].to_numpy())
    benchmark.extra_info["table"] = "stations"
    benchmark.extra_info["rows"] = [
        {
            "way": way,
            "station-years": STATION_YEARS,
            "ms a station-year": 1000 * took / STATION_YEARS,
            "CPU ms": 1000 * busy / STATION_YEARS,
            "ratio": other / took,
            "CPU ratio": other_cpu / busy,
        }
        for way, took, busy in (
            ("weatherlake", seconds, cpu),
            ("weatherlake, two workers", together, cpu),
            ("pandas, a dict per row", other, other_cpu),
        )
    ]


def test_ingest_throughput(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of 12 seconds with 50 requests: how much of what is permitted is used."""
    monkeypatch.setitem(os.environ, "KNMI_API_KEY", KEY)
    limit, seconds, wanted = 50, 12.0, 200
    with serve(1, window=(limit, seconds), latency=0.05, capacity=10) as server:
        points = len(PARAMETERS) * 8760 * 6 // wanted
        settings = {
            "source.url": server.url, "source.points": int(points / 0.95) + 1, "select.years": list(range(2018, 2024)),
            "source.windows": [{"requests": limit, "seconds": seconds}],
        }  # fmt: skip
        recipe = recipes.load("knmi-hourly", settings)
        threads = Threads(2)
        report = benchmark.pedantic(
            run_phase, (Lake(str(tmp_path / "lake")), recipe, "ingest", Window(), Options(), threads), rounds=1
        )
        threads.close()
        close_clients()
        assert report.exit_code == 0, report.problems
        at = [a.at for a in server.answers if a.status == 200]
        refused = server.statuses().count(429)
    # From the first request to the first of the last window: as many as the whole windows between permit.
    rate = (len(at) - limit) / (at[len(at) - limit] - at[0])
    share = rate / (limit / seconds)
    benchmark.extra_info["table"] = "stations-ingest"
    permitted = f"{limit} in {seconds:g} s"
    benchmark.extra_info["rows"] = [
        {"permitted": permitted, "requests": len(at), "requests/s": rate, "used": f"{share:.1%}", "refused": refused}
    ]
