"""Recipes: what to build, as a strict pydantic model read from YAML."""

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from .errors import RecipeError
from .partition import digest_json
from .registry import Strict, sentence
from .settings import Option, apply
from .storage_rules import StorageRule, ordered

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""A name that can stand in a key, a branch and a file name: lower case, digits, - and _."""

KINDS: Mapping[str, str] = {
    "forecast": "tasks.forecasts",
    "station": "tasks.stations",
    "scene": "tasks.scenes",
    "survey": "tasks.surveys",
}
"""Kind of data -> the package that holds its model (``Recipe``), its ``phases()`` and perhaps its ``OPTIONS``."""

PHASES = ("ingest", "refine", "validate", "regrid", "export")
"""The five phases, in the order the data flows through them."""


class Recipe(Strict):
    """What every kind of recipe has."""

    name: Name
    kind: Literal["forecast", "station", "scene", "survey"]
    title: str = ""
    description: str = ""
    attribution: str = Field(default="", description="Licence and source, written into every product.")
    storage: Annotated[tuple[StorageRule, ...], AfterValidator(ordered)] = Field(
        default=(), description="Storage classes of S3 by age, for what is archived: the later, the colder."
    )

    def part(self, *names: str) -> dict[str, Any]:
        """The named top-level keys as JSON values: the part of a recipe that a phase depends on."""
        return self.model_dump(mode="json", include=set(names))

    @property
    def digest(self) -> str:
        """Content hash of the whole recipe."""
        return digest_json(self.model_dump(mode="json"))


def folder() -> Path:
    """Where the recipes that come with weatherlake lie."""
    return Path(importlib.import_module("deployments").__path__[0]) / "recipes"


def names() -> list[str]:
    """Names of the recipes that come with weatherlake."""
    return sorted(p.stem for p in folder().glob("*.yaml"))


def load(name_or_path: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by its name, or from a YAML file when a path (with ``.yaml``/``.yml``) is given.

    ``settings`` (dotted key -> value) stand in the place of what the file says.

    Raises ``RecipeError`` for an unknown name, a file that is not YAML, or keys that do not fit.
    """
    path, document = _read(name_or_path)
    return parse(apply(document, settings or {}), path.name)


def kind_of(name_or_path: str) -> str:
    """The kind of data a recipe is for, whether or not the rest of it is complete. Raises ``RecipeError``."""
    path, document = _read(name_or_path)
    return _kind(document, path.name)


def _read(name_or_path: str) -> tuple[Path, Any]:
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = folder() / f"{name_or_path}.yaml"
        if not path.is_file():
            raise RecipeError(f"there is no recipe {name_or_path!r}; known are: {', '.join(names())}")
    try:
        return path, yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe file {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path.name} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"recipe {path.name} is not YAML: {reason}") from None


def parse(document: Any, where: str = "recipe") -> Recipe:
    """A recipe from a mapping (a parsed YAML document or ``Recipe.model_dump``)."""
    model = kind_package(_kind(document, where)).Recipe
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise RecipeError(sentence(error, where)) from None


def _kind(document: Any, where: str) -> str:
    if not isinstance(document, dict):
        raise RecipeError(f"{where}: a recipe is a mapping", expected="a mapping", found=type(document).__name__)
    kind = document.get("kind")
    if kind not in KINDS:
        raise RecipeError(f"{where}: 'kind' must be one of {', '.join(KINDS)} (found {kind!r})")
    return str(kind)


def options() -> dict[str, tuple[Option, ...]]:
    """Kind of data -> the command-line flags that set keys of its recipes."""
    return {kind: tuple(getattr(kind_package(kind), "OPTIONS", ())) for kind in KINDS}


@cache
def kind_package(kind: str) -> Any:
    """The package that implements a kind of data."""
    return importlib.import_module(KINDS[kind])
