"""Station observations: an OGC API - EDR to silver Parquet."""

from typing import Any

from ..lake.settings import Option
from .recipe import StationRecipe as Recipe

__all__ = ["OPTIONS", "Recipe", "phases"]

OPTIONS = (
    Option(
        "--station", "select.stations", "stations (0-20000-0-06260 or 06260), groups of the recipe, or all",
        metavar="ID", many=True, text=True,
    ),
    Option("--years", "select.years", "calendar years (UTC) instead of the recipe's span", metavar="YEAR", many=True),
    Option("--parameter", "select.parameters", "parameters by the provider's names", metavar="P", many=True, text=True),
    Option("--workers", "source.workers", "most requests under way at once", metavar="N"),
)  # fmt: skip


def phases() -> dict[str, Any]:
    """The five phases of this kind. Imported when asked for: they bring in polars."""
    from .export import Export
    from .ingest import Ingest
    from .refine import Refine
    from .regrid import Regrid
    from .validate import Validate

    return {p.name: p for p in (Ingest, Refine, Validate, Regrid, Export)}
