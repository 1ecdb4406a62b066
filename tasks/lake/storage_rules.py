"""Storage classes by age (``storage`` of a recipe): as a class at write, as lifecycle rules, and in money."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .objects import LARGE
from .prices import Prices
from .registry import Strict

ColdClass = Literal["STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"]
"""Classes of S3 that objects grow into, from the warmest to the coldest."""

_ORDER: tuple[str, ...] = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
_INFREQUENT = ("STANDARD_IA", "ONEZONE_IA")

MONTH = 30
"""Days of a month, as bills and this page count them."""

_GIB = 2**30


class StorageRule(Strict):
    """From an age on, a storage class: ``- {after: 7d, class: STANDARD_IA}``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    after: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}d$")] = Field(
        description="Age from which on it holds: 7d. Of a run since its initialisation, for S3 since it was written."
    )
    storage_class: ColdClass = Field(alias="class", description="Storage class of S3.")

    @property
    def days(self) -> int:
        """The age in days."""
        return int(self.after.removesuffix("d"))


def ordered(rules: Sequence[StorageRule]) -> tuple[StorageRule, ...]:
    """The rules, if each is later and colder than the one before. Raises ``ValueError``."""
    for one, two in pairwise(rules):
        if two.days <= one.days:
            raise ValueError(f"{two.storage_class} after {two.after} follows {one.storage_class} after {one.after}")
        if _ORDER.index(two.storage_class) <= _ORDER.index(one.storage_class):
            raise ValueError(f"nothing moves back from {one.storage_class} to {two.storage_class} with age")
        if (one.storage_class, two.storage_class) == ("ONEZONE_IA", "GLACIER_IR"):
            raise ValueError("no rule of S3 moves objects from ONEZONE_IA to GLACIER_IR")
    return tuple(rules)


def class_at(rules: Sequence[StorageRule], age: timedelta) -> str | None:
    """The class for objects of an age; None while no rule holds: STANDARD."""
    found = [rule.storage_class for rule in rules if age >= timedelta(days=rule.days)]
    return found[-1] if found else None


# -- lifecycle rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lifecycle:
    """A lifecycle configuration of S3 (``PutBucketLifecycleConfiguration``), and what S3 would not have as asked."""

    configuration: dict[str, Any]
    notes: tuple[str, ...]


def lifecycle(recipe: str, rules: Sequence[StorageRule], prefixes: Iterable[str]) -> Lifecycle:
    """The rules for the objects below some prefixes of a bucket, and one that clears up after killed uploads.

    S3 moves nothing to infrequent access before it is 30 days old, and nothing on from there before another 30
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html): such rules
    are put off, and a note says so. What is older than its rule when it is written gets its class at once.
    """
    notes: list[str] = []
    transitions: list[dict[str, Any]] = []
    earliest = 0
    for rule in rules:
        days = max(rule.days, earliest, MONTH if rule.storage_class in _INFREQUENT else 0)
        if days != rule.days:
            notes.append(f"S3 moves objects to {rule.storage_class} after {days} days at the earliest, not {rule.days}")
        transitions.append({"Days": days, "StorageClass": rule.storage_class})
        earliest = days + (MONTH if rule.storage_class in _INFREQUENT else 1)
    found = [
        {
            "ID": _identifier(recipe, prefix),
            "Status": "Enabled",
            # Smaller ones cost more in the colder classes, and are what is read first.
            "Filter": {"And": {"Prefix": prefix, "ObjectSizeGreaterThan": LARGE - 1}},
            "Transitions": transitions,
        }
        for prefix in sorted(set(prefixes))
    ]
    uploads = {
        "ID": _identifier(recipe, "uploads"), "Status": "Enabled", "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }  # fmt: skip
    return Lifecycle({"Rules": [*(found if transitions else []), uploads]}, tuple(notes))


def merged(recipe: str, mine: dict[str, Any], there: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The configuration of a bucket with this recipe's rules in the place of those it had; others stay."""
    others = [rule for rule in there if not str(rule.get("ID", "")).startswith(_identifier(recipe, ""))]
    return {"Rules": [*others, *mine["Rules"]]}


def _identifier(recipe: str, prefix: str) -> str:
    return f"weatherlake {recipe} {re.sub(r'[^A-Za-z0-9./_-]', '-', prefix)}"[:255]


# -- money ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """What a run costs while it is of one class: from and to which day of its age, and USD a month."""

    storage_class: str
    first: int
    last: int | None
    month: float
    early: float = 0.0
    """USD for leaving the class before the days that are paid for at least."""


def stages(rules: Sequence[StorageRule], sizes: Iterable[int], prices: Prices, age: int = 0) -> list[Stage]:
    """What keeping objects of these sizes costs, class by class as they age from ``age`` days on; small ones stay in
    STANDARD. Moving and reading back are not in it."""
    large = [s for s in sizes if s >= LARGE] if rules else list(sizes)
    gib = sum(large) / _GIB
    steps = [("STANDARD", 0), *((r.storage_class, r.days) for r in rules)]
    found = []
    for number, (name, first) in enumerate(steps):
        last = steps[number + 1][1] if number + 1 < len(steps) else None
        if last is not None and last <= age:
            continue
        price = prices.storage[name]
        begun = max(first, age)
        least = price.days - (last - begun) if last is not None else 0
        found.append(Stage(name, begun, last, gib * price.gib_month, max(0, least) / MONTH * gib * price.gib_month))
    return found
