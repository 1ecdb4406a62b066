"""Forecast model runs: GRIB by index to cubes."""

from typing import Any

from ..lake.settings import Option
from .recipe import ForecastRecipe as Recipe

__all__ = ["OPTIONS", "Recipe", "phases"]

OPTIONS = (
    Option("--relearn", "drift", "learn the template anew from this run, where it drifted", constant="relearn"),
    Option("--variable", "select.only", "take this variable only (may be given again)", "NAME", many=True, text=True),
    Option("--level", "select.levels", "take this level only of variables that have several", "L", many=True),
    Option("--step", "select.steps", "take these lead times only: hours, or a range such as 0-48/3", "H", many=True),
    Option("--member", "select.members", "take these members only: numbers, or a range such as 0-9", "M", many=True),
    Option("--bbox", "select.bbox", "take this box only: --bbox=WEST,SOUTH,EAST,NORTH in degrees", "BOX", many=True),
    Option("--partial", "runs.partial", "take a run as far as it is there, and complete it later", constant=True),
    Option("--exporter", "only", "make this export and no other (or these, with commas)", "NAME", many=True),
    Option("--to", "archive.to", "where the export 'archive' copies runs to: a folder or s3://...", "URL", text=True),
    Option("--what", "archive.what", "parts of a run to archive: raw, refined, regridded, exports", "PARTS", many=True),
    Option("--sign", "archive.sign", "the key to sign archives with, by reference: env:NAME", "REFERENCE", text=True),
)


def phases() -> dict[str, Any]:
    """The five phases of this kind. Imported when asked for: they bring in the whole science."""
    from .export import Export
    from .ingest import Ingest
    from .refine import Refine
    from .regrid import Regrid
    from .validate import Validate

    return {p.name: p for p in (Ingest, Refine, Validate, Regrid, Export)}
