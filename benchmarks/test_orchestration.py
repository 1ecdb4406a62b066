"""What Prefect costs: the same command without it, with a temporary server, and with one that runs already."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.deployments.production import production

from .test_phases import gfs_recipe

ROOT = Path(__file__).resolve().parents[1]
HOWS = ("without Prefect", "a running server", "a temporary server")
ROUNDS = 2


@dataclass(frozen=True)
class Ran:
    """One command: seconds from start to end, seconds inside the phases as they say, batches that were task runs."""

    wall: float
    inside: float
    batches: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """API of a server that runs already."""
    with production(tmp_path_factory.mktemp("prefect")) as made:
        yield made.url


def _run(flow: str, recipe: str, lake: Path, how: str, server: str, home: Path) -> Ran:
    """Run a command in threads of its process; every way of doing it has a lake of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {"PREFECT_HOME": str(home)}
    more = ["--no-prefect"] if how == HOWS[0] else []
    before = _batches(server)
    if how == HOWS[1]:
        env["PREFECT_API_URL"] = server
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"flows.{flow}", recipe, "--lake", str(lake), "--cluster", "none", "--json", *more],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall = time.perf_counter() - begun
    assert done.returncode == 0, done.stdout + done.stderr
    report = orjson.loads(done.stdout)
    phases: list[dict[str, Any]] = report.get("phases") or [report]
    return Ran(wall, sum(p["seconds"] for p in phases), _batches(server) - before)


def _batches(server: str) -> int:
    """Task runs of batches that the server knows."""
    wanted = {"task_runs": {"name": {"like_": " 2026-"}}}
    return int(httpx.post(f"{server}/task_runs/count", json=wanted, timeout=60).json())


@pytest.mark.parametrize(("name", "flow"), [("demo, pipeline", "pipeline"), ("gfs-like, refine", "refine")])
def test_overhead(benchmark, server: str, tmp_path: Path, name: str, flow: str) -> None:
    recipe = "demo" if name.startswith("demo") else str(gfs_recipe(tmp_path))
    found: dict[str, list[Ran]] = {how: [] for how in HOWS}

    def once() -> None:
        for how in HOWS:
            lake = tmp_path / f"{how.replace(' ', '-')}-{len(found[how])}"
            if flow == "refine":
                _run("ingest", recipe, lake, HOWS[0], server, tmp_path / "home")
            found[how].append(_run(flow, recipe, lake, how, server, tmp_path / "home"))

    benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
    plain = min(found[HOWS[0]], key=lambda r: r.wall)
    batches = max(r.batches for r in found[HOWS[1]])
    rows = []
    for how in HOWS:
        best = min(found[how], key=lambda r: r.wall)
        more = best.inside - plain.inside
        rows.append(
            {
                "run": name, "how": how, "seconds": best.wall, "in the phases": best.inside,
                "outside": best.wall - best.inside,
                "more than without": "" if how == HOWS[0] else f"{best.wall / plain.wall - 1:.0%}",
                "ms more a batch": "" if how == HOWS[0] else round(1000 * more / max(1, batches)),
                "batches": "" if how == HOWS[0] else batches,
            }
        )  # fmt: skip
    benchmark.extra_info.update({"table": "orchestration", "rows": rows})
