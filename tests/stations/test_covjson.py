"""CoverageJSON read: in any order, with gaps, several places; and refused clearly where it is something else."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from tasks.lake.errors import CorruptInput
from tasks.stations import tables
from tasks.stations.covjson import parse
from tasks.stations.outline import outlined

TIMES = ["2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z", "2024-01-01T02:00:00Z"]


def coverage(values: list[Any], names: tuple[str, ...] = ("t", "y", "x"), **more: Any) -> dict[str, Any]:
    shape = [len(values) if n == "t" else 1 for n in names]
    return {
        "type": "Coverage",
        "eumetnet:locationId": "a",
        "domain": {
            "type": "Domain",
            "domainType": "PointSeries",
            "axes": {"t": {"values": TIMES}, "x": {"values": [5.1]}, "y": {"values": [52.1]}},
        },
        "ranges": {
            "T": {"type": "NdArray", "dataType": "float", "axisNames": list(names), "shape": shape, "values": values}
        },
        **more,
    }


@pytest.mark.parametrize("names", [("t", "y", "x"), ("x", "y", "t"), ("y", "t", "x"), ("t",)])
def test_any_order_of_axes_and_nulls(names: tuple[str, ...]) -> None:
    (series,) = parse(orjson.dumps(coverage([1, None, 2.5], names)), "x")
    assert (series.station, series.longitude, series.latitude) == ("a", 5.1, 52.1)
    assert series.table["T"].to_list() == [1.0, None, 2.5]
    assert series.table["timestamp"].dtype == pl.Datetime("us", "UTC")
    assert series.table["timestamp"][2].isoformat() == "2024-01-01T02:00:00+00:00"


def test_several_coverages_and_parameters_of_the_collection() -> None:
    other = coverage([4, 5, 6]) | {"eumetnet:locationId": "b"}
    document = {
        "type": "CoverageCollection",
        "parameters": {"T": {"unit": {"symbol": {"value": "Cel"}}}},
        "coverages": [coverage([1, 2, 3]), other],
    }
    found = parse(orjson.dumps(document), "x")
    assert [s.station for s in found] == ["a", "b"]
    assert [s.units["T"] for s in found] == ["Cel", "Cel"]
    assert found[1].table["T"].to_list() == [4, 5, 6]
    assert parse(b'{"type":"CoverageCollection","coverages":[]}', "x") == []


@pytest.mark.parametrize("option", [0, orjson.OPT_INDENT_2])
def test_read_fast_is_what_is_read_slowly(option: int) -> None:
    values = [-0.1, None, 1e-7]
    document = orjson.dumps({"type": "CoverageCollection", "coverages": [coverage(values)]}, option=option)
    found = outlined(document)
    assert found is not None
    assert found["coverages"][0]["ranges"]["T"]["values"].to_list() == values
    assert outlined(document.replace(b"-0.1", b'"a"')) is None
    assert outlined(document.replace(b"-0.1", b"true")) is None
    assert outlined(document[:-5]) is None


def test_times_in_other_forms_and_out_of_order() -> None:
    document = coverage([1, 2, 3])
    document["domain"]["axes"]["t"] = {
        "values": ["2024-01-01T03:00:00+01:00", "2024-01-01T00:00:00.000Z", "2024-01-01T01:00:00Z"]
    }
    (series,) = parse(orjson.dumps(document), "x")
    assert series.table["T"].to_list() == [2, 3, 1]


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(coverage([1, 2, 3]))
    place: Any = document
    *above, last = path.split(".")
    for part in above:
        place = place[part]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (changed("ranges.T.type", "TiledNdArray"), "x, coverage 1, T is tiled over other documents: expected NdArray"),
        (changed("ranges.T", "https://h/T.json"), "refers to its values"),
        (changed("ranges.T.dataType", "string"), "holds no numbers: expected NdArray of float or integer"),
        (changed("ranges.T.shape", [4, 1, 1]), r"not fit its domain: expected \[3, 1, 1\].*found shape \[4, 1, 1\]"),
        (changed("ranges.T.values", [1, 2]), "and 2 values"),
        (changed("ranges.T.values", [1, 2, "x"]), "no valid CoverageJSON"),
        (changed("domain", "https://h/domain.json"), "refers to its domain"),
        (changed("domain.axes.x", {"values": [1, 2]}), "more than a series at one place: expected .*, found 2 on x"),
        (changed("domain.axes.t", {"values": [*TIMES[:2], "noon"]}), "a time that is none: .*, found noon"),
        (changed("domain.axes.t", {"values": [TIMES[0]] * 3}), "has a time twice"),
        (changed("domain.axes", {"x": {"values": [1]}}), "has no time axis"),
        (changed("domain.axes.y", {"num": 3}), "axis y has no values: .*, found num$"),
        ({"type": "Domain"}, "expected Coverage or CoverageCollection, found Domain"),
        ({"type": "CoverageCollection"}, "a collection without coverages"),
        ([1], "found list"),
    ],
)  # fmt: skip
def test_what_it_is_not(document: Any, sentence: str) -> None:
    with pytest.raises(CorruptInput, match=sentence):
        parse(orjson.dumps(document), "x")


def test_what_is_cut_is_no_json() -> None:
    with pytest.raises(CorruptInput, match="x is not JSON"):
        parse(orjson.dumps(coverage([1, 2, 3]))[:-20], "x")


@pytest.mark.real
def test_real_series_are_those_of_the_file_they_come_from(shared: Path) -> None:
    """Against KNMI's own netCDF of the day, read by the netCDF library."""
    import netCDF4

    found = parse((shared / "data/edr_knmi/derived_locations_20221231.covjson").read_bytes(), "day")
    assert len(found) == 4
    with netCDF4.Dataset(shared / "data/knmi_obs/20221231.nc") as day:
        stations = [str(s) for s in day["station"][:]]
        for series in found:
            row = next(
                i for i, s in enumerate(stations) if s in (series.station or "") or (series.station or "").endswith(s)
            )
            for name in series.units:
                expected = np.ma.filled(day[name][row], np.nan).astype("float64")
                np.testing.assert_allclose(series.table[name].to_numpy(), expected, atol=6e-4)


