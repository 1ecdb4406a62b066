"""Surveys: which collections of a catalogue can be tiled, item by item."""

from typing import Any

from ..lake.settings import Option
from .recipe import SurveyRecipe as Recipe

__all__ = ["OPTIONS", "Recipe", "phases"]

OPTIONS = (
    Option("--round", "round", "the survey: a name such as 2026-11; another name is a new survey", "NAME", text=True),
    Option(
        "--reason",
        "reasons",
        "only collections whose last verdict has this reason, done or not: timeout, out_of_memory, ... (several)",
        "REASON",
        many=True,
        text=True,
    ),
    Option(
        "--collection", "collections", "only these collections, by concept id (several)", "ID", many=True, text=True
    ),
    Option("--seed", "seed", "which granule of each collection is looked at", "N"),
)


def phases() -> dict[str, Any]:
    """The five phases of this kind. Imported when asked for."""
    from .export import Export
    from .ingest import Ingest
    from .refine import Refine
    from .regrid import Regrid
    from .validate import Validate

    return {p.name: p for p in (Ingest, Refine, Validate, Regrid, Export)}
