"""Refine of a 0.25-degree GFS-like run - 85 steps of ten variables, half CCSDS, half complex packing - from S3."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.s3_archive import serving

from . import gfs_like
from .refine_usual import SOME, THREADS

ROOT = Path(__file__).resolve().parents[1]
RUN = datetime(2026, 11, 20, tzinfo=UTC)
RUNS = 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs, a bucket each day and hour."""
    folder = tmp_path_factory.mktemp("gfs")
    for number in range(RUNS):
        run = RUN + number * timedelta(hours=6)
        gfs_like.write(folder / f"gfs/{run:%Y%m%d%H}", run, gfs_like.FULL_STEPS, gfs_like.FULL)
    return folder


def recipe(endpoint: str, path: Path) -> Path:
    """A recipe that reads them from the S3 server."""
    document = {
        "name": "gfs-full", "kind": "forecast",
        "source": {
            "type": "folder", "root": f"s3://gfs?endpoint={endpoint}&region=us-east-1&anonymous=true",
            "pattern": "{init:%Y%m%d%H}/gfs.t{init:%H}z.pgrb2.0p25.f{step:03d}", "index": "noaa",
            "steps": list(gfs_like.FULL_STEPS),
        },
        "runs": {"start": f"{RUN:%Y-%m-%dT%H}:00:00Z", "every": 6, "default": f"{RUN:%Y-%m-%dT%H}"},
        "select": {"variables": [v.recipe for v in gfs_like.FULL]},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return path


def measured(*command: object) -> dict[str, Any]:
    """A benchmark process's numbers."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout.splitlines()[-1])


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_refine(benchmark, archive: Path, tmp_path: Path):
    """Beside nothing but decoding and writing, cfgrib, and references read lazily; fewer fields where a way is slow."""
    rows: list[dict[str, Any]] = []
    with serving(archive) as endpoint:
        place, lake = recipe(endpoint, tmp_path / "gfs.yaml"), tmp_path / "lake"
        bucket = f"gfs/{RUN:%Y%m%d%H}"
        measured("benchmarks.phase_run", place, "ingest", lake)
        # The first one touches memory that the machine never used before.
        ours = min(
            (measured("benchmarks.phase_run", place, "refine", lake) for _ in range(3)), key=lambda n: n["seconds"]
        )
        parts = {}
        for way in ("decode", "write"):
            tries = [measured("benchmarks.refine_usual", way, endpoint, bucket, tmp_path / way) for _ in range(2)]
            parts[way] = min(tries, key=lambda n: n["seconds"])
        others = {
            way: measured("benchmarks.refine_usual", way, endpoint, bucket, tmp_path / way)
            for way in ("references", "cfgrib")
        }
    speed = ours["fields"] / ours["seconds"]

    def row(name: str, numbers: dict[str, Any], per_field: float, memory: float | str = "") -> None:
        rows.append(
            {
                "way": name, "fields": numbers["fields"], "seconds": numbers["seconds"], "CPU s": numbers["cpu"],
                "fields/s": 1 / per_field, "peak memory (MB)": memory, "refine's speed, times this": speed * per_field,
            }
        )  # fmt: skip

    row("refine, two threads", ours, ours["seconds"] / ours["fields"], round(ours["peak"] / 1e6))
    both = {k: parts["decode"][k] + parts["write"][k] for k in ("seconds", "cpu")} | {"fields": ours["fields"]}
    row("limit: only decoding, then only writing", both, both["seconds"] / both["fields"])
    row("only ecCodes, from memory", parts["decode"], parts["decode"]["seconds"] / parts["decode"]["fields"])
    row("only rounding, compressing, writing", parts["write"], parts["write"]["seconds"] / parts["write"]["fields"])
    for way, name in (
        ("references", "one variable: kerchunk references, xarray, Dask's threads, to_zarr"),
        ("cfgrib", f"{SOME} steps: copied, cfgrib, xarray, Dask's threads, to_zarr"),
    ):
        numbers = others[way]
        row(name, numbers, numbers["seconds"] / numbers["fields"], round(numbers["peak"] / 1e6))
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info.update({"table": "refine", "rows": rows})


def test_growth(benchmark, archive: Path, tmp_path: Path):
    """One run and four, one thread and two."""
    rows = []
    with serving(archive) as endpoint:
        place = recipe(endpoint, tmp_path / "gfs.yaml")
        for runs, slots in ((1, 1), (1, THREADS), (RUNS, THREADS)):
            lake = tmp_path / f"lake-{runs}-{slots}"
            last = RUN + (runs - 1) * timedelta(hours=6)
            window = [f"--slots={slots}", f"--start={RUN:%Y-%m-%dT%H}", f"--end={last:%Y-%m-%dT%H}"]
            measured("benchmarks.phase_run", place, "ingest", lake, *window)
            numbers = measured("benchmarks.phase_run", place, "refine", lake, *window)
            row = {
                "runs": runs, "threads": slots, "fields": numbers["fields"], "seconds": numbers["seconds"],
                "CPU s": numbers["cpu"], "fields/s": numbers["fields"] / numbers["seconds"],
                "peak memory (MB)": round(numbers["peak"] / 1e6), "MB from the provider": numbers["bytes"] / 1e6,
                "MB on disk": size_of(lake / "cubes") / 1e6,
            }  # fmt: skip
            rows.append(row)
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info.update({"table": "refine-growth", "rows": rows})
