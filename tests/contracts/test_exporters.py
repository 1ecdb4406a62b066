"""What every exporter owes its callers. A new exporter adds a line to ``CONFIGS``."""

import numpy as np
import pytest
import xarray as xr

import tasks.forecasts  # noqa: F401  (adds the exporters that only forecasts can have)
from tasks.exports.exporter import Exporter, exporters
from tasks.lake.errors import UsageError
from tests.exports.runs import MadeRuns, make_run

CONFIGS: dict[str, dict] = {
    "points": {
        "points": [{"name": "a", "latitude": 50, "longitude": 5}, {"name": "b", "latitude": 48, "longitude": 355}]
    },
    "netcdf": {},
    "slice": {"runs": "1d"},
    "geozarr": {"smallest": 20},
    "cog": {},
    "training": {"variables": ["t2m", "tp"]},
    "map": {"variable": "t2m", "lead_time": 6, "width": 400},
}
"""One minimal entry of ``exports`` per exporter; all must fit the runs of tests/exports/runs.py."""

UNKNOWN: dict[str, dict] = {"map": {"variable": "nosuch"}}
"""How an exporter is asked for a variable that is not there, when not by ``variables``."""

ELSEWHERE = {"grib", "references", "archive"}
"""Exporters of what a run was made of, or of all of it: they need a lake, and have tests of their own on one."""

ALL = [name for name in exporters if name not in ELSEWHERE]


def test_what_needs_a_lake_is_no_exporter_of_a_cube():
    for name in ELSEWHERE & set(exporters):
        cls = exporters[name]
        assert cls.made_of == "messages" or cls.export is not Exporter.export


@pytest.fixture(params=ALL)
def config(request) -> dict:
    if request.param not in CONFIGS:
        pytest.fail(f"exporter {request.param!r} has no entry in CONFIGS of {__name__}")
    return {"type": request.param, "name": "product"} | CONFIGS[request.param]


def contents(paths, folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


RUNS = {
    "whole": {},
    "no members": {"members": 0},
    "no levels": {"levels": ()},
    "neither": {"members": 0, "levels": ()},
    "no holes": {"nan": False},
    "0..360": {"kind": "global-360"},
    "region": {"kind": "regional"},
}


@pytest.mark.parametrize("what", RUNS)
def test_the_same_run_gives_the_same_bytes_and_nothing_outside(config, what, tmp_path):
    run = make_run(**RUNS[what])
    before = run.copy(deep=True)
    results = []
    for n in range(2):
        folder = tmp_path / str(n) / "out"
        folder.mkdir(parents=True)
        paths = exporters.build(config).write(MadeRuns([run]), folder)
        assert paths
        assert sorted(paths) == sorted(p for p in folder.rglob("*") if p.is_file())
        results.append(contents(paths, folder))
    assert results[0] == results[1]
    assert all(results[0].values())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]
    assert [p.name for p in (tmp_path / "0").iterdir()] == ["out"]
    xr.testing.assert_identical(run, before)


def test_an_unknown_variable_is_one_sentence(config, tmp_path):
    asked = config | UNKNOWN.get(config["type"], {"variables": ["nosuch"]})
    with pytest.raises(UsageError, match="'nosuch'") as caught:
        exporters.build(asked).write(MadeRuns([make_run()]), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_field_of_nothing_but_missing_values(config, tmp_path):
    run = make_run("regional", levels=())
    for name in run.data_vars:
        run[name] = run[name] * np.float32(np.nan)
    assert exporters.build(config).write(MadeRuns([run]), tmp_path)


def test_a_run_on_zarr_gives_what_the_run_in_memory_gives(config, tmp_path):
    run = make_run("regional")
    run.to_zarr(tmp_path / "run.zarr", consolidated=False, zarr_format=3)
    lazy = xr.open_zarr(tmp_path / "run.zarr", consolidated=False, chunks=None, decode_timedelta=True)
    found = []
    for name, source in (("memory", run), ("zarr", lazy)):
        folder = tmp_path / name
        folder.mkdir()
        found.append(contents(exporters.build(config).write(MadeRuns([source]), folder), folder))
    assert found[0] == found[1]


def test_the_configuration_survives_json(config):
    exporter = exporters.build(config)
    assert exporters.build(exporter.model_dump(mode="json")) == exporter
