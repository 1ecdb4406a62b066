"""Serving from a global cube of a quarter of a degree: 85 lead times, 5 variables, point-shaped chunks (16 x 16).

*Cold* is the first read after a snapshot was opened: its manifests, indexes and chunks have not been looked at. *Warm*
is every later one, each at another place, and nothing of it in the cache of chunks. S3 is a server on loopback, once as
it is and once with 40 ms before each answer. Beside stand zarr-python and xarray on the same cube through Icechunk,
opened and warm as well, and xarray on the same values with a map in each chunk.
"""

import importlib.util
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import xarray as xr

from tasks.exports.locate import nearest
from tasks.lake.lake import Lake
from tasks.lake.ranges import fetch, parts
from tasks.serving.cache import Cache
from tasks.serving.reader import Box, Cells, Outer, cost, read
from tasks.serving.snapshot import Shard, Snapshot, open_snapshot
from tests.api.running import running
from tests.s3_archive import serving

from .serving_cube import make

LATENCY = 0.04
POINTS = 1_000
QUERIES = 300
CLIENTS = 50
SECONDS = float(os.environ.get("WEATHERLAKE_API_SECONDS", "60"))
"""How long the API is asked by all clients."""

CUBE = "cubes/serving/quarter/made.icechunk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bucket with the lake; 0.4 GB."""
    path = tmp_path_factory.mktemp("serving")
    lake = Lake(str(path / "bucket" / "lake"))
    make(lake)
    make(lake, "maps", chunk=(1, 721, 1440), rows=721, variables=["t2m"])
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["folder", "S3", "S3 + 40 ms"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[str, Lake]]:
    """The lake in a folder, and behind a server."""
    if request.param == "folder":
        yield request.param, Lake(str(folder / "bucket" / "lake"))
        return
    with serving(folder, latency=LATENCY if "ms" in request.param else 0.0) as endpoint:
        yield request.param, Lake(f"s3://bucket/lake?endpoint={endpoint}&region=us-east-1&anonymous=true")


def opened(lake: Lake) -> Snapshot:
    return open_snapshot(lake.cube(CUBE), Cache(64 * 2**20))


