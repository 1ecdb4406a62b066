"""Which dimensions of a variable run west-east and south-north, as the CF conventions tell them.

https://cfconventions.org/Data/cf-conventions/cf-conventions-1.11/cf-conventions.html, chapters 4 and 5.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"), "latitude"),
    **dict.fromkeys(("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"), "longitude"),
}
_STANDARD_NAMES: Mapping[str, str] = {
    "latitude": "latitude",
    "longitude": "longitude",
    "projection_y_coordinate": "y",
    "projection_x_coordinate": "x",
}
_NAMES: Mapping[str, str] = {
    "lat": "latitude", "latitude": "latitude", "lats": "latitude",
    "lon": "longitude", "longitude": "longitude", "lons": "longitude", "long": "longitude",
    "y": "y", "ydim": "y", "x": "x", "xdim": "x",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axes:
    """The horizontal dimensions of a variable; ``geographic`` when they are longitude and latitude."""

    x: str
    y: str
    geographic: bool


def axes(variable: "xr.DataArray") -> Axes | None:
    """The horizontal dimensions of a variable, each with a coordinate of its own; None where it lacks one.

    Two-dimensional coordinates (a satellite's swath) give none.
    """
    found: dict[str, str] = {}
    for dim in variable.dims:
        name = str(dim)
        if name in variable.coords and variable.coords[name].ndim == 1 and variable.sizes[dim] > 1:
            role = _role(name, variable.coords[name].attrs)
            if role:
                found.setdefault(role, name)
    if "latitude" in found and "longitude" in found:
        return Axes(found["longitude"], found["latitude"], True)
    if "y" in found and "x" in found:
        return Axes(found["x"], found["y"], False)
    return None


def _role(name: str, attributes: Mapping[str, object]) -> str | None:
    standard = _STANDARD_NAMES.get(str(attributes.get("standard_name", "")).strip().lower())
    if standard:
        return standard
    units = _UNITS.get(str(attributes.get("units", "")).strip().lower().replace(" ", "_"))
    if units:
        return units
    axis = str(attributes.get("axis", "")).strip().upper()
    by_name = _NAMES.get(name.lower())
    if axis in ("X", "Y"):
        return by_name or axis.lower()
    return by_name


def choose(variables: Iterable["xr.DataArray"]) -> "tuple[xr.DataArray, Axes] | None":
    """The variable that a tile is made of: the first numeric one with horizontal axes, with few others before many."""
    fitting = []
    for number, variable in enumerate(variables):
        found = axes(variable) if variable.dtype.kind in "fiub" else None
        if found:
            fitting.append((min(variable.ndim, 4), number, variable, found))
    if not fitting:
        return None
    _, _, variable, found = min(fitting, key=lambda f: f[:2])
    return variable, found
