"""Forecast model runs: GRIB by index to cubes."""

from typing import Any

from .recipe import ForecastRecipe as Recipe

__all__ = ["Recipe", "phases"]


def phases() -> dict[str, Any]:
    """The five phases of this kind. Imported when asked for: they bring in the whole science."""
    from .export import Export
    from .ingest import Ingest
    from .refine import Refine
    from .regrid import Regrid
    from .validate import Validate

    return {p.name: p for p in (Ingest, Refine, Validate, Regrid, Export)}
