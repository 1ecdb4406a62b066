"""Where the phases of each kind of data are found."""

from typing import Any

from .lake.errors import UsageError
from .lake.phase import Phase
from .lake.recipe import Recipe, kind_package


def phase(recipe: Recipe, name: str) -> Phase[Any]:
    """The phase of this name for a recipe's kind of data."""
    phases: dict[str, type[Phase[Any]]] = kind_package(recipe.kind).phases()
    try:
        return phases[name]()
    except KeyError:
        raise UsageError(f"{recipe.kind} data has no phase {name!r}; there are: {', '.join(phases)}") from None
