"""Answers as plain JSON and as CSV. The JSON of points is that of the exporter ``points`` (`tasks.exports.points`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field

from tasks.exports.fields import utc_text

from .asked import Asked
from .geometry import Points, Region

JSON = "application/json"
SCHEMA = "Values"
CSV = "text/csv; charset=utf-8"
_ATTRIBUTES = ("units", "long_name", "standard_name", "cell_methods", "step_type")


class Described(BaseModel):
    """A variable of an answer; ``dimensions`` are those of its values before the place's."""

    model_config = ConfigDict(extra="allow")

    units: str | None = None
    long_name: str | None = None
    dimensions: list[str]


class Place(BaseModel):
    """Degrees."""

    latitude: float
    longitude: float


class Series(BaseModel):
    """A point: as asked for, where the values are of, and the values, nested by the dimensions of each variable."""

    name: str
    requested: Place
    grid: Place
    distance_km: float
    values: dict[str, list[Any]]


class Values(BaseModel):
    """An answer in plain JSON: of points (``points``), or of a part of a grid (``latitude, longitude, values``)."""

    model_config = ConfigDict(extra="allow")

    collection: str
    snapshot: str
    init_time: str
    time_zone: str
    lead_time: list[float] = Field(description="Hours.")
    valid_time: list[str]
    variables: dict[str, Described]
    points: list[Series] | None = None
    latitude: list[float] | None = None
    longitude: list[float] | None = None
    values: dict[str, list[Any]] | None = None


_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def of_points(asked: Asked, found: Points, values: Mapping[str, np.ndarray], method: str) -> bytes:
    """Points with their values, null where missing; ``values`` are arrays ``([level] [member] lead_time point)``."""
    # The point first, so that what belongs to it lies together and is written without copying.
    by_point = {n: np.ascontiguousarray(np.moveaxis(v, -1, 0)) for n, v in values.items()}
    rows = [
        {
            "name": found.names[i] if found.names else f"{i}",
            "requested": {"latitude": found.asked_latitude[i], "longitude": found.asked_longitude[i]},
            "grid": {"latitude": found.latitude[i], "longitude": found.longitude[i]},
            "distance_km": found.distance_km[i],
            "values": {n: v[i] for n, v in by_point.items()},
        }
        for i in range(len(found.latitude))
    ]
    return orjson.dumps({**_head(asked), "method": method, "points": rows}, option=_NUMPY)


def of_region(asked: Asked, found: Region, values: Mapping[str, np.ndarray]) -> bytes:
    """Axes and nested lists ``([level] [member] lead_time y x)``; on a curvilinear grid one of cells at the end."""
    document = {
        **_head(asked),
        "latitude": found.y,
        "longitude": found.x,
        "values": {n: np.ascontiguousarray(v) for n, v in values.items()},
    }
    return orjson.dumps(document, option=_NUMPY)


def table_of_points(asked: Asked, found: Points, values: Mapping[str, np.ndarray]) -> bytes:
    """CSV: a row per point, member and lead time, a column per variable and level; empty where missing."""
    names = np.array(found.names or [str(i) for i in range(len(found.latitude))], dtype=object)
    return _table(asked, {"point": names, "latitude": found.latitude, "longitude": found.longitude}, values)


def table_of_region(asked: Asked, found: Region, values: Mapping[str, np.ndarray]) -> bytes:
    """CSV: a row per cell, member and lead time; cells outside a polygon are left out."""
    if len(found.place.shape) == 1:
        return _table(asked, {"latitude": found.y, "longitude": found.x}, values)
    y, x = (a.ravel() for a in np.meshgrid(found.y, found.x, indexing="ij"))
    flat = {n: v.reshape(*v.shape[:-2], -1) for n, v in values.items()}
    if found.mask is not None:
        inside = np.flatnonzero(found.mask.ravel())
        y, x, flat = y[inside], x[inside], {n: v[..., inside] for n, v in flat.items()}
    return _table(asked, {"latitude": y, "longitude": x}, flat)


def _head(asked: Asked) -> dict[str, Any]:
    attributes = asked.snapshot.attributes
    return {
        **{k: attributes[k] for k in ("title", "source", "attribution") if k in attributes},
        "collection": asked.collection,
        "snapshot": asked.snapshot.id,
        "init_time": utc_text(asked.run.init),
        "time_zone": "UTC",
        "lead_time": asked.snapshot.lead_time[asked.leads],
        "valid_time": [utc_text(t) for t in asked.valid_times],
        "variables": {n: _described(asked, n) for n in asked.names},
    }


def _described(asked: Asked, name: str) -> dict[str, Any]:
    variable = asked.snapshot.variables[name]
    text: dict[str, Any] = {
        k: variable.attributes[k] for k in _ATTRIBUTES if variable.attributes.get(k) not in (None, "")
    }
    outer = [d for d in ("level", "member") if d in variable.layout.dims]
    text["dimensions"] = [*outer, "lead_time"]
    for dim in outer:
        text[dim] = asked.values(dim).tolist()
        units = asked.snapshot.outer[dim][1].get("units", "1")
        if units != "1":
            text[f"{dim}_units"] = units
    return text


def _table(asked: Asked, where: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> bytes:
    import polars as pl

    dims = {n: asked.snapshot.variables[n].layout.dims for n in asked.names}
    members = asked.values("member") if any("member" in d for d in dims.values()) else None
    count = len(next(iter(where.values())))
    shape = (count, 1 if members is None else len(members), len(asked.leads))

    def spread(one: np.ndarray, axis: int) -> np.ndarray:
        return np.broadcast_to(one.reshape([-1 if a == axis else 1 for a in range(3)]), shape).ravel()

    columns: dict[str, Any] = {
        k: (spread(v, 0).tolist() if v.dtype == object else spread(v, 0)) for k, v in where.items()
    }
    columns["lead_time [h]"] = spread(asked.snapshot.lead_time[asked.leads], 2)
    columns["valid_time"] = spread(np.array([utc_text(t) for t in asked.valid_times], dtype=object), 2).tolist()
    if members is not None:
        columns["member"] = spread(members, 1)
    for name in asked.names:
        units = asked.snapshot.variables[name].attributes.get("units")
        end = f" [{units}]" if units else ""
        levels = asked.values("level") if "level" in dims[name] else [None]
        for i, level in enumerate(levels):
            # To (place, member, lead_time); a variable without members holds for each of them.
            part = np.moveaxis(values[name][i] if level is not None else values[name], -1, 0)
            label = name if level is None else f"{name}_{level:g}"
            part = part if "member" in dims[name] else part[:, None, :]
            columns[f"{label}{end}"] = np.broadcast_to(part, shape).ravel()
    table = pl.DataFrame(columns).with_columns(pl.selectors.float().fill_nan(None))
    return table.write_csv().encode()
