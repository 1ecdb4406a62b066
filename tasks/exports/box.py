"""Boxes of latitude and longitude, which may cross the date line, and the part of a grid inside one."""

from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from ..lake.errors import UsageError
from .fields import Horizontal

ROUNDING = 2e-5  # degrees: what a longitude kept as float32 is off by


def _checked(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = value
    if not (
        -360 <= west <= 360
        and -360 <= east <= 360
        and west != east
        and east - west <= 360
        and -90 <= south < north <= 90
    ):
        raise ValueError(
            "must be west, south, east, north in degrees with south < north; west > east crosses the date line"
        )
    return value


Box = Annotated[tuple[float, float, float, float], AfterValidator(_checked)]
"""West, south, east, north in degrees; west > east crosses the date line."""


def width(box: Box) -> float:
    """Degrees of longitude from west eastwards to east."""
    west, _, east, _ = box
    return east - west if east > west else east - west + 360


def window(grid: Horizontal, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns (intp) of the cells whose centres lie in a box, and the longitudes in degrees that
    belong to them, counted eastwards from the box's west so that they do not jump.

    On a regular grid the columns go from west to east. On a curvilinear one the rows and columns are the
    smallest rectangle that holds all cells of the box; cells outside the box stay in it. Raises
    ``UsageError`` when no cell lies in the box.
    """
    west, south, _, north = box
    offset = np.mod(grid.longitude - west + ROUNDING, 360) - ROUNDING
    in_x = offset <= width(box) + ROUNDING
    in_y = (grid.latitude >= south - ROUNDING) & (grid.latitude <= north + ROUNDING)
    if grid.regular:
        rows, columns = np.flatnonzero(in_y), np.flatnonzero(in_x)
        columns = columns[np.argsort(offset[columns], kind="stable")]
    else:
        # Only rows and columns with a cell in the box count; between the first and the last all are kept.
        rows, columns = (np.arange(a.min(), a.max() + 1) if a.size else a for a in np.nonzero(in_x & in_y))
    if not rows.size or not columns.size:
        raise UsageError(
            "the box holds no cell of the grid",
            expected=grid.describe(),
            found="west {:g}, south {:g}, east {:g}, north {:g}".format(*box),
        )
    if grid.regular:
        part, wanted = grid.longitude[columns], west + offset[columns]
    else:
        # The rectangle may reach west of the box: turn about its middle, not about its western edge.
        middle = west + width(box) / 2
        part = grid.longitude[np.ix_(rows, columns)]
        wanted = middle + np.mod(part - middle + 180, 360) - 180
    # Whole turns leave the digits of a longitude as they are.
    return rows, columns, part + 360 * np.round((wanted - part) / 360)


def compact(places: np.ndarray) -> slice | np.ndarray:
    """A slice where the places follow each other, which reads at less cost than a list of indices."""
    if len(places) and np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        return slice(int(places[0]), int(places[0]) + len(places))
    return places
