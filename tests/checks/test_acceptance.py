"""The acceptance scale: files, what they leave out, and what is refused."""

from pathlib import Path

import pytest
import yaml

from tasks.checks.acceptance import CheckConfig, names, read
from tasks.checks.check import checks
from tasks.checks.verdict import suite
from tasks.lake import recipe as recipes
from tasks.lake.errors import RecipeError


@pytest.mark.parametrize("name", names())
def test_every_scale_that_comes_along_is_one(name: str) -> None:
    config = CheckConfig(scale=name)
    assert {c.type for c in suite(config)} == {c for c in checks if checks[c].standard}
    assert set(read(name)["checks"]) <= set(checks)


def test_a_scale_extends_another_check_by_check() -> None:
    merged = read("gfs")
    assert merged["accept_above"] == read("default")["accept_above"]
    own = {"packing": 0.0005, "allowed": 0.0001}
    assert merged["checks"]["accumulation"] == {"flag_above": 0.95, "action": "quarantine"} | own


def test_what_a_recipe_says_stands_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\naccept_above: 0.99\nchecks: {jump: {factor: 7, action: accept}}\n")
    config = CheckConfig.model_validate({"scale": str(path), "flag_above": 0.5, "run": [{"type": "jump", "factor": 9}]})
    jump = next(c for c in suite(config) if c.type == "jump")
    assert (config.accept_above, config.flag_above, jump.factor, jump.action) == (0.99, 0.5, 9, "accept")  # type: ignore[attr-defined]
    assert CheckConfig.model_validate(config.model_dump(mode="json")) == config, "workers see what the flow saw"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accept: 0.9", "unknown key 'accept'"),
        ("checks: {rnage: {}}", "no check named 'rnage'"),
        ("checks: {range: {limit: 3}}", "limit"),
        ("checks: [range]", "is not a mapping"),
        ("[", "cannot be read"),
        ("extends: no-such", "scale 'no-such' is not there; known are: default"),
        ("accept_above: 1.2", "less than or equal to 1"),
    ],
)
def test_a_file_that_is_no_scale_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        CheckConfig(scale=str(path))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"run": ["rnage"]}, "no check named 'rnage'"),
        ({"run": [{"type": "jump", "tolerance": 1.5}]}, "tolerance.*less than 1"),
        ({"run": [{"type": "range", "weight": 0}]}, "weight.*greater than 0"),
        ({"run": [{"type": "range", "action": "delete"}]}, "'accept', 'flag', 'quarantine' or 'reject'"),
        ({"run": [{"type": "range", "accept_above": 0.5, "flag_above": 0.9}]}, "flag_above .0.9. is higher"),
        ({"policy": {"rejected": "publish"}}, "policy.rejected"),
        ({"colour": "blue"}, "unknown key 'checks.colour'"),
        ({"notify": [{"block": "nobody"}]}, "checks.notify.0.block"),
    ],
)
def test_a_recipe_with_a_wrong_scale_is_refused_in_one_sentence(tmp_path: Path, wrong: dict, words: str) -> None:
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text()) | {"checks": wrong}
    with pytest.raises(RecipeError, match=words) as raised:
        recipes.parse(document)
    assert "\n" not in str(raised.value)
