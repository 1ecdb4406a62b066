"""Answers as CoverageJSON (OGC community standard 21-069r2).

A coverage has the axes x, y, z and t and no others, so members of an ensemble are coverages of their own, with the
member's number beside the standard's members (``weatherlake:member``), as is the run (``weatherlake:init_time``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from tasks.exports.fields import utc_text
from tasks.serving.reader import Cells

from .asked import Asked, described
from .geometry import Points, Region

TYPE = "application/prs.coverage+json"
SCHEMA = "CoverageJSON"
_CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


@dataclass(frozen=True, slots=True)
class _Shape:
    """A domain's type, and the axes of its values after z and t."""

    kind: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]


def of_points(asked: Asked, found: Points, values: Mapping[str, np.ndarray]) -> bytes:
    """A coverage for a point, a collection for several (or for members, or for variables of other dimensions).

    ``values`` are arrays ``([level] [member] lead_time point)``.
    """
    coverages: list[dict[str, Any]] = []
    for i in range(len(found.latitude)):
        x, y = float(found.longitude[i]), float(found.latitude[i])
        extra = {"weatherlake:point": found.names[i]} if found.names else {}
        for outer, names in _alike(asked):
            axes = {"x": {"values": [x]}, "y": {"values": [y]}, **_axes(asked, outer)}
            ranges = {n: values[n][..., i] for n in names}
            if len(axes.get("z", {"values": [0]})["values"]) == 1:
                shape = _Shape("PointSeries", (), ())
            else:
                # A series has one height; a grid of one cell may have several.
                shape = _Shape("Grid", ("y", "x"), (1, 1))
            coverages += _members(asked, outer, shape, axes, ranges, extra)
    return _document(asked, coverages)


def of_region(asked: Asked, found: Region, values: Mapping[str, np.ndarray]) -> bytes:
    """A grid, or on a curvilinear grid the series of each cell; null outside a polygon.

    ``values`` are arrays ``([level] [member] lead_time y x)``, or with one dimension of cells at the end.
    """
    coverages: list[dict[str, Any]] = []
    for outer, names in _alike(asked):
        ranges = {n: values[n] for n in names}
        axes = _axes(asked, outer)
        if isinstance(found.place, Cells):
            places = np.stack([found.x, found.y], axis=-1)
            axes["composite"] = {"dataType": "tuple", "coordinates": ["x", "y"], "values": places}
            shape = _Shape("MultiPointSeries", ("composite",), places.shape[:1])
            coverages += _levels(asked, outer, shape, axes, ranges)
        else:
            axes |= {"x": {"values": found.x}, "y": {"values": found.y}}
            shape = _Shape("Grid", ("y", "x"), (len(found.y), len(found.x)))
            coverages += _members(asked, outer, shape, axes, ranges, {})
    return _document(asked, coverages)


def parameter(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A variable as a parameter of CoverageJSON."""
    text, units, standard = described(attributes, name)
    observed: dict[str, Any] = {"label": {"en": text}}
    if standard:
        observed["id"] = f"http://vocab.nerc.ac.uk/standard_name/{standard}/"
    return {
        "type": "Parameter", "description": {"en": text}, "observedProperty": observed,
        "unit": {"symbol": units},
    }  # fmt: skip


def _alike(asked: Asked) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Variables with the same dimensions before the horizontal ones: the dimensions, and their names."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in asked.names:
        dims = asked.snapshot.variables[name].layout.dims[:-2]
        found.setdefault(tuple(d for d in ("level", "member") if d in dims), []).append(name)
    yield from found.items()


def _axes(asked: Asked, outer: tuple[str, ...]) -> dict[str, Any]:
    axes: dict[str, Any] = {"t": {"values": [utc_text(t) for t in asked.valid_times]}}
    if "level" in outer:
        axes["z"] = {"values": [float(v) for v in asked.values("level")]}
    return axes


def _levels(
    asked: Asked, outer: tuple[str, ...], shape: _Shape, axes: Mapping[str, Any], ranges: Mapping[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """Coverages of a domain that has no z: one for each level, and member."""
    if "level" not in outer:
        yield from _members(asked, outer, shape, axes, ranges, {})
        return
    rest = {k: v for k, v in axes.items() if k != "z"}
    for i, level in enumerate(axes["z"]["values"]):
        one = {n: v[i] for n, v in ranges.items()}
        yield from _members(asked, outer[1:], shape, rest, one, {"weatherlake:level": level})


def _members(
    asked: Asked, outer: tuple[str, ...], shape: _Shape, axes: Mapping[str, Any], ranges: Mapping[str, np.ndarray],
    extra: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A coverage, or one for each member."""
    domain = {"type": "Domain", "domainType": shape.kind, "axes": axes, "referencing": _referencing(asked, axes)}
    names = [*(("z",) if "z" in axes and shape.kind != "PointSeries" else ()), "t", *shape.names]
    sizes = [*((len(axes["z"]["values"]),) if names[0] == "z" else ()), len(asked.leads), *shape.sizes]
    head = {"type": "NdArray", "dataType": "float", "axisNames": names, "shape": sizes}
    numbers = asked.values("member").tolist() if "member" in outer else [None]
    at = outer.index("member") if "member" in outer else 0
    for i, number in enumerate(numbers):
        yield {
            "type": "Coverage",
            "domain": domain,
            **(extra if number is None else {**extra, "weatherlake:member": number}),
            "ranges": {
                n: {**head, "values": np.ascontiguousarray(v if number is None else v.take(i, axis=at)).ravel()}
                for n, v in ranges.items()
            },
        }


def _referencing(asked: Asked, axes: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"coordinates": ["x", "y"], "system": {"type": "GeographicCRS", "id": _CRS84}},
        {"coordinates": ["t"], "system": {"type": "TemporalRS", "calendar": "Gregorian"}},
    ]
    if "z" in axes:
        attributes = asked.snapshot.outer["level"][1]
        text = f"{attributes.get('standard_name') or attributes.get('long_name') or 'level'}"
        units = attributes.get("units") or "1"
        found.append(
            {"coordinates": ["z"], "system": {"type": "VerticalCRS", "description": {"en": f"{text} [{units}]"}}}
        )
    return found


def _document(asked: Asked, coverages: list[dict[str, Any]]) -> bytes:
    parameters = {n: parameter(asked.snapshot.variables[n].attributes, n) for n in asked.names}
    extra = {"parameters": parameters, "weatherlake:init_time": utc_text(asked.run.init)}
    if len(coverages) == 1:
        document = {**coverages[0], **extra}
    else:
        document = {"type": "CoverageCollection", **extra, "coverages": coverages}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
