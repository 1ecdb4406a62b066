"""What the API answers, read by other programs' models and compared with xarray on the same cube."""

from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
import xarray as xr
from covjson_pydantic.coverage import Coverage, CoverageCollection
from edr_pydantic.capabilities import ConformanceModel, LandingPageModel
from edr_pydantic.collections import Collection, Collections, Instances

from tasks.lake.reading import open_cube

from .running import HTTP, Server

POINT = "POINT(5.2 52.4)"
FROM = "/collections/made"


@pytest.fixture(scope="module")
def cubes(api_lake: Path) -> dict[str, xr.Dataset]:
    return {zone: open_cube(str(api_lake), "made", zone) for zone in ("global", "lambert", "regional", "plain")}


def covjson(answer: httpx.Response) -> Coverage | CoverageCollection:
    """The answer as another program's model of the standard has it; strict about unknown members."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/prs.coverage+json"
    if answer.json()["type"] == "Coverage":
        return Coverage.model_validate_json(answer.content)
    return CoverageCollection.model_validate_json(answer.content)


def numbers(values) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype="float32")


def test_the_api_describes_itself(api: Server) -> None:
    landing = LandingPageModel.model_validate_json(api.get("/").content)
    for link in landing.links:
        assert HTTP.get(link.href).status_code == 200, link.href
    conformance = ConformanceModel.model_validate_json(api.get("/conformance").content)
    assert "http://www.opengis.net/spec/ogcapi-edr-1/1.1/conf/core" in conformance.conformsTo
    found = Collections.model_validate_json(api.get("/collections").content)
    assert [c.id for c in found.collections] == ["made.global", "made.lambert", "made.plain", "made.regional"]
    one = Collection.model_validate_json(api.get("/collections/made.global").content)
    assert one.extent.temporal is not None
    assert one.extent.temporal.values == ["2026-11-20T12:00:00Z", "2026-11-20T18:00:00Z", "2026-11-21T00:00:00Z"]
    assert one.extent.vertical is not None
    assert one.extent.vertical.values == ["850", "500"]
    instances = Instances.model_validate_json(api.get("/collections/made.global/instances").content)
    assert [i.id for i in instances.instances] == ["2026-11-20T12", "2026-11-20T00"]
    queries = one.data_queries
    assert queries is not None
    assert queries.position is not None
    assert HTTP.get(f"{queries.position.link.href}?coords={POINT}").status_code == 200


def test_a_point_is_what_xarray_selects(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    found = covjson(api.get("/collections/made.plain/position", coords=POINT))
    assert isinstance(found, Coverage)
    here = cubes["plain"].isel(init_time=-1).sel(latitude=52.4, longitude=5.2, method="nearest")
    for name, values in found.ranges.items():
        np.testing.assert_array_equal(numbers(values.values), here[name].values)
    times = [np.datetime64(t.replace(tzinfo=None)) for t in found.domain.axes.t.values]
    np.testing.assert_array_equal(np.array(times, "datetime64[ns]"), here["valid_time"].values)
    assert found.domain.axes.x.values == [float(here.longitude)]
    assert set(found.parameters) == {"t2m", "tp", "msl"}


def test_a_run_by_its_name_and_the_newest(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    for path, init in (("/instances/2026-11-20T00", 0), ("/instances/2026-11-20T12", 1), ("", 1)):
        document = api.get(f"{FROM}.plain{path}/position", coords=POINT, parameter_name="t2m", f="JSON").json()
        here = cubes["plain"].isel(init_time=init).sel(latitude=52.4, longitude=5.2, method="nearest")
        np.testing.assert_array_equal(numbers(document["points"][0]["values"]["t2m"]), here["t2m"].values)
        assert document["init_time"] == f"{np.datetime64(here.init_time.values, 's')}Z"


def test_members_and_levels(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    here = cubes["global"].isel(init_time=-1).sel(latitude=-33.8, longitude=288.4, method="nearest")
    coords = "POINT(-71.6 -33.8)"
    found = covjson(api.get(f"{FROM}.global/position", coords=coords, parameter_name="t"))
    assert isinstance(found, CoverageCollection)
    assert len(found.coverages) == 3
    for i, one in enumerate(found.coverages):
        assert one.model_extra is not None
        assert one.model_extra["weatherlake:member"] == i
        values = one.ranges["t"]
        assert (values.axisNames, values.shape) == (["z", "t", "y", "x"], [2, 3, 1, 1])
        expected = here["t"].isel(member=i).transpose("level", "lead_time")
        np.testing.assert_array_equal(numbers(values.values).reshape(2, 3), expected.values)
    one = covjson(api.get(f"{FROM}.global/position", coords=coords, parameter_name="t", z="500", member="2"))
    assert isinstance(one, Coverage)
    assert one.domain.axes.z.values == [500.0]
    np.testing.assert_array_equal(numbers(one.ranges["t"].values), here["t"].sel(level=500, member=2).values)
    plain = api.get(f"{FROM}.global/position", coords=coords, member="0/1", f="JSON").json()
    assert plain["variables"]["t"]["dimensions"] == ["level", "member", "lead_time"]
    assert plain["variables"]["t"]["member"] == [0, 1]
    expected = here["t"].isel(member=slice(2)).transpose("level", "member", "lead_time")
    np.testing.assert_array_equal(np.array(plain["points"][0]["values"]["t"], "float32"), expected.values)


def test_times_are_chosen(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    here = cubes["plain"].isel(init_time=-1).sel(latitude=52.4, longitude=5.2, method="nearest")["t2m"].values
    for text, at in (
        ("2026-11-20T18:00:00Z", [1]),
        ("2026-11-20T19:00:00+01:00", [1]),
        ("2026-11-20T18:00:00Z/..", [1, 2]),
        ("../2026-11-20T18:00:00Z", [0, 1]),
        ("2026-11-20T13:00:00Z/2026-11-20T20:00:00Z", [1]),
        ("../..", [0, 1, 2]),
    ):
        found = covjson(api.get(f"{FROM}.plain/position", coords=POINT, datetime=text, parameter_name="t2m"))
        assert isinstance(found, Coverage)
        np.testing.assert_array_equal(numbers(found.ranges["t2m"].values), here[at])
    none = api.get(f"{FROM}.plain/position", coords=POINT, datetime="2026-11-20T17:00:00Z")
    assert none.status_code == 404
    assert "2026-11-20T12:00:00Z to 2026-11-21T00:00:00Z" in none.json()["description"]


def test_several_points_in_one_answer(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    places = [(5.2, 52.4), (-179.4, 0.3), (179.6, -89.9), (350.2, 12.1)]
    coords = f"MULTIPOINT({', '.join(f'({x} {y})' for x, y in places)})"
    found = covjson(api.get(f"{FROM}.plain/position", coords=coords, parameter_name="msl"))
    assert isinstance(found, CoverageCollection)
    here = cubes["plain"].isel(init_time=-1)["msl"]
    for one, (x, y) in zip(found.coverages, places, strict=True):
        west = (x + 181) % 360 - 181
        expected = here.sel(latitude=y, longitude=west, method="nearest").values
        np.testing.assert_array_equal(numbers(one.ranges["msl"].values), expected)


def test_a_thousand_points_at_once(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    rng = np.random.default_rng(5)
    # Not halfway between two rows: there the nearest row by latitude is not always nearest on the earth.
    lat = (2 * rng.integers(-40, 40, 1000) + rng.uniform(-0.9, 0.9, 1000)).round(3)
    lon = (2 * rng.integers(-88, 88, 1000) + rng.uniform(-0.9, 0.9, 1000)).round(3)
    body = {
        "collection": "made.plain",
        "points": [{"latitude": lat[i], "longitude": lon[i], "name": f"p{i}"} for i in range(1000)],
        "parameter-name": ["t2m", "tp"],
    }
    answer = HTTP.post(f"{api.url}/points", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    where = {"latitude": xr.DataArray(lat, dims="p"), "longitude": xr.DataArray(lon, dims="p")}
    here = cubes["plain"].isel(init_time=-1).sel(where, method="nearest")
    for name in ("t2m", "tp"):
        found = np.array([numbers(p["values"][name]) for p in document["points"]])
        np.testing.assert_array_equal(found, here[name].transpose("p", "lead_time").values)
    assert [p["name"] for p in document["points"]] == [f"p{i}" for i in range(1000)]
    grid = np.array([(p["grid"]["latitude"], p["grid"]["longitude"]) for p in document["points"]])
    np.testing.assert_allclose(grid, np.stack([here.latitude, here.longitude], axis=1))
    table = HTTP.post(f"{api.url}/points", json=body | {"f": "CSV"}, timeout=60)
    rows = pl.read_csv(table.content)
    assert rows.height == 3000
    expected = here["t2m"].transpose("p", "lead_time").values.ravel()
    np.testing.assert_array_equal(rows["t2m [K]"].to_numpy().astype("float32"), expected)
    again = HTTP.post(f"{api.url}/points", json=body | {"f": "CoverageJSON", "instance": "2026-11-20T00"}, timeout=60)
    assert len(covjson(again).coverages) == 1000  # type: ignore[union-attr]


def test_bilinear_lies_between_its_corners(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    query = {"coords": "POINT(5.5 52.5)", "parameter_name": "t2m", "f": "JSON"}
    found = api.get(f"{FROM}.regional/position", **query, method="bilinear").json()["points"][0]["values"]["t2m"]
    here = cubes["regional"].isel(init_time=-1)["t2m"].interp(latitude=52.5, longitude=5.5).values
    np.testing.assert_allclose(found, here, rtol=1e-6)
    refused = api.get(f"{FROM}.lambert/position", coords="POINT(-97 38)", method="bilinear")
    assert (refused.status_code, "nearest" in refused.text) == (400, True)


@pytest.mark.parametrize(("west", "east"), [(-20.0, 15.0), (171.0, -169.0), (-180.0, 180.0), (350.0, 8.0)])
def test_a_box_is_what_xarray_selects(api: Server, cubes: dict[str, xr.Dataset], west: float, east: float) -> None:
    answer = api.get(f"{FROM}.global/cube", bbox=f"{west},-11,{east},13", parameter_name="msl", member="1")
    found = covjson(answer)
    assert isinstance(found, Coverage)
    here = cubes["global"].isel(init_time=-1).sel(member=1)["msl"]
    x, y = (np.array(a.values) for a in (found.domain.axes.x, found.domain.axes.y))
    assert (np.diff(x) > 0).all()
    turned = np.mod(x, 360)
    wide = 360 if (west, east) == (-180.0, 180.0) else (east - west) % 360
    assert x.min() >= west
    assert x.max() <= west + wide
    assert len(x) == (180 if wide == 360 else np.sum(np.mod(here.longitude.values - west, 360) <= wide))
    values = found.ranges["msl"]
    assert values.axisNames == ["t", "y", "x"]
    expected = here.sel(latitude=y, longitude=turned).transpose("lead_time", "latitude", "longitude")
    np.testing.assert_array_equal(numbers(values.values).reshape(values.shape), expected.values)


def test_a_polygon_leaves_out_what_is_outside(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    coords = "POLYGON((-4.9 42.1, 14.9 42.1, 14.9 57.9, -4.9 42.1))"
    found = covjson(api.get(f"{FROM}.regional/area", coords=coords, parameter_name="t2m"))
    assert isinstance(found, Coverage)
    values = found.ranges["t2m"]
    got = numbers(values.values).reshape(values.shape)
    x, y = (np.array(a.values) for a in (found.domain.axes.x, found.domain.axes.y))
    # Below the line from the triangle's south-west to its north-east.
    inside = (y[:, None] - 42.1) / (57.9 - 42.1) <= (x[None, :] + 4.9) / (14.9 + 4.9)
    here = cubes["regional"].isel(init_time=-1)["t2m"].sel(latitude=y, longitude=x).values
    np.testing.assert_array_equal(got, np.where(inside, here, np.nan))
    rows = pl.read_csv(api.get(f"{FROM}.regional/area", coords=coords, parameter_name="t2m", f="CSV").content)
    assert rows.height == inside.sum() * 3


def test_cells_of_a_curvilinear_grid(api: Server, cubes: dict[str, xr.Dataset]) -> None:
    found = covjson(api.get(f"{FROM}.lambert/area", coords="POLYGON((-100 35,-94 35,-94 41,-100 41,-100 35))", z="850"))
    here = cubes["lambert"].isel(init_time=-1)
    inside = (here.longitude.values >= -100) & (here.longitude.values <= -94)
    inside &= (here.latitude.values >= 35) & (here.latitude.values <= 41)
    coverages = found.coverages if isinstance(found, CoverageCollection) else [found]
    values = {name: r for one in coverages for name, r in one.ranges.items()}
    np.testing.assert_array_equal(
        numbers(values["t2m"].values).reshape(3, -1), here["t2m"].transpose("lead_time", "y", "x").values[:, inside]
    )
    assert values["t"].axisNames == ["t", "composite"]
    np.testing.assert_array_equal(
        numbers(values["t"].values).reshape(3, -1), here["t"].sel(level=850).values[:, inside]
    )
    point = covjson(api.get(f"{FROM}.lambert/position", coords="POINT(-97.5 38.4)", parameter_name="t2m"))
    assert isinstance(point, Coverage)
    box = api.get(f"{FROM}.lambert/cube", bbox="-100,35,-94,41", f="JSON", parameter_name="t2m").json()
    assert len(box["latitude"]) == len(box["longitude"]) == inside.sum()


def test_what_is_known_is_not_sent_again(api: Server) -> None:
    for path in ("/collections/made.plain", f"/collections/made.plain/position?coords={POINT}"):
        first = HTTP.get(f"{api.url}{path}")
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "public, max-age=5"
        again = HTTP.get(f"{api.url}{path}", headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        other = HTTP.get(f"{api.url}{path}", headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)


REFUSED = [
    ("/collections/none.such/position", {"coords": POINT}, 404, "no such collection"),
    ("/collections/made.plain/instances/2020-01-01T00/position", {"coords": POINT}, 404, "no such run"),
    ("/collections/made.plain/position", {}, 400, "coords"),
    ("/collections/made.plain/position", {"coords": "POINT(5)"}, 400, "WKT"),
    ("/collections/made.plain/position", {"coords": "POINT(nan 3)"}, 400, ""),
    ("/collections/made.plain/position", {"coords": "POINT(1e999 3)"}, 400, ""),
    ("/collections/made.plain/position", {"coords": "POINT(5 91)"}, 400, "longitude comes first"),
    ("/collections/made.plain/position", {"coords": "LINESTRING(0 0,1 1)"}, 400, "POINT or MULTIPOINT"),
    ("/collections/made.plain/position", {"coords": "POINT EMPTY"}, 400, "POINT"),
    ("/collections/made.regional/position", {"coords": "POINT(100 0)"}, 404, "outside the grid"),
    ("/collections/made.plain/position", {"coords": POINT, "parameter_name": "nope"}, 400, "msl, t2m, tp"),
    ("/collections/made.plain/position", {"coords": POINT, "datetime": "yesterday"}, 400, "RFC 3339"),
    ("/collections/made.plain/position", {"coords": POINT, "datetime": "9999999-01-01/.."}, 400, "RFC 3339"),
    ("/collections/made.plain/position", {"coords": POINT, "z": "850"}, 400, "leave z out"),
    ("/collections/made.global/position", {"coords": POINT, "z": "12"}, 404, "850, 500"),
    ("/collections/made.global/position", {"coords": POINT, "z": "1/2/3"}, 400, "range"),
    ("/collections/made.global/position", {"coords": POINT, "member": "x"}, 400, "member"),
    ("/collections/made.plain/position", {"coords": POINT, "f": "NetCDF"}, 400, "f"),
    ("/collections/made.plain/position", {"coords": POINT, "crs": "EPSG:28992"}, 400, "CRS84"),
    ("/collections/made.plain/position", {"coords": POINT, "nonsense": "1"}, 400, "nonsense"),
    ("/collections/made.plain/area", {"coords": "POLYGON((0 0,2 2,0 2,2 0,0 0))"}, 400, "crosses itself"),
    ("/collections/made.plain/area", {"coords": "POLYGON((0 0,0 0,0 0,0 0))"}, 400, "inside"),
    ("/collections/made.plain/area", {"coords": "POLYGON((0.1 0.1,0.2 0.1,0.2 0.2,0.1 0.1))"}, 404, "no cell"),
    ("/collections/made.plain/cube", {"bbox": "0,0,1"}, 400, "four or six"),
    ("/collections/made.plain/cube", {"bbox": "0,10,1,-10"}, 400, "south above"),
    ("/collections/made.plain/cube", {"bbox": "inf,0,1,1"}, 400, "four or six"),
    ("/collections/made.global/cube", {"bbox": "-180,-90,180,90"}, 413, "400,000 at most"),
    ("/nothing/here", {}, 404, "nothing at this path"),
]


@pytest.mark.parametrize(("path", "query", "status", "word"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_said_in_one_sentence(
    api: Server, path: str, query: dict[str, str], status: int, word: str
) -> None:
    answer = api.get(path, **query)
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["code"] == status
    assert word in document["description"]
    assert "\n" not in document["description"]


def test_more_than_is_given_at_once_is_refused(api: Server) -> None:
    points = [{"latitude": 0.0, "longitude": float(i % 100)} for i in range(1001)]
    many = HTTP.post(f"{api.url}/points", json={"collection": "made.plain", "points": points})
    assert (many.status_code, "1,000 at most" in many.text) == (413, True)
    coords = f"MULTIPOINT({','.join(['(1 1)'] * 1001)})"
    assert api.get(f"{FROM}.plain/position", coords=coords).status_code == 413
    wrong = HTTP.post(f"{api.url}/points", json={"collection": "made.plain", "points": [{"latitude": 1, "lon": 2}]})
    assert (wrong.status_code, wrong.json()["description"]) == (400, "points.0.longitude: field required")
