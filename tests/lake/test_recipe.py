"""Recipes: read strictly, refused in one sentence, identified by content."""

from pathlib import Path

import pytest
import yaml

from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, RecipeError
from tests import toy_kind


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_kind.register(monkeypatch)


DOCUMENT = {"name": "toy", "kind": "toy", "scratch": "/nowhere"}


def test_a_recipe_survives_its_own_json() -> None:
    recipe = recipes.parse(DOCUMENT | {"partitions": 7, "faults": {"one/00": {"how": "bug"}}})
    assert isinstance(recipe, toy_kind.Recipe)
    again = recipes.parse(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.digest == recipe.digest
    assert recipe.part("name", "value") == {"name": "toy", "value": 1}
    assert recipes.parse(DOCUMENT | {"partitions": 8}).digest != recipe.digest


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "a recipe is a mapping: expected a mapping, found NoneType"),
        ([1], "a recipe is a mapping: expected a mapping, found list"),
        ({"name": "x"}, r"'kind' must be one of forecast, .*\(found None\)"),
        (DOCUMENT | {"kind": "nonsense"}, r"'kind' must be one of forecast, .*\(found 'nonsense'\)"),
        (DOCUMENT | {"knid": 1}, "recipe: unknown key 'knid'$"),
        ({"name": "x", "kind": "toy"}, "recipe: key 'scratch' is missing$"),
        (DOCUMENT | {"partitions": "many"}, r"'partitions' input should be a valid integer.*\(found 'many'\)$"),
        (DOCUMENT | {"name": "No Good"}, "'name' string should match pattern"),
        (DOCUMENT | {"name": "../x"}, "'name' string should match pattern"),
        (DOCUMENT | {"faults": {"k": {"how": "bug", "tmies": 1}}}, "unknown key 'faults.k.tmies'$"),
        (DOCUMENT | {"knid": 1, "value": []}, "'value' .*; unknown key 'knid'$"),
    ],
)
def test_what_is_no_recipe(document: object, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        recipes.parse(document)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    assert recipes.load(str(path)) == recipes.parse(DOCUMENT)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: [", "recipe bad.yaml is not YAML: "),
        (b"", "bad.yaml: a recipe is a mapping"),
        (b"\xff\xfe\xfa", "recipe bad.yaml cannot be read|recipe bad.yaml is not YAML"),
        (b"a: !!python/object:os.system 1", "recipe bad.yaml is not YAML"),
        (b"name: toy\nkind: toy\nscratch: x\nextra: 1\n", "bad.yaml: unknown key 'extra'"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=said) as caught:
        recipes.load(str(path))
    assert "\n" not in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe file '.*none.yml'"):
        recipes.load(str(tmp_path / "none.yml"))
    with pytest.raises(RecipeError, match="there is no recipe 'nonsense'; known are: "):
        recipes.load("nonsense")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(RecipeError, match=r"recipe folder\.yaml cannot be read"):
        recipes.load(str(tmp_path / "folder.yaml"))


@pytest.mark.parametrize("name", recipes.names() or [pytest.param("none", marks=pytest.mark.skip("no recipes yet"))])
def test_every_recipe_that_comes_with_weatherlake_is_good(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipes.parse(recipe.model_dump(mode="json")) == recipe
