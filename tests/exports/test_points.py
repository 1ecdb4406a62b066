"""The exporter ``points``: values, schema, formats."""

import json

import numpy as np
import polars as pl
import pytest
import xarray as xr

from tasks.exports.exporter import exporters
from tasks.lake.errors import UsageError
from tests.exports.runs import make_run

PLACES = [
    {"name": "De Bilt", "latitude": 52.1, "longitude": 5.18},
    {"name": "Brest", "latitude": 48.4, "longitude": 355.5},
]
HERE = [{"name": "here", "latitude": 50, "longitude": 5}]


def export(run, folder, **fields):
    exporter = exporters.build({"type": "points", "name": "towns", "points": PLACES} | fields)
    (path,) = exporter.render(run, folder)
    return path


def test_json_holds_what_the_docstring_says(tmp_path):
    run = make_run("regional")
    document = json.loads(export(run, tmp_path).read_text())
    assert document["title"] == "Made-up model"
    assert document["attribution"] == "public domain"
    assert document["init_time"] == "2026-11-20T00:00:00Z"
    assert document["lead_time"] == [0, 6, 12]
    assert document["valid_time"] == ["2026-11-20T00:00:00Z", "2026-11-20T06:00:00Z", "2026-11-20T12:00:00Z"]
    assert document["variables"]["t"] == {
        "units": "K", "long_name": "temperature", "standard_name": "air_temperature",
        "dimensions": ["level", "member", "lead_time"], "level": [850, 500], "level_units": "hPa", "member": [0, 1, 2],
    }  # fmt: skip
    brest = document["points"][1]
    assert brest["requested"] == {"latitude": 48.4, "longitude": 355.5}
    assert brest["grid"] == {"latitude": 48.5, "longitude": -4.5}
    # 0.1 degrees of latitude on a sphere of 6371.229 km
    assert brest["distance_km"] == pytest.approx(11.12, abs=0.01)
    expected = run["t"].sel(latitude=48.5, longitude=-4.5).transpose("level", "member", "lead_time").values
    np.testing.assert_array_equal(np.array(brest["values"]["t"], dtype="float32"), expected)
    np.testing.assert_array_equal(np.shape(brest["values"]["t2m"]), (3, 3))


def test_missing_values_are_null(tmp_path):
    document = json.loads(export(make_run("regional", members=0), tmp_path, variables=["tp"]).read_text())
    values = document["points"][0]["values"]["tp"]
    assert values[0] is None
    assert all(isinstance(v, float) for v in values[1:])


def test_all_longitude_branches_give_the_same(tmp_path):
    texts = []
    for kind, lon in (("global", -4.5), ("global", 355.5), ("global-360", -4.5), ("global-360", 355.5)):
        places = [{"name": "p", "latitude": 48, "longitude": lon}]
        document = json.loads(export(make_run(kind), tmp_path, points=places, variables=["t2m"]).read_text())
        assert document["points"][0]["grid"]["longitude"] == -4
        texts.append(document["points"][0]["values"])
    assert texts[0] == texts[1]
    np.testing.assert_allclose(texts[0]["t2m"], texts[2]["t2m"], atol=1e-4)


def test_bilinear_agrees_with_xarray_interp(tmp_path):
    run = make_run("regional", nan=False)
    document = json.loads(export(run, tmp_path, method="bilinear", variables=["t2m"]).read_text())
    theirs = run["t2m"].interp(latitude=52.1, longitude=5.18).transpose("member", "lead_time")
    np.testing.assert_allclose(document["points"][0]["values"]["t2m"], theirs, rtol=1e-6)
    assert document["points"][0]["grid"] == {"latitude": 52.1, "longitude": 5.18}


def test_a_missing_corner_counts_only_with_a_weight(tmp_path):
    run = make_run("regional", members=0)
    hole = {"latitude": float(run.latitude[4]), "longitude": float(run.longitude[6])}
    beside = {"latitude": hole["latitude"], "longitude": float(run.longitude[3])}
    near = {"latitude": hole["latitude"], "longitude": float(run.longitude[3]) + 0.1}
    places = [{"name": n} | p for n, p in (("hole", hole), ("beside", beside), ("near", near))]
    document = json.loads(export(run, tmp_path, points=places, method="bilinear", variables=["tp"]).read_text())
    assert [p["values"]["tp"][1] is None for p in document["points"]] == [True, False, True]


def test_csv_has_a_row_per_point_member_and_lead_time(tmp_path):
    run = make_run("regional")
    table = pl.read_csv(export(run, tmp_path, format="csv"))
    assert table.height == 2 * 3 * 3
    assert table.columns == [
        "point", "latitude", "longitude", "grid_latitude", "grid_longitude", "distance_km", "lead_time [h]",
        "valid_time", "member", "msl [Pa]", "t_850 [K]", "t_500 [K]", "t2m [K]", "tp [m]",
    ]  # fmt: skip
    row = table.filter((pl.col("point") == "Brest") & (pl.col("member") == 2) & (pl.col("lead_time [h]") == 6))
    at = run.sel(latitude=48.5, longitude=-4.5, member=2).isel(lead_time=1)
    assert row["t2m [K]"].item() == pytest.approx(float(at["t2m"]), rel=1e-6)
    assert row["t_500 [K]"].item() == pytest.approx(float(at["t"].sel(level=500)), rel=1e-6)
    assert row["valid_time"].item() == "2026-11-20T06:00:00Z"
    assert table["tp [m]"].null_count() == 2 * 3


