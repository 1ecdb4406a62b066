"""The demo and a GFS-like run, phase by phase: fields a second, MB a second, peak memory."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import yaml

from tasks.lake.recipe import PHASES

from . import gfs_like

ROOT = Path(__file__).resolve().parents[1]
RUN = datetime(2026, 11, 20, tzinfo=UTC)


def gfs_recipe(folder: Path, steps: Sequence[int] = gfs_like.STEPS) -> Path:
    """A recipe for the GFS-like archive in ``folder``."""
    archive = folder / "archive"
    gfs_like.write(archive, RUN, steps)
    variables = [
        {"name": "msl", "param": "PRMSL", "keep_bits": 11},
        {"name": "t2m", "param": "TMP", "level_type": "heightAboveGround", "levels": [2], "keep_bits": 7},
        {"name": "u10", "param": "UGRD", "keep_bits": 6},
        {"name": "v10", "param": "VGRD", "keep_bits": 6},
        {"name": "t850", "param": "TMP", "level_type": "isobaricInhPa", "levels": [850], "keep_bits": 7},
    ]
    recipe = {
        "name": "gfs-like",
        "kind": "forecast",
        "source": {
            "type": "folder", "root": archive.as_uri(), "pattern": "gfs.t{init:%H}z.pgrb2.0p25.f{step:03d}",
            "index": "noaa", "steps": list(steps),
        },
        "runs": {"start": "2026-11-20T00:00:00Z", "every": 6, "default": "2026-11-20T00"},
        "select": {"variables": variables},
        "grids": [{"name": "global-1", "spacing": 1, "method": "conservative"}],
        "exports": [{"type": "map", "name": "map", "variable": "t2m", "lead_time": 24}],
    }  # fmt: skip
    path = folder / "gfs-like.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    """Name of a run -> (recipe, lake)."""
    base = tmp_path_factory.mktemp("benchmarks")
    return {"demo": ("demo", base / "demo"), "gfs-like": (str(gfs_recipe(base)), base / "gfs")}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["demo", "gfs-like"])
def test_phase(benchmark, lakes: dict[str, tuple[str, Path]], name: str, phase: str):
    """Time is that of the phase inside its process, imports apart; memory is the process's peak."""
    recipe, lake = lakes[name]
    numbers: list[dict[str, float]] = []

    def once() -> None:
        command = [sys.executable, "-m", "benchmarks.phase_run", recipe, phase, str(lake)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        numbers.append(orjson.loads(done.stdout))

    benchmark.pedantic(once, rounds=3, iterations=1)
    best = min(numbers, key=lambda n: n["seconds"])
    row = {
        "run": name,
        "phase": phase,
        "partitions": best["partitions"],
        "seconds": best["seconds"],
        "CPU s": best["cpu"],
        "fields/s": best["fields"] / best["seconds"] if best["fields"] else "",
        "MB/s in": best["bytes"] / best["seconds"] / 1e6 if best["bytes"] else "",
        "peak memory (MB)": round(best["peak"] / 1e6),
    }
    benchmark.extra_info.update({"table": "phases", "rows": [row]})
