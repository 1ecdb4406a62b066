"""What a file of forecasts says by the CF conventions: its global attributes, its coordinates, its variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .fields import init_time, lead_hours, utc_text, valid_times
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"

_HIDDEN = ("coordinates", "grid_mapping", "_FillValue", "missing_value", "keep_bits", "dtype", "_ARRAY_DIMENSIONS")
"""Attributes of a cube's variable that the writer sets itself, or that say nothing of the file's content."""

_AXES: dict[str, dict[str, str]] = {
    "latitude": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"},
    "longitude": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"},
}
"""CF attributes where the cube has none."""

_CLOCK = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard"}


@dataclass(frozen=True, eq=False)
class Coordinate:
    """A coordinate of a file: name, dimensions, values, attributes."""

    name: str
    dims: tuple[str, ...]
    values: np.ndarray
    attributes: dict[str, Any]


def global_attributes(selection: Selection) -> dict[str, Any]:
    """Attributes of the file: the cube's, without a history, and the run or the first and the last."""
    run = selection.run
    kept = {k: v for k, v in clean(run.attrs).items() if k.lower() not in ("history", "conventions")}
    if "init_time" in run.dims:
        ends = (run["init_time"].values[i].astype("datetime64[s]") for i in (0, -1))
        span = dict(zip(("first_init_time", "last_init_time"), map(utc_text, ends), strict=True))
    else:
        span = {"init_time": utc_text(init_time(run))}
    return {"Conventions": CONVENTIONS, **kept, **span}


def coordinates(selection: Selection) -> Iterator[Coordinate]:
    """The coordinates of the grid, of time, and along members, levels and whatever else there is.

    Of one run, valid time is the axis ``time``, with ``lead_time(time)`` beside it and a scalar ``init_time``; of
    several, ``init_time`` and ``lead_time`` are axes, and ``valid_time`` lies along both.
    """
    run, grid = selection.run, selection.grid
    for name, values in (("latitude", grid.latitude), ("longitude", grid.longitude)):
        kind = run[name].dtype if run[name].dtype.kind == "f" else "f8"
        dims = tuple(str(d) for d in run[name].dims)
        yield Coordinate(name, dims, values.astype(kind), _AXES[name] | clean(run[name].attrs))
    for dim in (grid.y, grid.x):
        if dim in run.coords and dim not in ("latitude", "longitude"):
            part = run[dim].isel({dim: selection.cut[dim]}) if selection.cut else run[dim]
            yield Coordinate(dim, (dim,), part.values, clean(part.attrs))
    yield from _times(run)
    seen: set[str] = set()
    for array in selection.arrays:
        for dim in (str(d) for d in array.dims if d not in ("init_time", "lead_time", grid.y, grid.x)):
            if dim not in seen and dim in array.coords:
                seen.add(dim)
                yield Coordinate(dim, (dim,), array[dim].values, clean(array[dim].attrs))


def _times(run: xr.Dataset) -> Iterator[Coordinate]:
    several = "init_time" in run.dims
    valid = valid_times(run).astype("int64")
    about = {"standard_name": "time", "long_name": "time for which the forecast holds"} | _CLOCK
    if several:
        yield Coordinate("valid_time", ("init_time", "lead_time"), valid, about)
    else:
        yield Coordinate("time", ("time",), valid, about | {"axis": "T"})
    period = {"standard_name": "forecast_period", "long_name": "time since initialisation", "units": "hours"}
    yield Coordinate("lead_time", ("lead_time" if several else "time",), lead_hours(run), period)
    start = run["init_time"].values.astype("datetime64[s]").astype("int64")
    about = {"standard_name": "forecast_reference_time", "long_name": "initialisation time of the run"} | _CLOCK
    yield Coordinate("init_time", ("init_time",) if several else (), np.asarray(start), about)


def dims_of(array: xr.DataArray) -> tuple[str, ...]:
    """Dimensions of a variable in the file."""
    several = "init_time" in array.dims
    return tuple("time" if d == "lead_time" and not several else str(d) for d in array.dims)


def attributes(array: xr.DataArray, selection: Selection) -> dict[str, Any]:
    """Attributes of a variable in the file; ``coordinates`` names those that are no axes."""
    found = clean(array.attrs)
    several = "init_time" in array.dims
    if "cell_methods" in found and not several:
        found["cell_methods"] = found["cell_methods"].replace("lead_time:", "time:")
    extra = ["valid_time"] if several else ["init_time", "lead_time"]
    found["coordinates"] = " ".join([*extra, *(() if selection.grid.regular else ("latitude", "longitude"))])
    if mapping := grid_mapping(array, selection.run):
        found["grid_mapping"] = mapping
    return found


def grid_mapping(array: xr.DataArray, run: xr.Dataset) -> str | None:
    """Name of a variable's grid mapping, when the run has it."""
    mapping = array.attrs.get("grid_mapping") or array.encoding.get("grid_mapping")
    return str(mapping) if mapping and mapping in run.variables else None


def clean(attrs: Any) -> dict[str, Any]:
    """Attributes that NetCDF can hold: text, numbers and lists of numbers; empty text is left out."""
    return {
        str(k): v
        for k, v in attrs.items()
        if isinstance(v, (str, int, float, np.generic, np.ndarray, list))
        and not isinstance(v, bool)
        and not (isinstance(v, str) and not v)
        and k not in _HIDDEN
    }
