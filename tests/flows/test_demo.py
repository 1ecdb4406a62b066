"""The demo pipeline as a user runs it: once, again, after losing something, after changing the recipe."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from tasks.lake import open_cube
from tasks.lake.recipe import PHASES, folder

from .running import PLAIN, assert_same_cubes, pipeline, run

NOTHING = dict.fromkeys(PHASES, 0)
RUN = "2026-11-20T00"


def test_the_second_time_there_is_nothing_to_do(demo: Path):
    ran = pipeline("demo", demo)
    assert ran.code == 0
    assert ran.json["status"] == "nothing to do"
    assert ran.counts("done") == NOTHING
    assert ran.counts("skipped") == ran.counts("planned")


def test_json_has_the_documented_form(demo: Path):
    document = pipeline("demo", demo).json
    assert set(document) == {"recipe", "status", "exit_code", "phases"}
    assert [p["phase"] for p in document["phases"]] == list(PHASES)
    for phase in document["phases"]:
        assert set(phase) >= {"recipe", "phase", "status", "exit_code", "partitions", "outputs", "seconds"}
        assert set(phase["partitions"]) == {"planned", "skipped", "done", "failed", "lost", "rejected"}
        for uri in phase["outputs"]:
            assert uri.startswith(demo.as_uri())
            assert Path(uri.removeprefix("file://")).exists(), uri


def test_the_pipeline_says_where_its_results_are(demo: Path):
    ran = run("pipeline", "demo", "--lake", demo, *PLAIN)
    assert ran.code == 0
    for ending in (".png", ".json", ".icechunk", "report.html"):
        assert any(line.endswith(ending) and Path(line).exists() for line in ran.out.splitlines()), ending
    assert "from tasks.lake import open_cube" in ran.out
    assert "nothing to do" in ran.err


LOST = {
    "a manifest": (f"manifests/demo/{RUN}/step-006.parquet", {"ingest"}),
    "a copy of the provider's bytes": (f"raw/demo/all/{RUN}/step-003", {"ingest"}),
    "a fork": (f"staging/demo/refined/{RUN}/msl-m01.fork", {"refine"}),
    "the refined cube": ("cubes/demo/refined", {"refine"}),
    "the findings on a variable": (f"verdicts/demo/{RUN}/t2m.json", {"validate"}),
    "the report on the run": (f"verdicts/demo/{RUN}/report.html", set()),
    "the regridded cube": ("cubes/demo/global-4", {"regrid"}),
    "the exports": (f"exports/demo/{RUN}", {"export"}),
}


@pytest.mark.parametrize("what", LOST)
def test_a_lost_output_is_made_again_and_nothing_else(what: str, copy_of_demo: Callable[[], Path], demo: Path):
    lake = copy_of_demo()
    path, redone = LOST[what]
    target = lake / path
    assert target.exists()
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    assert {p for p, n in ran.counts("done").items() if n} == redone
    if target.suffix in (".parquet", ".fork"):
        assert sum(ran.counts("done").values()) == 1
    assert_same_cubes(demo, lake)
    assert pipeline("demo", lake).json["status"] == "nothing to do"


def edited(tmp_path: Path, **changes: object) -> Path:
    """The demo's recipe with top-level keys replaced."""
    recipe = yaml.safe_load((folder() / "demo.yaml").read_text()) | changes
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_another_grid_regrids_and_exports_only_what_reads_it(copy_of_demo: Callable[[], Path], tmp_path: Path):
    lake = copy_of_demo()
    recipe = edited(tmp_path, grids=[{"name": "global-4", "spacing": 6, "method": "bilinear"}])
    ran = pipeline(recipe, lake)
    assert ran.code == 0, ran.out + ran.err
    done = ran.counts("done")
    assert (done["ingest"], done["refine"], done["validate"]) == (0, 0, 0)
    assert done["regrid"] == ran.counts("planned")["regrid"]
    reading = [e for e in yaml.safe_load(recipe.read_text())["exports"] if e.get("zone") == "global-4"]
    assert done["export"] == len(reading)
    assert dict(open_cube(str(lake), "demo", "global-4").sizes)["latitude"] == 30


def test_one_variable_more_adds_just_that(copy_of_demo: Callable[[], Path], demo: Path, tmp_path: Path):
    lake = copy_of_demo()
    whole = yaml.safe_load((folder() / "demo.yaml").read_text())
    fewer = whole["select"] | {"variables": [v for v in whole["select"]["variables"] if v["name"] != "msl"]}
    small = tmp_path / "small"
    assert pipeline(edited(tmp_path, select=fewer, exports=[]), small).code == 0
    refined = open_cube(str(small), "demo", "refined")
    assert "msl" not in refined
    ran = pipeline("demo", small)
    assert ran.code == 0, ran.out + ran.err
    assert ran.counts("done")["refine"] == len(whole["select"]["members"])
    assert_same_cubes(demo, small)
    del lake


def test_another_run_joins_the_cube(copy_of_demo: Callable[[], Path], demo: Path):
    lake = copy_of_demo()
    ran = pipeline("demo", lake, "--run", "2026-11-20T12")
    assert ran.code == 0, ran.out + ran.err
    cube = open_cube(str(lake), "demo", "refined")
    assert [str(t)[:13] for t in cube["init_time"].values] == [RUN, "2026-11-20T12"]
    first = open_cube(str(demo), "demo", "refined").sel(init_time=RUN)
    np.testing.assert_array_equal(cube["t2m"].sel(init_time=RUN).values, first["t2m"].values)
    everything = open_cube(str(lake), "demo", "refined", published_only=False)
    assert everything.sizes["init_time"] == 3
    assert np.isnat(everything["ingested_forecast_length"].values).tolist() == [False, True, False]


def test_plan_prints_and_changes_nothing(tmp_path: Path):
    lake = tmp_path / "lake"
    ran = run("ingest", "demo", "--lake", lake, "--plan")
    assert ran.code == 0
    assert "step-000" in ran.out
    assert not lake.exists()


def test_a_phase_alone_says_which_one_comes_first(tmp_path: Path):
    ran = run("refine", "demo", "--lake", tmp_path / "lake", *PLAIN)
    assert ran.code == 2
    assert "python -m flows.ingest demo" in ran.err


def test_status_shows_the_ledger(demo: Path):
    document = run("status", "demo", "--lake", demo, "--json").json
    assert {p["phase"]: p["counts"].get("done", 0) > 0 for p in document["phases"]} == dict.fromkeys(PHASES, True)
    table = run("status", "demo", "--lake", demo)
    assert table.code == 0
    assert "refine" in table.out
