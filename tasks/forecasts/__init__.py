"""Forecast model runs: GRIB by index to cubes."""

from typing import Any

from ..lake.settings import Option
from .recipe import ForecastRecipe as Recipe

__all__ = ["OPTIONS", "Recipe", "phases"]

OPTIONS = (
    Option("--relearn", "drift", "learn the template anew from this run, where it drifted", constant="relearn"),
    Option("--partial", "runs.partial", "take a run as far as it is there, and complete it later", constant=True),
)


def phases() -> dict[str, Any]:
    """The five phases of this kind. Imported when asked for: they bring in the whole science."""
    from .export import Export
    from .ingest import Ingest
    from .refine import Refine
    from .regrid import Regrid
    from .validate import Validate

    return {p.name: p for p in (Ingest, Refine, Validate, Regrid, Export)}
