"""A full-size ensemble run at a provider 40 ms away, against the usual ways; and scanning without an index."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.forecasts.scan import scan_manifest
from tasks.forecasts.sources.ecmwf import Ecmwf
from tests import full_ensemble
from tests.s3_archive import counts, serving

from . import gfs_like

ROOT = Path(__file__).resolve().parents[1]
RUN = datetime(2026, 11, 20, tzinfo=UTC)
SOURCE = Ecmwf(stream="enfo")
STEPS = SOURCE.steps(RUN)
BUCKET = "ecmwf-forecasts"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provider")
    assert full_ensemble.write(folder / BUCKET, RUN, STEPS) == 85 * 51 * 160
    return folder


def phase(endpoint: str, folder: Path) -> dict[str, Any]:
    """Ingest in a process of its own, in two threads, without Prefect and Dask."""
    recipe = folder / "ens.yaml"
    recipe.write_bytes(full_ensemble.recipe(endpoint, RUN))
    command = [sys.executable, "-m", "benchmarks.phase_run", str(recipe), "ingest", str(folder / "lake")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout)


def usual(endpoint: str, member: int, out: Path) -> int:
    """One member the usual way: every index fetched, every line parsed with json, a dict of references, a DataFrame."""
    import pandas as pd

    references = {}
    for step in STEPS:
        for file in SOURCE.files("", RUN, step):
            with urllib.request.urlopen(f"{endpoint}/{BUCKET}/{file.index_url}") as answer:
                for line in answer.read().decode().splitlines():
                    entry = json.loads(line)
                    if int(entry.get("number", 0)) == member:
                        key = f"step_{step:03d}/{entry['param']}/{entry.get('levelist', 'sfc')}/{member}/0.0.0"
                        references[key] = json.dumps([file.url, entry["_offset"], entry["_length"]])
    pd.DataFrame({"key": references.keys(), "value": references.values()}).to_parquet(out)
    return len(references)


def test_full_ensemble(benchmark, provider: Path, tmp_path: Path):
    """All of it through the phase, with 40 ms and 2 % of 503s, and without; one member the usual way, times 51."""
    rows = []
    for name, latency, errors in (("40 ms away, 2 % of 503", 0.04, 0.02), ("beside it", 0.0, 0.0)):
        with serving(provider, latency, errors) as endpoint:
            folder = tmp_path / name[:2]
            folder.mkdir()
            numbers = phase(endpoint, folder)
            seen = counts(endpoint)
        indexes = [n for k, n in seen.items() if k.endswith(".index")]
        assert len(indexes) == 170
        assert set(indexes) == {1}
        assert fields(folder) == 85 * 51 * 160
        rows.append(
            {
                "way": f"ingest, provider {name}", "members": 51, "seconds": numbers["seconds"],
                "CPU s": numbers["cpu"], "peak memory (MB)": round(numbers["peak"] / 1e6), "times ours": 1.0,
            }
        )  # fmt: skip
    with serving(provider) as endpoint:
        begun, cpu = time.perf_counter(), time.process_time()
        assert usual(endpoint, 7, tmp_path / "one.parquet") == 85 * 160
        wall, used = time.perf_counter() - begun, time.process_time() - cpu
    ratio = 51 * wall / rows[1]["seconds"]
    rows.append(
        {"way": "json, dict, DataFrame, each member alone: one member, beside it", "members": 1, "seconds": wall,
         "CPU s": used, "peak memory (MB)": "", "times ours": ratio}
    )  # fmt: skip
    benchmark.extra_info.update({"table": "ingest", "rows": rows})
    benchmark.pedantic(lambda: None, rounds=1)


def fields(folder: Path) -> int:
    """Rows of all manifests of a lake."""
    return sum(pq.ParquetFile(p).metadata.num_rows for p in (folder / "lake" / "manifests").rglob("*.parquet"))


def _timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    def once() -> tuple[float, Any]:
        begun = time.perf_counter()
        found = work()
        return time.perf_counter() - begun, found

    return min((once() for _ in range(rounds)), key=lambda r: r[0])


@pytest.fixture
def gribs(tmp_path: Path) -> Path:
    gfs_like.write(tmp_path, RUN)
    return next(p for p in sorted(tmp_path.rglob("*")) if p.is_file() and p.suffix != ".idx")


def test_scan(benchmark, gribs: Path):
    """A file without an index: our scan, and kerchunk's."""
    kerchunk = pytest.importorskip("kerchunk.grib2")
    data = gribs.read_bytes()
    ours, table = _timed(lambda: scan_manifest(data, "x"), 5)
    assert isinstance(table, pa.Table)
    theirs, found = _timed(lambda: kerchunk.scan_grib(str(gribs)), 1)
    assert len(found) == len(table)
    rows = [
        {"way": "scan", "messages": len(table), "ms a message": 1e3 * ours / len(table), "times ours": 1.0},
        {"way": "kerchunk.scan_grib", "messages": len(found), "ms a message": 1e3 * theirs / len(table),
         "times ours": theirs / ours},
    ]  # fmt: skip
    benchmark.extra_info.update({"table": "scan", "rows": rows})
    benchmark.pedantic(lambda: None, rounds=1)
