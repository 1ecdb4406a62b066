"""Scenes: STAC items that are Zarr stores (EOPF Sentinel-2) to GeoZarr with overviews."""

from typing import Any

from ..lake.settings import Option
from .recipe import SceneRecipe as Recipe

__all__ = ["OPTIONS", "Recipe", "phases"]

OPTIONS = (
    Option("--item", "source.items", "a STAC item or a Zarr store, by URL or file (again for more)", "URL", True, True),
    Option("--groups", "select.groups", "groups to convert (again, or several in one)", "PATH", True, True),
    Option("--output", "outputs.url", "where the finished store is copied to", "URL", text=True),
    Option("--report-path", "outputs.report", "Dask performance report (HTML), a file or URL", "PATH", text=True),
    Option("--spatial-chunk", "layout.spatial_chunk", "side of a chunk in pixels", "PIXELS"),
    Option("--min-dimension", "overviews.min_dimension", "smallest side of an overview in pixels", "PIXELS"),
    Option("--tries", "source.tries", "tries of each request to the source", "N"),
)


def phases() -> dict[str, Any]:
    """The five phases of this kind. Imported when asked for: they bring in the whole science."""
    from .export import Export
    from .ingest import Ingest
    from .memory import bound
    from .refine import Refine
    from .regrid import Regrid
    from .validate import Validate

    bound()
    return {p.name: p for p in (Ingest, Refine, Validate, Regrid, Export)}