def where(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes anywhere on earth."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-90, 90, count), rng.uniform(-180, 180, count)


def points(snapshot: Snapshot, lat: np.ndarray, lon: np.ndarray, names: list[str] | None = None) -> dict[str, Any]:
    """Located and read, as the API does."""
    found, _ = nearest(snapshot.grid, lat, lon)
    at = Cells(found.rows.ravel(), found.columns.ravel())
    return read(snapshot, snapshot.newest, names or list(snapshot.variables), at)


def timed(job: Callable[[int], Any], times: int) -> np.ndarray:
    """Milliseconds of each call."""
    found = np.empty(times)
    for i in range(times):
        begun = time.perf_counter()
        job(i)
        found[i] = (time.perf_counter() - begun) * 1e3
    return found


def row(query: str, store: str, ms: np.ndarray, goal: str, beside: str = "", other: np.ndarray | None = None) -> dict:
    """A row of the table."""
    found: dict[str, Any] = {
        "query": query, "store": store, "p50 ms": float(np.percentile(ms, 50)), "p99 ms": float(np.percentile(ms, 99)),
        "goal": goal, "beside": beside, "its p50 ms": "", "ratio": "",
    }  # fmt: skip
    if other is not None:
        found["its p50 ms"] = float(np.percentile(other, 50))
        found["ratio"] = float(np.percentile(other, 50) / np.percentile(ms, 50))
    return found


def test_points(benchmark, store: tuple[str, Lake]) -> None:
    name, lake = store
    few = 100 if "ms" in name else QUERIES
    lat, lon = where(few)
    cold = [opened(lake) for _ in range(12)]
    snapshot = cold[0]
    first = timed(lambda i: points(cold[i], lat[i : i + 1], lon[i : i + 1]), len(cold))
    warm = timed(lambda i: points(snapshot, lat[i : i + 1], lon[i : i + 1]), few)
    benchmark.pedantic(lambda: points(snapshot, lat[:1], lon[:1]), rounds=5)

    dataset = lake.cube(CUBE).open().isel(init_time=0)
    group = lake.cube(CUBE).group()
    names = list(snapshot.variables)
    places, _ = nearest(snapshot.grid, lat, lon)
    rows, columns = places.rows[:, 0], places.columns[:, 0]
    many = where(POINTS, 2)
    thousand = timed(lambda _: points(snapshot, *many), 3)
    found, _ = nearest(snapshot.grid, *many)
    at = {
        "latitude": xr.DataArray(found.rows[:, 0], dims="p"),
        "longitude": xr.DataArray(found.columns[:, 0], dims="p"),
    }

    def by_zarr(i: int) -> None:
        for key in names:
            np.asarray(group[key][0, :, rows[i], columns[i]])

    def one_by_zarr(i: int) -> None:
        np.asarray(group["t2m"][0, :, rows[i], columns[i]])

    once = timed(lambda i: points(snapshot, lat[i : i + 1], lon[i : i + 1], ["t2m"]), few // 4)
    zarr = timed(one_by_zarr, few // 4)
    all_zarr = timed(by_zarr, few // 10)
    everywhere = timed(lambda _: dataset[names].isel(at).load(), 1)
    expected = dataset["t2m"].isel({k: v[:50] for k, v in at.items()}).values
    np.testing.assert_array_equal(points(snapshot, many[0][:50], many[1][:50], ["t2m"])["t2m"], expected)
    rows_of = [
        row("1 point, 5 variables, cold", name, first, "p99 < 300 ms"),
        row("1 point, 5 variables, warm", name, warm, "p99 < 50 ms", "zarr-python", all_zarr),
        row("1 point, 1 variable, warm", name, once, ">= 1.9 x at 40 ms", "zarr-python", zarr),
        row("1,000 points, 5 variables", name, thousand, "< 2,000 ms", "xarray", everywhere),
    ]
    if name == "folder":
        maps = lake.cube("cubes/serving/maps/made.icechunk").open().isel(init_time=0)
        by_map = timed(lambda i: maps["t2m"].isel(latitude=int(rows[i]), longitude=int(columns[i])).values, 3)
        rows_of.append(row("1 point, 1 variable, warm", name, once, "", "xarray, a map a chunk", by_map))
    benchmark.extra_info["table"] = "serving"
    benchmark.extra_info["rows"] = rows_of


@pytest.mark.parametrize("store", ["folder", "S3"], indirect=True)
def test_a_slice_of_seven_days(benchmark, store: tuple[str, Lake]) -> None:
    """Europe and half the globe, 7 days of 15, beside reading the same stored bytes and doing nothing with them."""
    name, lake = store
    snapshot = opened(lake)
    days = Outer({"lead_time": np.flatnonzero(snapshot.lead_time <= 168)})
    boxes = {
        "7 days of Europe": Box(np.arange(72, 224), np.r_[1340:1440, 0:180]),
        "7 days of a hemisphere": Box(np.arange(0, 361), np.arange(0, 1440)),
    }
    rows_of = []
    for text, box in boxes.items():
        names = list(snapshot.variables)
        ranges: list[tuple[Shard, int, int]] = []
        plain = snapshot.read

        def noted(shard: Shard, offset: int, length: int, plain: Any = plain, into: Any = ranges) -> bytes:
            into.append((shard, offset, length))
            return plain(shard, offset, length)

        snapshot.read = noted  # type: ignore[method-assign]
        read(snapshot, snapshot.newest, names, box, days)
        snapshot.read = plain  # type: ignore[method-assign]
        stored = sum(length for _, _, length in ranges)
        wanted = [part for shard, offset, length in ranges for part in parts(shard, [(offset, length)])]
        values = sum(cost(snapshot.variables[n], box, days).values for n in names) * 4

        def raw(wanted: Any = wanted) -> None:
            for _ in fetch(snapshot.read, wanted):
                pass

        ours, bare = [], []
        for _ in range(3):
            ours += timed(lambda _, names=names, box=box: read(snapshot, snapshot.newest, names, box, days), 1).tolist()
            bare += timed(lambda _: raw(), 1).tolist()
        seconds, least = statistics.median(ours) / 1e3, statistics.median(bare) / 1e3
        rows_of.append(
            {
                "slice": text, "store": name, "stored MB": stored / 1e6, "values MB": values / 1e6, "seconds": seconds,
                "values MB/s": values / 1e6 / seconds, "stored MB/s": stored / 1e6 / seconds,
                "raw reading MB/s": stored / 1e6 / least, "share of raw": least / seconds,
                "values to raw": values / 1e6 / seconds / (stored / 1e6 / least),
            }
        )  # fmt: skip
    benchmark.pedantic(lambda: read(snapshot, snapshot.newest, ["t2m"], boxes["7 days of Europe"], days), rounds=2)
    benchmark.extra_info["table"] = "serving-slice"
    benchmark.extra_info["rows"] = rows_of


def asked_by(clients: int, seconds: float, url: str, path: str, folder: Path) -> dict[str, float]:
    """Requests a second, latencies and errors of clients that ask for points anywhere: wrk, or aiohttp without it."""
    if shutil.which("wrk") is None:
        return by_aiohttp(clients, seconds, url + path)
    script = folder / "points.lua"
    script.write_text(
        "math.randomseed(7)\nrequest = function()\n  return wrk.format('GET', string.format("
        f"'{path.replace('%', '%%').replace('POINT', 'POINT(%.3f%%20%.3f)')}', "
        "math.random() * 360 - 180, math.random() * 180 - 90))\nend\n"
    )
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "20s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    errors += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    of = {k: float(v) * unit[u] for k, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate is not None
    return {"requests/s": float(rate[1]), "p50 ms": of["50"], "p99 ms": of["99"], "errors": errors}


def by_aiohttp(clients: int, seconds: float, url: str) -> dict[str, float]:
    """The same by a process of ours, which takes more of the processor than wrk."""
    code = """
import asyncio, json, random, sys, time
import aiohttp
clients, seconds, url = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
took, errors = [], 0
async def client(session, end):
    global errors
    while time.perf_counter() < end:
        place = f"POINT({random.uniform(-180, 180):.3f}%20{random.uniform(-90, 90):.3f})"
        begun = time.perf_counter()
        try:
            async with session.get(url.replace("POINT", place)) as answer:
                await answer.read()
                errors += answer.status != 200
        except aiohttp.ClientError:
            errors += 1
        took.append(time.perf_counter() - begun)
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        end = time.perf_counter() + seconds
        await asyncio.gather(*[client(session, end) for _ in range(clients)])
asyncio.run(main())
took.sort()
ms = lambda share: took[int(share * (len(took) - 1))] * 1e3
print(json.dumps({"requests/s": len(took) / seconds, "p50 ms": ms(0.5), "p99 ms": ms(0.99), "errors": errors}))
"""
    command = [sys.executable, "-c", code, str(clients), str(seconds), url]
    return orjson.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


_XPUBLISH = """
import sys
import uvicorn, xpublish
from xpublish_edr import CfEdrPlugin
from tasks.lake.lake import Lake
cube = Lake(sys.argv[1]).cube(sys.argv[2]).open().isel(init_time=0)
cube = cube.drop_vars([v for v in cube.coords if v not in ("lead_time", "latitude", "longitude")])
cube.latitude.attrs["axis"], cube.longitude.attrs["axis"] = "Y", "X"
app = xpublish.Rest({"cube": cube}, plugins={"edr": CfEdrPlugin()}).app
uvicorn.run(app, port=int(sys.argv[3]), log_level="warning", loop="uvloop")
"""


def test_the_api_under_many_clients(benchmark, folder: Path, tmp_path: Path) -> None:
    lake = str(folder / "bucket" / "lake")
    path = "/collections/serving.quarter/position?coords=POINT&f=CoverageJSON"
    rows_of = []
    for workers in (1, 2):
        with running(lake, "--rate", "none", "--workers", str(workers), "--recipe", "serving") as server:
            asked_by(CLIENTS, 2, server.url, path, tmp_path)
            for clients in (1, CLIENTS):
                seconds = SECONDS if (workers, clients) == (2, CLIENTS) else min(SECONDS, 10)
                found = asked_by(clients, seconds, server.url, path, tmp_path)
                rows_of.append(
                    {"server": "weatherlake", "processes": workers, "clients": clients, "s": seconds} | found
                )
            if workers == 2:
                benchmark.pedantic(lambda: server.get("/conformance"), rounds=3)
            assert all(r["errors"] == 0 for r in rows_of), rows_of
    if has_xpublish():
        rows_of += beside_xpublish(lake, tmp_path)
    benchmark.extra_info["table"] = "serving-api"
    benchmark.extra_info["rows"] = rows_of


def has_xpublish() -> bool:
    return all(importlib.util.find_spec(name) for name in ("xpublish", "xpublish_edr"))


def beside_xpublish(lake: str, tmp_path: Path) -> list[dict[str, Any]]:
    """The same cube through xpublish and its EDR plug-in, which answers without limits, ETags and switching."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _XPUBLISH, lake, CUBE, str(port)], cwd=Path(__file__).parents[1]
    )
    try:
        url, path = f"http://127.0.0.1:{port}", "/datasets/cube/edr/position?method=nearest&coords=POINT"
        for _ in range(300):
            try:
                httpx.get(f"{url}/datasets", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        rows_of = []
        for clients in (1, CLIENTS):
            found = asked_by(clients, min(SECONDS, 10), url, path, tmp_path)
            rows_of.append(
                {"server": "xpublish-edr", "processes": 1, "clients": clients, "s": min(SECONDS, 10)} | found
            )
        return rows_of
    finally:
        process.kill()
        process.wait()
