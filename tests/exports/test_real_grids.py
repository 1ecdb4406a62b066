"""Exporters on fields of real models, held against what ecCodes says of the same messages."""

import json

import eccodes
import numpy as np
import pytest
import xarray as xr

from tasks.exports.exporter import exporters

pytestmark = pytest.mark.real

TOWNS = [
    {"name": "Denver", "latitude": 39.74, "longitude": -104.98},
    {"name": "Miami", "latitude": 25.77, "longitude": 279.8},
    {"name": "Chicago", "latitude": 41.88, "longitude": -87.63},
]


def one_field(path, index: int) -> tuple[xr.Dataset, list[float]]:
    """A message as a run with one lead time, and ecCodes' own values nearest to the towns."""
    with path.open("rb") as file:
        for _ in range(index + 1):
            handle = eccodes.codes_grib_new_from_file(file)
    shape = eccodes.codes_get(handle, "Nj"), eccodes.codes_get(handle, "Ni")
    values, lats, lons = (
        eccodes.codes_get_array(handle, k).reshape(shape) for k in ("values", "latitudes", "longitudes")
    )
    nearest = [eccodes.codes_grib_find_nearest(handle, t["latitude"], t["longitude"])[0].value for t in TOWNS]
    regular = eccodes.codes_get(handle, "gridType") == "regular_ll"
    units = eccodes.codes_get(handle, "units")
    eccodes.codes_release(handle)
    dims = ("latitude", "longitude") if regular else ("y", "x")
    coords = {
        "latitude": (dims[:1], lats[:, 0]) if regular else (dims, lats),
        "longitude": (dims[1:], lons[0]) if regular else (dims, lons),
        "lead_time": ("lead_time", np.array([0], "timedelta64[ns]")),
        "init_time": np.datetime64("2026-08-12", "ns"),
    }
    return xr.Dataset({"field": (("lead_time", *dims), values[None], {"units": units})}, coords), nearest


@pytest.mark.parametrize("name", ["gfs/gfs.t00z.pgrb2.2p50.f000", "hrrr_nam/nam.t00z.awp21100.tm00.grib2"])
def test_points_are_those_of_eccodes_and_the_map_is_drawn(shared, tmp_path, name):
    run, nearest = one_field(shared / "data" / name, 0)
    exporter = exporters.build({"type": "points", "name": "towns", "points": TOWNS})
    document = json.loads(exporter.render(run, tmp_path)[0].read_text())
    assert [p["values"]["field"][0] for p in document["points"]] == pytest.approx(nearest)
    look = exporters.build({"type": "map", "name": "look", "variable": "field", "lead_time": 0, "contour": "field"})
    assert look.render(run, tmp_path)[0].stat().st_size > 10_000