def test_csv_without_member_dimension(tmp_path):
    table = pl.read_csv(export(make_run("regional", members=0, levels=()), tmp_path, format="csv"))
    assert table.height == 6
    assert "member" not in table.columns


def test_geojson_geometry_is_longitude_latitude(tmp_path):
    document = json.loads(export(make_run("regional"), tmp_path, format="geojson").read_text())
    assert document["type"] == "FeatureCollection"
    assert document["features"][1]["geometry"] == {"type": "Point", "coordinates": [-4.5, 48.4]}
    assert set(document["features"][0]["properties"]["values"]) == {"t2m", "tp", "msl", "t"}


def test_valid_time_in_another_zone(tmp_path):
    document = json.loads(export(make_run("regional"), tmp_path, time_zone="Europe/Amsterdam").read_text())
    assert document["valid_time"][1] == "2026-11-20T07:00:00+01:00"


def test_curvilinear_grid(tmp_path):
    run = make_run("lambert")
    places = [{"name": "Kansas", "latitude": 38.5, "longitude": 262.5}]
    document = json.loads(export(run, tmp_path, points=places, variables=["msl"]).read_text())
    point = document["points"][0]
    assert point["distance_km"] == pytest.approx(0, abs=0.01)
    np.testing.assert_array_equal(np.array(point["values"]["msl"], "float32"), run["msl"][:, :, 20, 30].T)


def test_one_point_outside_names_it_and_the_grid(tmp_path):
    with pytest.raises(UsageError, match=r"expected latitude 40 to 60, longitude -10 to 20, found Rome \(10, 12.5\)"):
        export(make_run("regional"), tmp_path, points=[*PLACES, {"name": "Rome", "latitude": 10, "longitude": 12.5}])


def test_reads_lazily_from_zarr(tmp_path):
    run = make_run("regional")
    run.to_zarr(tmp_path / "run.zarr", consolidated=False, zarr_format=3)
    lazy = xr.open_zarr(tmp_path / "run.zarr", consolidated=False, chunks=None)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for method in ("nearest", "bilinear"):
        assert (
            export(lazy, tmp_path / "a", method=method).read_bytes()
            == export(run, tmp_path / "b", method=method).read_bytes()
        )


def test_units_are_converted_and_named(tmp_path):
    run = make_run("regional", levels=())
    path = export(run, tmp_path, points=HERE, units={"t2m": "degC", "tp": "mm"})
    found = json.loads(path.read_bytes())
    assert {n: v["units"] for n, v in found["variables"].items()} == {"t2m": "degC", "tp": "mm", "msl": "Pa"}
    at = run.sel(latitude=50, longitude=5)
    values = found["points"][0]["values"]
    kelvins = at["t2m"].transpose("member", "lead_time").values.astype("float64")
    assert np.float32(values["t2m"]).tolist() == (kelvins - 273.15).astype("float32").tolist()
    metres = at["tp"].transpose("member", "lead_time").values
    np.testing.assert_allclose(np.array(values["tp"], dtype="float64")[:, 1:], metres[:, 1:] * 1000.0, rtol=1e-6)


def test_a_spread_in_degrees_is_a_spread_in_kelvins(tmp_path):
    run = make_run("regional", levels=())
    run["t2m"].attrs["cell_methods"] = "member: standard_deviation"
    asked = {"points": HERE, "variables": ["t2m"], "units": {"t2m": "degC"}}
    path = export(run, tmp_path, **asked)
    first = json.loads(path.read_bytes())["points"][0]["values"]["t2m"][0][0]
    assert first == pytest.approx(float(run["t2m"].sel(latitude=50, longitude=5)[0, 0]))
    run["t2m"].attrs["cell_methods"] = "member: variance"
    with pytest.raises(UsageError, match="are squares"):
        export(run, tmp_path, **asked)


@pytest.mark.parametrize(
    ("units", "sentence"),
    [({"t2m": "m"}, "'K' cannot be converted to 'm'"), ({"t2m": "furlong/"}, "no unit"), ({"x": "K"}, "names 'x'")],
)
def test_units_that_do_not_fit_are_one_sentence(tmp_path, units, sentence):
    with pytest.raises(UsageError, match=sentence):
        export(make_run("regional", levels=()), tmp_path, units=units)


def test_coverages_of_bilinear_points_lie_at_the_points(tmp_path):
    run = make_run("regional", members=0, levels=())
    run["tp"][0] = np.nan
    path = export(run, tmp_path, points=PLACES[:1], format="covjson", method="bilinear")
    found = json.loads(path.read_bytes())
    (coverage,) = found["coverages"]
    assert coverage["domain"]["axes"]["y"]["values"] == [52.1]
    assert "member" not in coverage
    assert coverage["ranges"]["tp"]["values"][0] is None
    assert found["parameters"]["t2m"]["observedProperty"]["id"].endswith("/air_temperature/")
