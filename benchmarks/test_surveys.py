"""What a survey costs beyond its checks: bookkeeping per collection as their number grows, and a child per check."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.executor import Threads
from tasks.lake import children
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Window
from tasks.plan import Options
from tasks.runner import run_phase
from tasks.surveys import catalogue
from tasks.surveys.collection import Collection, Sample
from tasks.surveys.sampling import place
from tests.surveys.cmr_server import cmr, many

ROOT = Path(__file__).resolve().parents[1]
ECHO = "benchmarks.survey_echo:echo"
SIZES = tuple(int(n) for n in os.environ.get("SURVEY_SIZES", "1000 10000 100000").split())
PHASES = ("ingest", "refine", "validate", "regrid", "export")


def sample(self: catalogue.Catalogue, of: Collection, seed: int) -> Sample:
    """A granule that is known by its name for one that cannot be tiled: neither request nor check cost anything."""
    index = place(of.id, seed, of.granules or 1)
    return Sample(of, seed, of.granules or 1, index, f"G-{of.id}", (f"https://data.example/{of.id}.{index}.zip",))


@pytest.mark.parametrize("count", SIZES)
def test_overhead(benchmark, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole survey in two threads on a local lake, then the same again with nothing to do: milliseconds a collection,
    the listing included, requests for granules and checks left out."""
    monkeypatch.setattr(catalogue.Catalogue, "sample", sample)
    row: dict[str, float] = {"collections": count}

    def survey() -> None:
        with cmr(many(count), lambda concept, index: []) as served:
            settings = {"catalogue.url": served.url, "catalogue.rate": 1e6, "catalogue.page_size": 2000}
            recipe = recipes.load("cmr-collections", settings)
            lake, executor = Lake(str(tmp_path / "lake")), Threads(2)
            for phase in PHASES:
                begun = time.perf_counter()
                report = run_phase(lake, recipe, phase, Window(), Options(), executor)
                assert report.status == "done", report.problems[:3]
                row[phase] = (time.perf_counter() - begun) * 1000 / count
            begun = time.perf_counter()
            reports = [run_phase(lake, recipe, phase, Window(), Options(), executor) for phase in PHASES]
            assert {r.status for r in reports} == {"nothing to do"}
            row["all five again"] = (time.perf_counter() - begun) * 1000 / count
            executor.close()
        catalogue.forget()

    benchmark.pedantic(survey, rounds=1)
    del row["regrid"]
    row["sum"] = sum(v for k, v in row.items() if k in PHASES)
    benchmark.extra_info["table"] = "surveys"
    benchmark.extra_info["rows"] = [{k if k == "collections" else f"{k} (ms)": v for k, v in row.items()}]


@pytest.fixture
def pool() -> Iterator[children.Pool]:
    made = children.Pool(ECHO)
    made.run(b"", 60, 2**30)
    yield made
    made.close()


def test_children(benchmark, pool: children.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does nothing, in a child that is used again, in a fork of its own, and in a process of its own."""

    def each(count: int, call: Callable[[], object]) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - begun) * 1000 / count

    code = "from benchmarks.survey_echo import echo; echo(b'')"
    own = each(3, lambda: subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True))
    monkeypatch.setattr(children, "REUSED", 1)
    forked = each(100, lambda: pool.run(b"", 60, 2**30))
    monkeypatch.undo()
    pool.run(b"", 60, 2**30)
    reused = each(500, lambda: pool.run(b"", 60, 2**30))
    benchmark.pedantic(lambda: pool.run(b"", 60, 2**30), rounds=5)
    benchmark.extra_info["table"] = "survey-children"
    benchmark.extra_info["rows"] = [
        {"a check in": name, "milliseconds": value, "as a multiple": value / reused}
        for name, value in (("a child used again", reused), ("a fork of its own", forked), ("a new process", own))
    ]
