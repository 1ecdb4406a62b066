"""Slices of seven days of runs against the rate at which the store gives the same bytes plainly."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks import resident
from benchmarks.serving_cube import LEADS, START, fields, template
from tasks.exports.exporter import Source, exporters
from tasks.forecasts.rounding import keep_bits
from tasks.forecasts.runs import run_id, some_runs
from tasks.lake.fork import fast_codecs
from tasks.lake.lake import Lake
from tasks.lake.reading import cube_path, open_zone
from tasks.lake.run_axis import FIELD_STATUS, RunEntry
from tests.s3_archive import serving

RUNS = 14
STEPS = LEADS[:12]
SHAPE = (721, 1440)
NAME = "t2m"
EUROPE = (-25, 33, 45, 72)


class CubeRuns(Source):
    """Runs of a cube without a recipe."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.scope, self.prefix = lake, "", "exports/slices"

    def run(self) -> Any:
        return self.runs().isel(init_time=-1)

    def runs(self) -> Any:
        scopes = [run_id(START + n * timedelta(hours=12)) for n in range(RUNS)]
        with fast_codecs():
            return some_runs(open_zone(self.lake, "slices", "maps"), scopes)

    def stored(self) -> Any:
        return self.lake.cube(cube_path(self.lake, "slices", "maps")).group(), list(range(RUNS))

    def manifest(self) -> Any:
        raise NotImplementedError

    def messages(self, rows: Any) -> Iterator[bytes]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with fourteen runs of a variable on a grid of a quarter of a degree, a map a chunk, a run a shard.

    Noise upon waves, kept to 11 bits: about as large in the store as a model's temperatures.
    """
    made = tmp_path_factory.mktemp("slices") / "lake"
    lake = Lake(str(made))
    lake.prepare()
    cube = lake.cube("cubes/slices/maps/made.icechunk")
    structure = template(SHAPE, STEPS, (1, *SHAPE), (len(STEPS), *SHAPE), [NAME])
    cube.ensure(structure)
    random = np.random.default_rng(1)
    present = {NAME: np.full(len(STEPS), FIELD_STATUS["present"], "int8")}
    for number in range(RUNS):
        run = run_id(START + number * structure.interval)
        values = fields(NAME, number, STEPS, SHAPE, slice(0, SHAPE[0]))
        values += random.normal(0, 0.3, SHAPE).astype("float32")
        keep_bits(values, 11)
        cube.begin(run, number)
        with cube.fork(run) as fork:
            fork.group[NAME][number] = values
        entry = RunEntry(number, "accepted", STEPS[-1], STEPS[-1], present)
        cube.publish(run, [fork.data], structure, entry, {"run": run})
    lake.objects.put("cubes/slices/maps.json", orjson.dumps({"path": cube.path}))
    return made


def _timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _rows(where: str, lake: Lake, folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    shards = [m for m in Lake(str(folder)).objects.listing("cubes/slices/maps") if "/chunks/" in m.key]
    stored = sum(m.size for m in shards)
    keys = [m.key for m in shards]

    def plainly() -> None:
        for start in range(0, len(keys), 8):
            lake.objects.get_many(keys[start : start + 8], concurrency=4)

    for what, keys_of in (
        ("seven days whole, Zarr", {"format": "zarr"}),
        ("Europe of them, Zarr", {"format": "zarr", "bbox": EUROPE}),
        ("Europe of them, NetCDF", {"format": "netcdf", "bbox": EUROPE}),
    ):
        exporter = exporters.build({"type": "slice", "name": "slice", "runs": "7d"} | keys_of)
        plain, taken = [], []
        for n in range(3):
            target = tmp_path / f"{where}-{what}-{n}".replace(" ", "-").replace(",", "")
            target.mkdir()
            plain.append(_timed(plainly))
            resident.forget()
            before = resident.now()
            taken.append(_timed(partial(exporter.write, CubeRuns(lake), target)))
        memory = resident.most() - before
        yield {
            "store": where,
            "slice": what,
            "stored": f"{stored / 1e6:.0f} MB of {4 * RUNS * len(STEPS) * SHAPE[0] * SHAPE[1] / 1e6:.0f} MB",
            "plain reading": f"{stored / min(plain) / 1e6:.0f} MB/s",
            "slice at": f"{stored / min(taken) / 1e6:.0f} MB/s",
            "share": f"{min(plain) / min(taken):.0%}",
            "memory": f"{memory / 1e6:.0f} MB",
        }


def test_slice(benchmark: Any, folder: Path, tmp_path: Path) -> None:
    """A slice of seven days from a folder, and from an S3 server on loopback."""
    rows: list[dict[str, str]] = []

    def measure() -> None:
        rows.extend(_rows("folder", Lake(str(folder)), folder, tmp_path))
        with serving(folder.parent) as endpoint:
            url = f"s3://{folder.name}?endpoint={endpoint}&region=us-east-1&anonymous=true"
            rows.extend(_rows("S3 on loopback", Lake(url), folder, tmp_path))

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["table"] = "slice"
    benchmark.extra_info["rows"] = rows