@pytest.mark.real
def test_documents_of_others(shared: Path) -> None:
    """Each is read as a series, or refused with one sentence; never anything else."""
    outcomes = {}
    for path in sorted((shared / "data/covjson").glob("*json")):
        try:
            outcomes[path.name] = len(parse(path.read_bytes(), path.name))
        except CorruptInput as error:
            outcomes[path.name] = str(error)
    assert outcomes["coverage-json.json"] == 1
    assert all(name in said for name, said in outcomes.items() if isinstance(said, str))
    assert "21 on z" in outcomes["spec-vertical-profile-coverage.json"]
    assert "no CoverageJSON with data" in outcomes["spec-tiled-ndarray.json"]


def frame(**columns: list[Any]) -> pl.DataFrame:
    times = pl.Series("timestamp", columns.pop("t")).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"timestamp": times, **{k: pl.Series(v, dtype=pl.Float64) for k, v in columns.items()}})


def test_later_answers_stand_above_earlier_ones() -> None:
    first = frame(t=[1, 2, 3], T=[1, 2, 3], U=[7, 8, 9])
    corrected = frame(t=[2, 3], T=[20, None], U=[80, 90])
    more = frame(t=[3, 4], V=[5, 6])
    result = tables.merged([first, corrected, more])
    assert result.drop("timestamp").rows() == [(1, 7, None), (20, 80, None), (None, 90, 5), (None, None, 6)]
    assert result.columns == ["timestamp", "T", "U", "V"]
    other = tables.merged([first, frame(t=[2], T=[None], V=[1])])
    assert other.drop("timestamp").rows() == [(1, 7, None), (None, 8, 1), (3, 9, None)]
    assert tables.merged([]).is_empty()
    assert tables.write(result) == tables.write(result)
