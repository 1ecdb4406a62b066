"""The part of a grid that lies in a box, and how its fields are cut out of the whole ones."""

from dataclasses import replace

import numpy as np

from ..exports.box import ROUNDING, Box, width, window
from ..exports.fields import Horizontal
from ..grids.grid import Grid
from ..grids.order import Order
from ..lake.errors import UsageError


def cropped(grid: Grid, order: Order, box: Box) -> tuple[Grid, Order]:
    """The cells of ``grid`` in a box, and the order that brings whole fields there (``order`` brings them to ``grid``).

    Rectilinear: rows and columns whose centres lie in the box, columns from its west eastwards, with longitudes that
    do not jump. Curvilinear: the smallest rectangle of rows and columns that holds all cells of the box. Unstructured:
    the points in the box. Raises ``UsageError`` when no cell lies in it.
    """
    if grid.kind == "unstructured":
        return _points(grid, order, box)
    y, x = grid.dims
    rows, columns, longitude = window(Horizontal(y, x, grid.latitude, grid.longitude), box)
    band = slice(int(rows[0]), int(rows[-1]) + 1)
    cut = order.cut(band, columns)
    if grid.kind == "curvilinear":
        part = np.ix_(rows, columns)
        bounds = [None if b is None else b[part] for b in (grid.given_latitude_bounds, grid.given_longitude_bounds)]
        return replace(
            grid, latitude=grid.latitude[part], longitude=grid.longitude[part],
            x=None if grid.x is None else grid.x[columns], y=None if grid.y is None else grid.y[rows],
            given_latitude_bounds=bounds[0], given_longitude_bounds=bounds[1],
        ), cut  # fmt: skip
    # The cells keep the edges they have in the whole grid: at the rim of the part none could be told from its centres.
    shift = (longitude - grid.longitude[columns])[:, None]
    return replace(
        grid, latitude=grid.latitude[band], longitude=longitude,
        given_latitude_bounds=grid.latitude_bounds[band],
        given_longitude_bounds=grid.longitude_bounds[columns] + shift,
    ), cut  # fmt: skip


def _points(grid: Grid, order: Order, box: Box) -> tuple[Grid, Order]:
    west, south, _, north = box
    east_of_west = np.mod(grid.longitude - west + ROUNDING, 360) - ROUNDING
    inside = (east_of_west <= width(box) + ROUNDING) & (grid.latitude >= south - ROUNDING)
    points = np.flatnonzero(inside & (grid.latitude <= north + ROUNDING))
    if not points.size:
        raise UsageError("the box holds no cell of the grid", expected="a box over the grid", found=box)
    bounds = [None if b is None else b[points] for b in (grid.given_latitude_bounds, grid.given_longitude_bounds)]
    # What is left of the rings of a reduced grid are points.
    return replace(
        grid, latitude=grid.latitude[points], longitude=grid.longitude[points], row_sizes=None,
        given_latitude_bounds=bounds[0], given_longitude_bounds=bounds[1],
    ), order.cut(None, points)  # fmt: skip
