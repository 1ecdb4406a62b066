"""Settings: keys of a recipe set for one run, and the flags of the kinds."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError
from tasks.lake.settings import Option, apply, parse_setting
from tests import toy_kind

DOCUMENT = {"a": {"b": 1, "c": [{"d": 2}]}, "e": None}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a=1", "a", 1),
        ("a.b=[0, 1]", "a.b", [0, 1]),
        ("a=", "a", None),
        ("a=x=y", "a", "x=y"),
        ("a={init:%Y}/{step:03d}", "a", "{init:%Y}/{step:03d}"),
    ],
)
def test_a_setting_is_a_key_and_a_yaml_value(text: str, key: str, value: Any) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["", "a", "=1", "a..b=1", ".a=1"])
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        parse_setting(text)


def test_settings_reach_into_mappings_and_lists_and_leave_the_document_alone() -> None:
    changed = apply(DOCUMENT, {"a.b": 7, "a.c.0.d": 8, "e.f": 9, "g": 10})
    assert changed == {"a": {"b": 7, "c": [{"d": 8}]}, "e": {"f": 9}, "g": 10}
    assert DOCUMENT == {"a": {"b": 1, "c": [{"d": 2}]}, "e": None}


@pytest.mark.parametrize("key", ["a.b.c", "a.c.1.d", "a.c.x", "a.b.c.d"])
def test_a_setting_that_leads_nowhere_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match=f"the setting '{key}' leads nowhere"):
        apply(DOCUMENT, {key: 1})


def test_a_flag_that_takes_many_is_given_again_or_holds_several() -> None:
    assert Option("--x", "x", "", many=True).value(["1 2,3", "4"]) == [1, 2, 3, 4]
    assert Option("--x", "x", "", many=True, text=True).value(["06 07"]) == ["06", "07"]
    assert Option("--x", "x", "").value(["1", "2"]) == 2


def test_a_recipe_is_loaded_with_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_kind.register(monkeypatch)
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"name": "toy", "kind": "toy"}))
    assert recipes.kind_of(str(path)) == "toy"
    recipe = recipes.load(str(path), {"scratch": "/x", "faults.one/00": {"how": "bug"}})
    assert isinstance(recipe, toy_kind.Recipe)
    assert recipe.scratch == "/x"
    assert recipe.faults["one/00"].how == "bug"


def test_flags_of_the_kinds_do_not_clash() -> None:
    flags = [option.flag for options in recipes.options().values() for option in options]
    assert len(flags) == len(set(flags))
