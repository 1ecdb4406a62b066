"""A published cube of a quarter of a degree for the benchmarks of serving: smooth fields, point-shaped chunks.

``python -m benchmarks.serving_cube LAKE`` makes one run of five variables and 85 lead times (1.8 GB of float32) in a
few seconds a variable: each field is the sum of three maps times functions of the lead time.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson

from tasks.forecasts.rounding import keep_bits
from tasks.lake.cube_template import ArrayTemplate, CubeTemplate
from tasks.lake.cubes import Cube
from tasks.lake.lake import Lake
from tasks.lake.run_axis import FIELD_STATUS, RunEntry

START = datetime(2026, 11, 20, tzinfo=UTC)
LEADS = (*range(0, 144, 3), *range(144, 366, 6))
"""Lead times of ECMWF's open data, hours: 85."""

VARIABLES = {
    "t2m": ("K", "2 metre temperature", 280.0, 15.0),
    "d2m": ("K", "2 metre dewpoint temperature", 275.0, 12.0),
    "u10": ("m s**-1", "10 metre U wind component", 0.0, 8.0),
    "v10": ("m s**-1", "10 metre V wind component", 0.0, 8.0),
    "msl": ("Pa", "mean sea level pressure", 101325.0, 900.0),
}
"""Name -> units, long_name, mean and spread."""

BITS = 12
"""Mantissa bits kept, as a recipe's ``keep_bits``."""


def template(
    shape: tuple[int, int], leads: Sequence[int], tile: tuple[int, ...], shard: tuple[int, ...], names: Sequence[str]
) -> CubeTemplate:
    """The cube's structure: chunks of ``tile`` and shards of ``shard`` cells along lead_time, latitude, longitude."""
    dims = ("lead_time", "latitude", "longitude")
    latitude = np.linspace(90, -90, shape[0])
    longitude = np.arange(shape[1]) * (360 / shape[1])
    return CubeTemplate(
        START,
        timedelta(hours=12),
        tuple(leads),
        {
            "lead_time": (("lead_time",), np.asarray(leads), {"units": "hours", "dtype": "timedelta64[ns]"}),
            "latitude": (("latitude",), latitude, {"units": "degrees_north", "standard_name": "latitude"}),
            "longitude": (("longitude",), longitude, {"units": "degrees_east", "standard_name": "longitude"}),
        },
        {
            name: ArrayTemplate(
                dims, (len(leads), *shape), tile, shard, {"units": VARIABLES[name][0], "long_name": VARIABLES[name][1]}
            )
            for name in names
        },
        {"title": "Made-up model", "source": "formula"},
    )


def fields(name: str, run: int, leads: Sequence[int], shape: tuple[int, int], rows: slice) -> np.ndarray:
    """Values of some rows of a variable: ``(lead_time, latitude, longitude)`` float32."""
    _, _, mean, spread = VARIABLES[name]
    seed = list(VARIABLES).index(name) + 1 + run / 7
    lat = np.radians(np.linspace(90, -90, shape[0])[rows])[:, None]
    lon = np.radians(np.arange(shape[1]) * (360 / shape[1]))[None, :]
    still = mean + spread * np.cos(2 * lat + seed) * np.ones_like(lon)
    ridge = spread * np.cos(lat) * np.sin((3 + seed) * lat + 5 * lon)
    small = 0.1 * spread * np.cos(lat) * np.sin(40 * lat + 60 * lon + seed)
    hours = np.asarray(leads, dtype="float32")[:, None, None]
    values = np.cos(hours / 31 + seed) * ridge.astype("float32")[None]
    values += np.cos(hours / 7 - seed) * small.astype("float32")[None]
    values += still.astype("float32")[None]
    keep_bits(values, BITS)
    return values


def publish(
    cube: Cube, structure: CubeTemplate, run: int, leads: Sequence[int], shape: tuple[int, int], workers: int = 2
) -> str:
    """Write and publish one run; the snapshot."""
    name = f"{START + run * structure.interval:%Y-%m-%dT%H}"
    cube.begin(name, run)

    def one(job: tuple[str, int]) -> bytes:
        variable, first = job
        rows = slice(first, min(first + structure.arrays[variable].shards[1], shape[0]))
        with cube.fork(name) as fork:
            fork.group[variable][run, :, rows] = fields(variable, run, leads, shape, rows)
        return fork.data

    jobs = [(v, r) for v, array in structure.arrays.items() for r in range(0, shape[0], array.shards[1])]
    with ThreadPoolExecutor(workers) as pool:
        forks = list(pool.map(one, jobs))
    present = {v: np.full(len(leads), FIELD_STATUS["present"], "int8") for v in structure.arrays}
    return cube.publish(name, forks, structure, RunEntry(run, "accepted", leads[-1], leads[-1], present), {"run": name})


def make(
    lake: Lake,
    zone: str = "quarter",
    *,
    recipe: str = "serving",
    shape: tuple[int, int] = (721, 1440),
    leads: Sequence[int] = LEADS,
    chunk: tuple[int, int, int] = (0, 16, 16),
    rows: int = 368,
    variables: Sequence[str] = tuple(VARIABLES),
    runs: int = 1,
) -> Cube:
    """A lake with one cube of ``runs`` runs under the zone's pointer.

    ``chunk`` counts lead times (0: all), rows and columns; a shard has ``rows`` whole rows of the grid.
    """
    lake.prepare()
    whole = (chunk[0] or len(leads), min(chunk[1], shape[0]), min(chunk[2], shape[1]))
    up = [-(-n // c) * c for n, c in zip((len(leads), min(rows, shape[0]), shape[1]), whole, strict=True)]
    structure = template(shape, leads, whole, tuple(up), variables)
    path = f"cubes/{recipe}/{zone}/made.icechunk"
    cube = lake.cube(path)
    cube.ensure(structure)
    for run in range(runs):
        publish(cube, structure, run, leads, shape)
    lake.objects.put(f"cubes/{recipe}/{zone}.json", orjson.dumps({"path": path}))
    return cube


if __name__ == "__main__":
    make(Lake(str(Path(sys.argv[1]))))
