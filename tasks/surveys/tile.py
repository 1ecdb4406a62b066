"""One map tile of a granule, made inside a child process as a tile server would make it (rio-tiler)."""

from typing import Any

from . import axes, structure
from .question import Question, Tile
from .reasons import Finding, Reason

SIZE = 256
_MERCATOR = 85.05
"""Latitude (degrees) at which Web Mercator ends."""


def tile(question: Question) -> Tile:
    """The tile in the middle of a granule, at the lowest zoom level that shows it whole. Raises `Finding`."""
    from rio_tiler.errors import RioTilerError

    try:
        if question.family == "tiff":
            return _picture(question)
        return _gridded(question)
    except (Finding, MemoryError):
        raise
    except RioTilerError as error:
        raise Finding(Reason.TILE_GENERATION_FAILED, f"{type(error).__name__}: {error}") from None


def _picture(question: Question) -> Tile:
    from rio_tiler.io import Reader

    with structure.raster(question) as source, Reader(question.url, dataset=source) as reader:
        return _tile(reader, indexes=1)


def _gridded(question: Question) -> Tile:
    import numpy as np
    import rioxarray  # noqa: F401  (registers the accessor)
    from rio_tiler.io.xarray import XarrayReader

    with structure.dataset(question) as (found, _):
        variable = found[question.variable]
        horizontal = axes.axes(variable)
        if horizontal is None:
            raise Finding(Reason.NO_XY_DIMENSIONS, f"{question.variable} has no horizontal dimensions with coordinates")
        field = variable.isel({d: 0 for d in variable.dims if d not in (horizontal.x, horizontal.y)})
        field = field.drop_vars([c for c in field.coords if c not in (horizontal.x, horizontal.y, "spatial_ref")
                                 and c != variable.encoding.get("grid_mapping")])  # fmt: skip
        crs = variable.rio.crs or ("EPSG:4326" if horizontal.geographic else None)
        if crs is None:
            raise Finding(Reason.TILE_GENERATION_FAILED, f"{question.variable} names no coordinate reference system")
        field = field.rename({horizontal.x: "x", horizontal.y: "y"}).transpose("y", "x")
        if field.dtype.kind == "b":
            field = field.astype("uint8")
        if horizontal.geographic and float(field["x"].max()) > 180:
            # 0 to 360 degrees, as many models have it: a tile server wants -180 to 180.
            x = np.asarray(field["x"].values, dtype="float64")
            field = field.assign_coords(x=np.where(x > 180, x - 360, x)).sortby("x")
        field = field.rio.write_crs(crs).rio.set_spatial_dims("x", "y")
        with XarrayReader(field) as reader:
            return _tile(reader)


def _tile(reader: Any, **options: Any) -> Tile:
    from rio_tiler.colormap import cmap
    from rio_tiler.constants import WGS84_CRS

    west, south, east, north = reader.get_geographic_bounds(WGS84_CRS)
    # A tile server crosses the date line where a granule does: its east is then less than its west.
    middle = (west + (east + 360 if east < west else east)) / 2
    middle = middle - 360 if middle > 180 else middle
    latitude = (max(south, -_MERCATOR) + min(north, _MERCATOR)) / 2
    zoom = reader.minzoom
    at = reader.tms.tile(middle, max(-_MERCATOR, min(_MERCATOR, latitude)), zoom)
    image = reader.tile(at.x, at.y, zoom, tilesize=SIZE, **options)
    band = image.array[0]
    values = band.compressed()
    if values.size:
        lowest, highest = float(values.min()), float(values.max())
        image.rescale(in_range=((lowest, highest if highest > lowest else lowest + 1),))
    else:
        image.array = image.array.astype("uint8")
    png = image.render(img_format="PNG", colormap=cmap.get("viridis"))
    return Tile(zoom, at.x, at.y, round(values.size / band.size, 4), png)
