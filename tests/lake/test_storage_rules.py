"""Storage classes by age: which one holds, what S3 is told, and what it costs."""

from datetime import timedelta

import pytest

from tasks.lake import recipe as recipes
from tasks.lake.errors import RecipeError
from tasks.lake.objects import locate
from tasks.lake.prices import prices
from tasks.lake.storage_rules import StorageRule, class_at, lifecycle, merged, stages
from tasks.lake.transfer import PIECE
from tasks.lake.transfer_cost import cost

GIB = 2**30


def rules(**classes: str) -> tuple[StorageRule, ...]:
    """``STANDARD_IA="7d"`` as a rule."""
    return tuple(StorageRule(after=after, storage_class=name) for name, after in classes.items())  # type: ignore[arg-type]


AGED = rules(STANDARD_IA="7d", GLACIER_IR="40d", GLACIER="200d")


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, None), (6.99, None), (7, "STANDARD_IA"), (39, "STANDARD_IA"), (40, "GLACIER_IR"), (4000, "GLACIER")],
)
def test_the_class_at_an_age(days: float, expected: str | None) -> None:
    assert class_at(AGED, timedelta(days=days)) == expected


def test_a_recipe_of_any_kind_may_have_them() -> None:
    for name in ("demo", "knmi-10min", "cmr-collections"):
        found = recipes.load(name, {"storage": [{"after": "7d", "class": "GLACIER"}]})
        assert found.storage == rules(GLACIER="7d")
        assert recipes.parse(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ([{"after": "7d", "class": "GLACIER"}, {"after": "9d", "class": "STANDARD_IA"}], "nothing moves back"),
        ([{"after": "7d", "class": "STANDARD_IA"}, {"after": "7d", "class": "GLACIER"}], "after 7d follows"),
        ([{"after": "7d", "class": "ONEZONE_IA"}, {"after": "9d", "class": "GLACIER_IR"}], "no rule of S3 moves"),
        ([{"after": "7 days", "class": "GLACIER"}], "storage.0.after"),
        ([{"after": "7d", "class": "CELLAR"}], "storage.0.class"),
        ([{"after": "7d", "class": "GLACIER", "why": "x"}], "unknown key 'storage.0.why'"),
    ],
)
def test_rules_that_cannot_be(storage: list[dict[str, str]], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipes.load("demo", {"storage": storage})


def test_lifecycle_rules_are_those_that_s3_takes() -> None:
    """30 days before infrequent access, and 30 more before anything colder: the User Guide's constraints."""
    found = lifecycle("demo", AGED, ["b/raw/demo/", "b/cubes/x/chunks/"])
    moving = [rule for rule in found.configuration["Rules"] if "Transitions" in rule]
    assert [rule["Filter"]["And"]["Prefix"] for rule in moving] == ["b/cubes/x/chunks/", "b/raw/demo/"]
    for rule in moving:
        assert [(t["StorageClass"], t["Days"]) for t in rule["Transitions"]] == [
            ("STANDARD_IA", 30), ("GLACIER_IR", 60), ("GLACIER", 200),
        ]  # fmt: skip
        assert rule["Filter"]["And"]["ObjectSizeGreaterThan"] == 128 * 1024 - 1
    assert found.notes == (
        "S3 moves objects to STANDARD_IA after 30 days at the earliest, not 7",
        "S3 moves objects to GLACIER_IR after 60 days at the earliest, not 40",
    )
    assert len({rule["ID"] for rule in found.configuration["Rules"]}) == 3


def test_rules_of_others_stay() -> None:
    mine = lifecycle("demo", AGED, ["raw/demo/"]).configuration
    theirs = [{"ID": "mine"}, {"ID": "weatherlake demo2 raw/demo2/"}, {"Prefix": "without a name"}]
    once = merged("demo", mine, theirs)
    assert once["Rules"][:3] == theirs
    assert merged("demo", mine, once["Rules"]) == once


def test_what_keeping_costs() -> None:
    """100 GiB at the list prices of us-east-1: 2.30, 1.25, 0.40, 0.36 USD a month; 50 days of 90 in GLACIER_IR not."""
    sizes = [GIB] * 100 + [1000] * 7
    found = stages(rules(STANDARD_IA="7d", GLACIER_IR="40d", GLACIER="80d"), sizes, prices())
    assert [(s.storage_class, s.first, s.last) for s in found] == [
        ("STANDARD", 0, 7), ("STANDARD_IA", 7, 40), ("GLACIER_IR", 40, 80), ("GLACIER", 80, None),
    ]  # fmt: skip
    assert [s.month for s in found] == pytest.approx([2.30, 1.25, 0.40, 0.36])
    assert [s.early for s in found] == pytest.approx([0, 0, 0.40 * 50 / 30, 0])
    old = stages(rules(STANDARD_IA="7d"), sizes, prices(), age=30)
    assert [(s.storage_class, s.first) for s in old] == [("STANDARD_IA", 30)]


@pytest.mark.parametrize(
    ("source", "target", "usd"),
    [
        # 1,000 puts of 0.005 a thousand; 1,000 gets of 0.0004; 1,000 MiB of egress at 0.09 a GiB.
        ("/lake", "s3://b/x", 0.005),
        ("s3://a/x", "/archive", 0.0004 + 1000 / 1024 * 0.09),
        ("s3://a/x", "s3://b/x", 0.005),
        ("/lake", "/archive", None),
        ("/lake", "s3://b/x?endpoint=http://127.0.0.1:9000", None),
    ],
)
def test_what_sending_costs(source: str, target: str, usd: float | None) -> None:
    found = cost(locate(source), locate(target), [2**20] * 1000, None, prices())
    assert (found.reads, found.writes) == (1000, 1000)
    assert found.usd == (None if usd is None else pytest.approx(usd))


def test_large_objects_take_more_requests() -> None:
    found = cost(locate("/lake"), locate("s3://b/x"), [4 * PIECE, 10], "GLACIER_IR", prices())
    assert (found.reads, found.writes) == (4 + 1 + 1, 4 + 2 + 1)
    assert found.usd == pytest.approx(6 * 0.02 / 1000 + 0.005 / 1000)
