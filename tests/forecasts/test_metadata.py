"""The metadata of the recipes' cubes that is checked in."""

import json
from pathlib import Path

import pytest
import yaml

from flows import template as command
from tasks.forecasts import decode, metadata
from tasks.forecasts.message import walk
from tasks.forecasts.recipe import ForecastRecipe
from tasks.lake import recipe as recipes
from tasks.lake.errors import NotFound

from .provider_headers import template

ROOT = Path(__file__).resolve().parents[2]
FORECASTS = [n for n in recipes.names() if isinstance(recipes.load(n), ForecastRecipe)]
PROVIDED = [n for n in FORECASTS if n != "demo"]
REAL = {
    "gfs/gfs.t00z.pgrb2.2p50.f000": ("gfs", 12),
    "gfs/gfs.20111008.2p5deg.f072.grib2": ("gfs", 12),
    "ecmwf/20260702000000-24h-enfo-ef.2t.m1-3.grib2": ("ifs-ens", 1),
    "ecmwf/20220817060000-scda-fc.tuv850.s12-24.grib2": ("ifs-hres", 3),
    "ecmwf/20230711120000-3h-oper-fc.skt.0p4.grib2": ("ifs-hres", 1),
}
"""File -> the recipe, and how many of its variables it holds."""


def loaded(name: str) -> ForecastRecipe:
    recipe = recipes.load(name)
    assert isinstance(recipe, ForecastRecipe)
    return recipe


@pytest.mark.parametrize("name", FORECASTS)
def test_every_recipe_makes_what_is_checked_in(name: str) -> None:
    """When this fails, a change alters what users find in their cubes: see `python -m flows.template NAME`."""
    recipe = loaded(name)
    assert metadata.differences(metadata.learnt(recipe), recipe) == []


@pytest.mark.parametrize("name", PROVIDED)
def test_headers_are_those_that_ecCodes_makes_of_the_providers_keys(name: str) -> None:
    recipe = loaded(name)
    kept, made = metadata.learnt(recipe), template(recipe)
    assert kept.variables == made.variables
    assert kept.grid == made.grid


@pytest.mark.real
@pytest.mark.parametrize("path", REAL)
def test_headers_are_those_of_the_real_files(shared: Path, path: str) -> None:
    name, count = REAL[path]
    found = {}
    data = (shared / "data" / path).read_bytes()
    at = 0
    while at < len(data):
        length = walk(data, at).length
        header = decode.header(data[at : at + length])
        found[header.short_name, header.type_of_level, header.step_type] = header
        at += length
    compared = 0
    for variable, learnt in metadata.learnt(loaded(name)).variables.items():
        header = found.get((learnt.short_name, learnt.type_of_level, learnt.step_type))
        if header is not None:
            compared += 1
            said = (header.cf_name, header.name, header.units)
            assert said == (learnt.cf_name, learnt.long_name, learnt.units), variable
    assert compared >= count


def test_a_change_of_a_recipe_is_shown_as_a_diff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metadata, "FOLDER", tmp_path / "templates")
    document = yaml.safe_load((ROOT / "deployments/recipes/demo.yaml").read_text())
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(document))
    assert command.main([str(path)]) == 2
    assert "has no template" in capsys.readouterr().err
    metadata.write(metadata.learnt(loaded("demo"), ROOT / "deployments/templates"), loaded("demo"))
    assert command.main([str(path)]) == 0
    capsys.readouterr()
    document["select"]["variables"][0]["keep_bits"] = 9
    path.write_text(yaml.safe_dump(document))
    assert command.main([str(path), "--json"]) == 1
    lines = json.loads(capsys.readouterr().out)["differences"]
    assert [line.strip() for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        '-      "keep_bits": 11,', '+      "keep_bits": 9,'
    ]  # fmt: skip
    assert command.main([str(path), "--write"]) == 0
    assert command.main([str(path)]) == 0


def test_a_source_that_says_something_else_is_told(tmp_path: Path) -> None:
    recipe = loaded("gfs")
    kept = metadata.learnt(recipe)
    assert metadata.departures(kept, recipe) == []
    with pytest.raises(NotFound):
        metadata.learnt(recipe, tmp_path)
