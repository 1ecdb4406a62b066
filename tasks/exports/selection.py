"""The part of one or several runs that an export takes: variables, lead times, members, levels, a box."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.errors import UsageError
from .box import Box, compact, window
from .fields import Horizontal, fields, horizontal, place, steps_at

if TYPE_CHECKING:
    import xarray as xr

FRONT = ("init_time", "lead_time", "member", "level")
"""Order of the dimensions of an exported variable before y and x: that of the cube, and time first, as CDO wants it."""


@dataclass(frozen=True, eq=False)
class Selection:
    """What is to be written. ``run`` has the coordinates along lead_time and init_time of what is taken, ``arrays`` are
    the variables, lazily, cut, with dimensions ``[others] [init_time] lead_time [member] [level] y x``; ``grid`` is the
    part of the grid inside the box, ``cut`` where that lies (nothing without a box)."""

    run: xr.Dataset
    arrays: tuple[xr.DataArray, ...]
    grid: Horizontal
    cut: dict[Hashable, Any]


def select(
    run: xr.Dataset,
    variables: Sequence[str] | None = None,
    bbox: Box | None = None,
    steps: Sequence[float] | None = None,
    members: Sequence[int] | None = None,
    levels: Sequence[float] | None = None,
) -> Selection:
    """Select of a run, or of several along ``init_time``. Raises ``UsageError`` for what is not there."""
    arrays = fields(run, variables)
    if not arrays:
        raise UsageError("the run has no gridded variable to export")
    if steps is not None:
        places = np.array(sorted(set(steps_at(run, steps))))
        run = run.isel(lead_time=places)
        arrays = [a.isel(lead_time=compact(places)) for a in arrays]
    for dim, wanted in (("member", members), ("level", levels)):
        if wanted is not None:
            if not any(dim in a.dims for a in arrays):
                raise UsageError(f"none of the variables has the dimension {dim}; leave '{dim}s' out")
            arrays = [_along(a, dim, wanted) if dim in a.dims else a for a in arrays]
    whole = horizontal(run)
    grid = whole
    cut: dict[Hashable, Any] = {}
    if bbox is not None:
        rows, columns, longitude = window(whole, bbox)
        latitude = whole.latitude[rows] if whole.regular else whole.latitude[np.ix_(rows, columns)]
        grid = Horizontal(whole.y, whole.x, latitude, longitude)
        cut = {whole.y: compact(rows), whole.x: compact(columns)}
    return Selection(run, tuple(_ordered(a, whole).isel(cut) for a in arrays), grid, cut)


def _along(array: xr.DataArray, dim: str, wanted: Sequence[float]) -> xr.DataArray:
    return array.isel({dim: compact(np.array([place(array, dim, v) for v in wanted]))})


def _ordered(array: xr.DataArray, grid: Horizontal) -> xr.DataArray:
    last = (grid.y, grid.x)
    others = [d for d in array.dims if d not in (*FRONT, *last)]
    return array.transpose(*others, *(d for d in FRONT if d in array.dims), *last)
