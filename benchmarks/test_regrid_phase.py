"""The whole regrid phase, read to published, beside bare copying: the same source chunks read, the same target written.

Copying means: every chunk of the source is read once, and arrays of the target's shape and layout are written through
the same cube - no weights, no products, no checks, no ledger. Both in two threads, in turns, in one process. CPU
seconds stand beside the rates, because they say the same on a machine that has other things to do.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tasks.executor import Threads
from tasks.forecasts.regrid_plan import Group
from tasks.forecasts.regrid_target import Target, source_of, target_of
from tasks.forecasts.regrid_template import blocks, place
from tasks.forecasts.runs import index_of, parse_run
from tasks.forecasts.template import load as template_of
from tasks.forecasts.template import refined_cube
from tasks.lake.errors import ExitCode
from tasks.lake.fork import fast_codecs
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.lake.recipe import load
from tasks.plan import Options
from tasks.runner import run_phase

from .test_phases import gfs_recipe

RUN = "2026-11-20T00"
STEPS = range(0, 75, 3)
ROUNDS = 3
GRIDS = ((0.5, "conservative"), (1, "conservative"), (1, "bilinear"))
CASES: dict[str, dict[str, Any]] = {
    "fields only": {},
    "with products": {
        "products": [
            {"type": "wind_speed", "name": "ws10", "u": "u10", "v": "v10"},
            {"type": "wind_direction", "name": "wd10", "u": "u10", "v": "v10"},
            {"type": "convert", "name": "t2m_c", "of": "t2m", "units": "degC"},
        ]
    },
}


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and a lake with a published run of 0.25 degrees: 5 variables, 25 steps."""
    base = tmp_path_factory.mktemp("regrid-phase")
    recipe, lake = gfs_recipe(base, STEPS), base / "lake"
    for phase in ("ingest", "refine", "validate"):
        _run(recipe, lake, phase)
    return recipe, lake


def _run(recipe: Path, lake: Path, phase: str) -> float:
    threads = Threads(2)
    try:
        begun = time.perf_counter()
        report = run_phase(Lake(str(lake)), load(str(recipe)), phase, Window(), Options(force=True), threads)
        seconds = time.perf_counter() - begun
    finally:
        threads.close()
    assert report.exit_code is ExitCode.DONE, report.problems
    return seconds


def _copy(recipe: Path, lake: Path) -> float:
    """Seconds for reading all source chunks and writing all target shards, group by group and block by block."""
    context: Context[Any] = Context(Lake(str(lake)), load(str(recipe)))
    template = template_of(context)
    structure, grid = template.cube(context.recipe), source_of(template, context.recipe)
    index = index_of(context.recipe, parse_run(RUN))
    targets = [target_of(template, context.recipe, spec) for spec in context.recipe.grids]
    made = {t.path: np.random.default_rng(1).normal(280, 10, t.grid.shape).astype("float32") for t in targets}
    for target in targets:
        context.lake.cube(target.path).begin("copy", index)

    def one(target: Target, group: Group, number: tuple[int, ...]) -> None:
        size = target.size(grid, structure, group)
        with fast_codecs():
            source: Any = refined_cube(context, structure).group()
            arrays = [source[name] for name in group.variables]
        at_once = size.at_once(len(group.variables))
        for start in range(0, size.leads, at_once):
            for array in arrays:
                np.asarray(array[index, start : start + at_once])
        where = place(number, target.grid.shape, target.block(group))
        with context.lake.cube(target.path).fork("copy") as fork:
            for name in group.arrays:
                outer = target.structure.arrays[name].shape[: -len(where)]
                values = made[target.path][where]
                part = np.broadcast_to(values, (*outer, *values.shape)).copy()
                fork.group[name][(index, *(slice(None),) * len(outer), *where)] = part

    jobs = [(t, g, n) for t in targets for g in t.groups for n in blocks(t.grid.shape, t.block(g))]
    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: one(*job), jobs))
    seconds = time.perf_counter() - begun
    for target in targets:
        context.lake.cube(target.path).drop_branch("copy")
    return seconds


@pytest.mark.parametrize("case", CASES)
def test_phase_against_copying(benchmark: Any, refined: tuple[Path, Path], case: str, tmp_path: Path):
    """The faster of three turns each counts."""
    recipe, lake = refined
    document = yaml.safe_load(recipe.read_text()) | CASES[case]
    document["grids"] = [
        {"name": f"{case.replace(' ', '-')}-{n}", "spacing": spacing, "method": method}
        for n, (spacing, method) in enumerate(GRIDS)
    ]
    changed = tmp_path / "gfs-like.yaml"
    changed.write_text(yaml.safe_dump(document))
    _run(changed, lake, "regrid")
    took: dict[Callable[..., float], list[tuple[float, float]]] = {_copy: [], lambda r, k: _run(r, k, "regrid"): []}

    def turn() -> None:
        for what, seconds in took.items():
            before = time.process_time()
            seconds.append((what(changed, lake), time.process_time() - before))

    benchmark.pedantic(turn, rounds=ROUNDS, iterations=1)
    (copying, copying_cpu), (phase, phase_cpu) = (np.min(seconds, axis=0) for seconds in took.values())
    fields = 5 * len(STEPS) * len(GRIDS)
    row = {
        "0.25 degrees to three grids": case,
        "fields": fields,
        "phase (fields/s)": fields / phase,
        "copying (fields/s)": fields / copying,
        "share of copying (%)": round(100 * copying / phase),
        "phase (CPU s)": phase_cpu,
        "copying (CPU s)": copying_cpu,
    }
    benchmark.extra_info.update({"table": "regrid-phase", "rows": [row]})
