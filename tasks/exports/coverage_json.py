"""CoverageJSON of time series at points. Source: OGC 21-069r2, CoverageJSON Community Standard 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .fields import utc_text
from .point_tables import Column, Table

REFERENCING: list[dict[str, Any]] = [
    {
        "coordinates": ["x", "y"],
        "system": {"type": "GeographicCRS", "id": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"},
    },
    {"coordinates": ["t"], "system": {"type": "TemporalRS", "calendar": "Gregorian"}},
]


def collection(table: Table) -> dict[str, Any]:
    """A table as a CoverageCollection: a PointSeries per point, and per member where there are any.

    A coverage's axes are where its values are: the cell for the nearest one. Beside the standard's members it has
    ``point`` (name, requested place, distance in km) and ``member``.
    """
    return {
        "type": "CoverageCollection",
        "domainType": "PointSeries",
        **table.about,
        "init_time": utc_text(table.init_time),
        "parameters": {c.name: parameter(c) for c in table.columns},
        "referencing": REFERENCING,
        "coverages": [_coverage(table, n, m) for n in range(len(table.names)) for m in range(table.shape[1])],
    }


def parameter(column: Column) -> dict[str, Any]:
    """What a column is."""
    about = column.attributes
    label = str(about.get("long_name") or column.name) + (f" at {about['level']}" if about.get("level") else "")
    observed: dict[str, Any] = {"label": {"en": label}}
    if name := about.get("standard_name"):
        observed["id"] = f"http://vocab.nerc.ac.uk/standard_name/{name}/"
    found: dict[str, Any] = {"type": "Parameter", "description": {"en": label}, "observedProperty": observed}
    if units := about.get("units"):
        found["unit"] = {"symbol": str(units)}
    return found


def _coverage(table: Table, point: int, member: int) -> dict[str, Any]:
    place = {
        "name": table.names[point], "latitude": table.latitude[point], "longitude": table.longitude[point],
        "distance_km": table.distance_km[point],
    }  # fmt: skip
    numbered = {} if table.members is None else {"member": int(table.members[member])}
    return {
        "type": "Coverage",
        "id": "-".join([table.names[point], *(f"m{n:02d}" for n in numbered.values())]),
        "point": place,
        **numbered,
        "domain": {
            "type": "Domain",
            "domainType": "PointSeries",
            "axes": {
                "x": {"values": [float(table.grid_longitude[point])]},
                "y": {"values": [float(table.grid_latitude[point])]},
                "t": {"values": [utc_text(t) for t in table.valid_time]},
            },
        },
        "ranges": {c.name: _range(table.values(c)[point, member]) for c in table.columns},
    }


def _range(values: np.ndarray) -> Mapping[str, Any]:
    return {
        "type": "NdArray", "dataType": "float", "axisNames": ["t"], "shape": list(values.shape),
        "values": np.ascontiguousarray(values),
    }  # fmt: skip
