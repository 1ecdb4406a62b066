"""What exporters ask of a run: its horizontal grid, its variables, its times; and typed refusals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..lake.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Horizontal:
    """The horizontal grid of a run.

    ``latitude`` and ``longitude`` are float64 degrees: of shape ``(y,)`` and ``(x,)`` on a regular grid,
    both ``(y, x)`` on a curvilinear one. Longitudes are as the cube has them (-180..180 or 0..360).
    """

    y: str
    x: str
    latitude: np.ndarray
    longitude: np.ndarray

    @property
    def regular(self) -> bool:
        """Whether latitude depends on y alone and longitude on x alone."""
        return self.latitude.ndim == 1

    @property
    def global_longitude(self) -> bool:
        """Whether a regular grid goes all the way round: no more than one cell is missing between its ends."""
        if not self.regular or self.longitude.size < 2:
            return False
        ends = abs(self.longitude[-1] - self.longitude[0])
        return 360 - ends <= 1.5 * ends / (self.longitude.size - 1)

    def describe(self) -> str:
        """The extent in words, for error messages."""
        lat, lon = self.latitude, self.longitude
        return f"latitude {np.nanmin(lat):g} to {np.nanmax(lat):g}, longitude {np.nanmin(lon):g} to {np.nanmax(lon):g}"


def horizontal(run: xr.Dataset) -> Horizontal:
    """The horizontal grid of a run. Raises ``UsageError`` when it has no latitude and longitude."""
    missing = [n for n in ("latitude", "longitude") if n not in run.variables]
    if missing:
        raise UsageError(f"the run has no {' and no '.join(missing)}")
    lat, lon = run["latitude"], run["longitude"]
    if (lat.ndim, lon.ndim) == (1, 1):
        y, x = str(lat.dims[0]), str(lon.dims[0])
        if y == x:
            raise UsageError(
                "the run's grid is unstructured", expected="latitude and longitude axes or 2-D", found=lat.dims
            )
    elif lat.ndim == 2 and lat.dims == lon.dims:
        y, x = str(lat.dims[0]), str(lat.dims[1])
    else:
        raise UsageError(
            "latitude and longitude do not fit together",
            expected="both 1-D or both on the same (y, x)",
            found=(lat.dims, lon.dims),
        )
    return Horizontal(y, x, np.asarray(lat.values, dtype="float64"), np.asarray(lon.values, dtype="float64"))


def field_names(run: xr.Dataset) -> list[str]:
    """Names of the data variables that lie on the horizontal grid along lead_time, sorted."""
    grid = horizontal(run)
    return sorted(str(n) for n, v in run.data_vars.items() if {"lead_time", grid.y, grid.x} <= set(v.dims))


def field(run: xr.Dataset, name: str) -> xr.DataArray:
    """One gridded variable, lazily, its dimensions in the order ``[others] [level] [member] lead_time y x``.

    Raises ``UsageError`` for an unknown name.
    """
    known = field_names(run)
    if name not in known:
        raise UsageError(f"there is no variable {name!r} in the run; it has: {', '.join(known) or 'none'}")
    grid = horizontal(run)
    array = run[name]
    last = [d for d in ("level", "member") if d in array.dims] + ["lead_time", grid.y, grid.x]
    return array.transpose(*[d for d in array.dims if d not in last], *last)


def fields(run: xr.Dataset, names: Iterable[str] | None) -> list[xr.DataArray]:
    """The named variables, or all in alphabetical order when ``names`` is None (see `field`)."""
    return [field(run, n) for n in (field_names(run) if names is None else names)]


def lead_hours(run: xr.Dataset) -> np.ndarray:
    """Lead times in hours, float64 of shape ``(lead_time,)``."""
    values = run["lead_time"].values
    if np.issubdtype(values.dtype, np.timedelta64):
        return values / np.timedelta64(1, "h")
    return np.asarray(values, dtype="float64")


def init_time(run: xr.Dataset) -> np.datetime64:
    """Initialisation time, UTC, whole seconds."""
    return np.datetime64(run["init_time"].values.astype("datetime64[s]").item(), "s")


def valid_times(run: xr.Dataset) -> np.ndarray:
    """Valid times, UTC, datetime64[s] of shape ``(lead_time,)``."""
    if "valid_time" in run.variables:
        return run["valid_time"].values.astype("datetime64[s]")
    return init_time(run) + np.round(lead_hours(run) * 3600).astype("timedelta64[s]")


def steps_at(run: xr.Dataset, steps: Sequence[float]) -> list[int]:
    """Places of lead times (hours) along lead_time. Raises ``UsageError`` for one the run does not have."""
    there = {round(float(h) * 3600): i for i, h in enumerate(lead_hours(run))}
    missing = [s for s in steps if round(s * 3600) not in there]
    if missing:
        raise UsageError(
            f"the run has no lead time {', '.join(f'{s:g}' for s in missing)} h; it has: {_listed(lead_hours(run))}"
        )
    return [there[round(s * 3600)] for s in steps]


def place(array: xr.DataArray, dim: str, value: float) -> int:
    """Place of a coordinate value along a dimension. Raises ``UsageError`` when it is not there."""
    if dim not in array.dims:
        raise UsageError(f"variable {array.name!r} has no {dim}; leave '{dim}' out")
    values = array[dim].values
    at = np.flatnonzero(np.isclose(np.asarray(values, dtype="float64"), value))
    if not at.size:
        raise UsageError(f"variable {array.name!r} has no {dim} {value:g}; it has: {_listed(values)}")
    return int(at[0])


def utc_text(time: np.datetime64) -> str:
    """A time as ISO 8601 with Z: ``2026-11-20T06:00:00Z``."""
    return f"{np.datetime64(time, 's')}Z"


def _listed(values: np.ndarray) -> str:
    texts = [f"{float(v):g}" for v in values]
    return ", ".join(texts if len(texts) <= 12 else [*texts[:5], "...", *texts[-3:]])
