"""A whole ensemble run - 85 steps, 51 members, 693,600 fields - at a provider 40 ms away that refuses now and then."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from tasks.forecasts.sources.ecmwf import Ecmwf

from .. import full_ensemble
from ..s3_archive import counts, serving

ROOT = Path(__file__).resolve().parents[2]
RUN = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.slow
def test_a_full_size_run_is_complete_and_correct_in_bounded_memory(tmp_path: Path):
    steps = Ecmwf(stream="enfo").steps(RUN)
    provider = tmp_path / "provider"
    written = full_ensemble.write(provider / "ecmwf-forecasts", RUN, steps)
    assert written == 85 * 51 * 160
    with serving(provider, latency=0.04, errors=0.02) as endpoint:
        recipe = tmp_path / "ens.yaml"
        recipe.write_bytes(full_ensemble.recipe(endpoint, RUN))
        command = [sys.executable, "-m", "benchmarks.phase_run", str(recipe), "ingest", str(tmp_path / "lake")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        seen = counts(endpoint)
    assert seen["503"] > 0
    indexes = {k: n for k, n in seen.items() if k.endswith(".index")}
    assert len(indexes) == 2 * 85
    assert set(indexes.values()) == {1}, "each index once, for all members"
    assert orjson.loads(done.stdout)["peak"] < 10**9
    paths = sorted((tmp_path / "lake" / "manifests").rglob("*.parquet"))
    assert len(paths) == 85
    for path in paths:
        table = pq.ParquetFile(path).read(columns=["member", "level", "offset", "length", "url"])
        assert len(table) == 51 * 160
        # Every field once: 51 members, and every message of both files.
        assert np.unique(table["member"].to_numpy()).tolist() == list(range(51))
        control = table["member"].to_numpy() == 0
        offsets = table["offset"].to_numpy()
        assert np.array_equal(np.sort(offsets[control]), np.arange(160) * full_ensemble.LENGTH)
        assert np.array_equal(np.sort(offsets[~control]), np.arange(50 * 160) * full_ensemble.LENGTH)
