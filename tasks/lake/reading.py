"""Reading: published cubes as xarray, for everybody who is not weatherlake. Needs no Prefect and no recipe file."""

from typing import TYPE_CHECKING

import orjson

from .errors import NotFound, UsageError
from .lake import Lake, open_lake

if TYPE_CHECKING:
    import xarray as xr


def open_cube(
    lake: str, recipe: str, zone: str = "refined", *, ref: str = "main", published_only: bool = True
) -> "xr.Dataset":
    """A published cube as a lazy ``xarray.Dataset``.

    Parameters
    ----------
    lake : the lake's URL or folder (``./lake``, ``s3://bucket/lake?endpoint=...``).
    recipe : name of the recipe.
    zone : ``refined`` for the source's own grid, or the name of a target grid of the recipe.
    ref : ``main`` for what is published, ``2026-11-20T00.1`` for the cube as it was when that version of the run
        was published, ``run/2026-11-20T00`` for a run that is being checked.
    published_only : leave out runs that are not there; False keeps every place along ``init_time``.

    Returns
    -------
    Dimensions ``init_time lead_time [member] [level]`` and the grid's; times are UTC; units are CF
    attributes. Values are read when asked for.

    Raises
    ------
    UsageError : there is no such lake, or nothing of this recipe and zone was published in it.
    """
    return open_zone(open_lake(lake), recipe, zone, ref=ref, published_only=published_only)


def open_zone(lake: Lake, recipe: str, zone: str, *, ref: str = "main", published_only: bool = True) -> "xr.Dataset":
    """`open_cube` for a lake that is open already."""
    path = cube_path(lake, recipe, zone)
    return lake.cube(path).open(ref, published_only=published_only and not ref.startswith("run/"))


def cube_path(lake: Lake, recipe: str, zone: str) -> str:
    """Where the cube lies that the zone's pointer names."""
    key = f"cubes/{recipe}/{zone}.json"
    try:
        return str(orjson.loads(lake.objects.get(key))["path"])
    except NotFound:
        zones = sorted(
            m.key.rsplit("/", 1)[1].removesuffix(".json")
            for m in lake.objects.listing(f"cubes/{recipe}")
            if m.key.count("/") == 2 and m.key.endswith(".json")
        )
        there = f"published are: {', '.join(zones)}" if zones else "nothing of it was published"
        raise UsageError(f"there is no zone {zone!r} of {recipe} in {lake.url}; {there}") from None
