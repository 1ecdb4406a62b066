"""Settings: keys of a recipe set for one run, from the command line or a flow's parameters."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import UsageError


@dataclass(frozen=True, slots=True)
class Option:
    """A command-line flag that sets one key of a kind's recipes.

    ``key`` is the path of the key with dots (``select.stations``). ``many`` is for lists: the flag may be given
    again, and one value may hold several, separated by spaces or commas. Values are read as YAML scalars unless
    ``text`` says they are taken as they stand. A flag with a ``constant`` takes no value and sets that.
    """

    flag: str
    key: str
    help: str
    metavar: str = "VALUE"
    many: bool = False
    text: bool = False
    constant: Any = None

    @property
    def destination(self) -> str:
        """Name of the parsed argument."""
        return "option_" + self.flag.strip("-").replace("-", "_")

    def value(self, given: Sequence[str]) -> Any:
        """What the key is set to by the values given on the command line."""
        if self.constant is not None:
            return self.constant
        if self.many:
            return [self._one(part) for text in given for part in text.replace(",", " ").split()]
        return self._one(given[-1])

    def _one(self, text: str) -> Any:
        return text if self.text else _scalar(text)


def parse_setting(text: str) -> tuple[str, Any]:
    """``select.members=[0, 1]`` -> (``select.members``, [0, 1]). The value is YAML. Raises ``UsageError``."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or any(not part for part in key.strip().split(".")):
        raise UsageError(
            "a setting cannot be read", expected="KEY=VALUE, such as select.members=[0,1]", found=repr(text)
        )
    return key.strip(), _scalar(value)


def apply(document: Any, settings: Mapping[str, Any]) -> Any:
    """A copy of a recipe's document with keys (dotted paths) set. Raises ``UsageError`` where a path leads nowhere.

    A part that is a number is a place in a list: ``grids.0.spacing``.
    """
    if not settings:
        return document
    changed = copy.deepcopy(document)
    for key, value in settings.items():
        *above, last = key.split(".")
        place = changed
        for part in above:
            place = _within(place, part, key)
        if isinstance(place, list):
            place[_index(place, last, key)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise UsageError(f"the setting {key!r} leads nowhere in this recipe")
    return changed


def _within(place: Any, part: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, key)]
    if not isinstance(place, dict):
        raise UsageError(f"the setting {key!r} leads nowhere in this recipe")
    if place.get(part) is None:
        place[part] = {}
    return place[part]


def _index(place: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise UsageError(
            f"the setting {key!r} leads nowhere in this recipe",
            expected=f"a place from 0 to {len(place) - 1}",
            found=part,
        )
    return int(part)


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        # Such as a URL template with braces: no YAML, but a value all the same.
        return text
