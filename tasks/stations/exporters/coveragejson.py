"""CoverageJSON: one document a station, as the provider gave it but checked."""

from pathlib import Path
from typing import Any

import orjson

from ..schema import COLUMNS
from .exporter import StationExporter, StationYear, Year, exporters

_REFERENCING = [
    {
        "coordinates": ["x", "y"],
        "system": {"type": "GeographicCRS", "id": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"},
    },
    {"coordinates": ["t"], "system": {"type": "TemporalRS", "calendar": "Gregorian"}},
]


@exporters.register("coveragejson")
class CoverageJson(StationExporter):
    """``<station>-<year>.covjson``: a PointSeries of the silver values (OGC 21-069r2)."""

    def render(self, year: Year, folder: Path) -> list[Path]:
        paths = []
        for station in year.stations:
            if station.silver is not None:
                path = folder / f"{station.station}-{year.year}.covjson"
                path.write_bytes(orjson.dumps(_document(year, station)))
                paths.append(path)
        return paths


def _document(year: Year, station: StationYear) -> dict[str, Any]:
    table = station.silver
    assert table is not None
    described = {c.name: c for c in COLUMNS}
    names = [n for n in year.parameters if table[n].null_count() < table.height]
    times = table["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ").to_list()
    return {
        "type": "Coverage",
        "id": f"{station.station}-{year.year}",
        "domain": {
            "type": "Domain",
            "domainType": "PointSeries",
            "axes": {
                "x": {"values": [station.longitude]},
                "y": {"values": [station.latitude]},
                "t": {"values": times},
            },
            "referencing": _REFERENCING,
        },
        "parameters": {
            n: {
                "type": "Parameter",
                "description": {"en": described[n].description},
                "unit": {"symbol": described[n].units},
                "observedProperty": {"label": {"en": n.replace("_", " ")}},
            }
            for n in names
        },
        "ranges": {
            n: {
                "type": "NdArray",
                "dataType": "float",
                "axisNames": ["t", "y", "x"],
                "shape": [table.height, 1, 1],
                "values": table[n].to_list(),
            }
            for n in names
        },
    }
