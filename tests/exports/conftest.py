"""A lake with every export of two runs of a small made-up ensemble in it, as the command makes it."""

from pathlib import Path

import pytest

from tests.flows.running import pipeline

RECIPE = """\
name: small
kind: forecast
title: Small ensemble
attribution: Made up
source: {type: demo}
transfer: copy
runs: {start: 2026-11-20T00:00:00Z, every: 6, default: 2026-11-20T06}
select:
  members: [0, 1]
  steps: [0, 6, 12]
  variables:
    - {name: t2m, param: 2t, level_type: sfc, keep_bits: 23, units: K, long_name: 2 metre temperature}
    - {name: tp, param: tp, level_type: sfc, window: accum, window_start: run, keep_bits: 23, units: m}
    - {name: t, param: t, level_type: isobaricInhPa, levels: [850, 500], keep_bits: 23, units: K}
grids:
  - {name: coarse, spacing: 10, method: bilinear, variables: [t2m]}
exports:
  - {type: slice, name: nc, runs: 1d, variables: [t2m, t]}
  - {type: slice, name: part, format: zarr, runs: 1d, bbox: [170, -40, -170, 40], steps: [0, 12], members: [1]}
  - {type: netcdf, name: one}
  - {type: geozarr, name: pyramid, variables: [t2m, tp], smallest: 20}
  - {type: cog, name: cog, variables: [t2m, t], steps: [6, 12]}
  - {type: grib, name: grib, variables: [t2m, t], levels: [500], split: step}
  - {type: references, name: refs, forms: [kerchunk, icechunk]}
  - {type: training, name: samples, runs: 1d}
  - {type: map, name: loop, variable: t2m, loop: gif, width: 400}
  - &points
    type: points
    name: parquet
    format: parquet
    variables: [t2m, t]
    units: {t2m: degC}
    time_zone: Asia/Tokyo
    points:
      - {name: De Bilt, latitude: 52.1, longitude: 5.18}
      - {name: Suva, latitude: -18.1, longitude: 178.4}
  - {<<: *points, name: covjson, format: covjson}
  - {<<: *points, name: csv, format: csv, zone: coarse, variables: [t2m]}
"""

RUNS = ("2026-11-20T00", "2026-11-20T06")


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the lake."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Path:
    """A lake in which the pipeline has run for both runs. Not to be changed."""
    folder = tmp_path_factory.mktemp("exports") / "lake"
    ran = pipeline(recipe_file, folder, "--start", RUNS[0], "--end", RUNS[1])
    assert ran.code == 0, ran.out + ran.err
    return folder


@pytest.fixture(scope="session")
def exported(lake: Path) -> Path:
    """The folder with the exports of the second run."""
    return lake / "exports" / "small" / RUNS[1]
