"""What the API says of itself and its collections: landing page, conformance, collections and their instances."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.exports.fields import utc_text
from tasks.serving.following import Collection
from tasks.serving.snapshot import Run, Snapshot

from .asked import CRS, FORMATS, described

CONFORMANCE = [
    f"http://www.opengis.net/spec/ogcapi-{part}"
    for part in (
        "common-1/1.0/conf/core",
        "common-2/1.0/conf/collections",
        "edr-1/1.1/conf/core",
        "edr-1/1.1/conf/json",
        "edr-1/1.1/conf/covjson",
        "edr-1/1.1/conf/oas30",
        "edr-1/1.1/conf/queries",
    )
]
TITLE = "weatherlake"
DESCRIPTION = "Published weather and earth-observation cubes, as points, areas and boxes."
_GREGORIAN = 'TIMECRS["DateTime",TDATUM["Gregorian Calendar"],CS[TemporalDateTime,1],AXIS["Time (T)",future]]'
_CRS84_WKT = 'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]]]'
_QUERIES = {
    "position": "Values at a point, or some",
    "area": "Values in a polygon",
    "cube": "Values in a box",
}


def landing(base: str) -> dict[str, Any]:
    """The landing page."""
    return {
        "title": TITLE,
        "description": DESCRIPTION,
        "links": [
            _link(base, "/", "self", "This document"),
            _link(base, "/openapi.json", "service-desc", "The API", "application/vnd.oai.openapi+json;version=3.1"),
            _link(base, "/docs", "service-doc", "The API, to read", "text/html"),
            _link(base, "/conformance", "conformance", "What the API conforms to"),
            _link(base, "/collections", "data", "The collections"),
        ],
    }


def collections(base: str, found: list[tuple[Collection, Snapshot]]) -> dict[str, Any]:
    """All collections."""
    return {
        "links": [_link(base, "/collections", "self", "This document")],
        "collections": [collection(base, c, s) for c, s in found],
    }


def collection(base: str, one: Collection, snapshot: Snapshot) -> dict[str, Any]:
    """One collection: what it holds of its newest run, and how to ask for it."""
    title = str(snapshot.attributes.get("title") or one.recipe)
    found = _described(base, f"/collections/{one.id}", snapshot, snapshot.runs[-1] if snapshot.runs else None)
    found |= {"id": one.id, "title": f"{title}, {one.zone}", "description": _description(snapshot)}
    found["data_queries"]["instances"] = _query(base, f"/collections/{one.id}/instances", "instances", "All runs")
    return found


def instances(base: str, one: Collection, snapshot: Snapshot) -> dict[str, Any]:
    """The published runs of a collection, the newest first."""
    return {
        "links": [_link(base, f"/collections/{one.id}/instances", "self", "This document")],
        "instances": [instance(base, one, snapshot, run) for run in reversed(snapshot.runs)],
    }


def instance(base: str, one: Collection, snapshot: Snapshot, run: Run) -> dict[str, Any]:
    """One run of a collection."""
    found = _described(base, f"/collections/{one.id}/instances/{run.name}", snapshot, run)
    state = "" if run.status == "accepted" else f" ({run.status})"
    return found | {
        "id": run.name,
        "title": f"Run of {utc_text(run.init)}{state}",
        "description": _description(snapshot),
    }


def _described(base: str, path: str, snapshot: Snapshot, run: Run | None) -> dict[str, Any]:
    return {
        "links": [_link(base, path, "self", "This document"), _link(base, path, "data", "The data")],
        "extent": _extent(snapshot, run),
        "data_queries": {name: _query(base, f"{path}/{name}", name, text) for name, text in _QUERIES.items()},
        "crs": [CRS[0]],
        "output_formats": list(FORMATS),
        "parameter_names": {
            name: _parameter(name, variable.attributes) for name, variable in snapshot.variables.items()
        },
    }


def _description(snapshot: Snapshot) -> str:
    said = [str(snapshot.attributes[k]).rstrip(".") for k in ("source", "attribution") if snapshot.attributes.get(k)]
    return ". ".join([*said, f"Snapshot {snapshot.id}"])


def _extent(snapshot: Snapshot, run: Run | None) -> dict[str, Any]:
    lat, lon = snapshot.grid.latitude, snapshot.grid.longitude
    whole = snapshot.grid.global_longitude
    west, east = (-180.0, 180.0) if whole else (float(np.nanmin(lon)), float(np.nanmax(lon)))
    found: dict[str, Any] = {
        "spatial": {"bbox": [[west, float(np.nanmin(lat)), east, float(np.nanmax(lat))]], "crs": _CRS84_WKT}
    }
    if run is not None:
        times = [utc_text(run.init + np.timedelta64(round(h * 3600), "s")) for h in snapshot.lead_time]
        found["temporal"] = {"interval": [[min(times), max(times)]], "values": times, "trs": _GREGORIAN}
    if "level" in snapshot.outer:
        values, attributes = snapshot.outer["level"]
        texts = [f"{v:g}" for v in np.asarray(values, dtype="float64")]
        ordered = sorted(texts, key=float)
        vrs = f"{attributes.get('standard_name') or 'level'} [{attributes.get('units') or '1'}]"
        found["vertical"] = {"interval": [[ordered[0], ordered[-1]]], "values": texts, "vrs": vrs}
    if "member" in snapshot.outer:
        members = [float(v) for v in snapshot.outer["member"][0]]
        reference = "http://vocab.nerc.ac.uk/standard_name/realization/"
        found["custom"] = [
            {"id": "member", "interval": [[min(members), max(members)]], "values": members, "reference": reference}
        ]
    return found


def _parameter(name: str, attributes: Any) -> dict[str, Any]:
    text, units, standard = described(attributes, name)
    observed = {"label": text} | ({"id": f"http://vocab.nerc.ac.uk/standard_name/{standard}/"} if standard else {})
    return {
        "type": "Parameter", "id": name, "description": text, "data-type": "float", "unit": {"symbol": units},
        "observedProperty": observed,
    }  # fmt: skip


def _query(base: str, path: str, kind: str, text: str) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "query_type": kind,
        "output_formats": list(FORMATS),
        "default_output_format": FORMATS[0],
    }
    if kind == "cube":
        variables["height_units"] = ["1"]
    if kind == "instances":
        variables = {"query_type": kind}
    return {"link": {"href": f"{base}{path}", "rel": "data", "title": text, "variables": variables}}


def _link(base: str, path: str, rel: str, title: str, media: str = "application/json") -> dict[str, Any]:
    return {"href": f"{base}{path}", "rel": rel, "type": media, "title": title}
