"""The whole of it as a user runs it: five phases from the command line, and what comes out read by others."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from covjson_pydantic.coverage import Coverage

from tasks.lake.lake import Lake
from tasks.stations import tables
from tasks.stations.schema import silver_schema

from ..flows.running import PLAIN, Ran, environment, run
from .edr_server import KEY, PARAMETERS, Edr, Place, places, serve, weather

ROOT = Path(__file__).resolve().parents[2]
GAP = (500, 530)


def gappy(place: Place, parameter: str, times: np.ndarray) -> np.ndarray:
    """Weather with nulls in one stretch of one station's temperature, and a broken sensor in another's."""
    values = weather(place, parameter, times).copy()
    hours = (times - np.datetime64("2023-01-01T00", "s")).astype("int64") // 3600
    if parameter == "T" and place.id.endswith("01"):
        values[(hours >= GAP[0]) & (hours < GAP[1])] = np.nan
    if parameter == "U" and place.id.endswith("02"):
        values[:] = np.where(hours % 2 == 0, 500.0, 80.0)
    return values


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edr, Path, Ran]]:
    """A lake with a year of five stations in it, the server, and what the command printed."""
    lake = tmp_path_factory.mktemp("stations") / "lake"
    listed = places(5)
    # One station says what it measures, and that is not everything.
    few = tuple(p for p in PARAMETERS if p not in ("Q", "SQ"))
    listed[3] = Place(listed[3].id, "DE BILT AWS", listed[3].longitude, listed[3].latitude, 2.0, few)
    with serve(listed, data=gappy) as server:
        grid = "[{name: nl, of: daily, spacing: 0.25, bbox: [3, 51, 6, 52], variables: [temperature], method: nearest}]"
        ran = run(
            "pipeline",
            "knmi-hourly",
            *arguments(server, lake),
            "--set",
            f"grids={grid}",
            env=environment(KNMI_API_KEY=KEY),
        )
        yield server, lake, ran


def arguments(server: Edr, lake: Path) -> list[str]:
    return ["--years", "2023", "--lake", str(lake), "--set", f"source.url={server.url}", "--json", *PLAIN]


def test_all_five_phases(made: tuple[Edr, Path, Ran]) -> None:
    _, lake, ran = made
    assert ran.code == 0, ran.out + ran.err
    assert ran.counts("done")["refine"] == 5
    assert ran.counts("done")["validate"] == 4
    assert ran.counts("rejected")["validate"] == 1
    verdict = json.loads((lake / "verdicts/knmi-hourly/2023/verdicts.json").read_text())
    held = [s for s in verdict["stations"] if not s["published"]]
    assert [(s["station_id"], s["verdict"]) for s in held] == [("0-20000-0-06202", "quarantined")]
    assert not (lake / "silver/knmi-hourly/station_id=0-20000-0-06202").exists()
    assert (lake / "quarantine/knmi-hourly/station_id=0-20000-0-06202/year=2023/part.parquet").exists()
    assert (lake / "gridded/knmi-hourly/nl/2023.nc").stat().st_size > 1000
    assert KEY not in ran.out + ran.err


def test_the_silver_table(made: tuple[Edr, Path, Ran]) -> None:
    server, lake, _ = made
    objects = Lake(str(lake)).objects
    found = [tables.read(objects, m.key) for m in objects.listing("silver")]
    assert len(found) == 4
    for table in found:
        assert dict(table.schema) == silver_schema()
        assert table["timestamp"].is_sorted()
        assert not table["timestamp"].is_duplicated().any()
        assert table["quality_score"].is_between(0.7, 1.0).all()
    times = np.arange("2023-01-01T00", "2024-01-01T00", dtype="datetime64[h]").astype("datetime64[s]")
    np.testing.assert_array_equal(found[0]["wind_gust"].to_numpy(), weather(server.places[0], "FX", times))


def test_a_second_run_has_nothing_to_do(made: tuple[Edr, Path, Ran]) -> None:
    server, lake, _ = made
    before = len(server.answers)
    grid = "[{name: nl, of: daily, spacing: 0.25, bbox: [3, 51, 6, 52], variables: [temperature], method: nearest}]"
    again = run(
        "pipeline", "knmi-hourly", *arguments(server, lake), "--set", f"grids={grid}", env=environment(KNMI_API_KEY=KEY)
    )
    assert (again.code, again.json["status"]) == (0, "nothing to do"), again.out
    assert len(server.answers) == before


def test_the_gap_report_says_why(made: tuple[Edr, Path, Ran]) -> None:
    _, lake, _ = made
    rows = pl.read_csv(lake / "exports/knmi-hourly/2023/gaps/gaps.csv")
    nulls = rows.filter(pl.col("reason") == "no value")
    assert nulls.rows() == [
        ("0-20000-0-06201", "temperature", "2023-01-21T20:00:00Z", "2023-01-23T01:00:00Z", GAP[1] - GAP[0], "no value")
    ]
    assert set(rows.filter(pl.col("station_id") == "0-20000-0-06203").select("column", "reason").rows()) == {
        ("sunshine_duration", "not measured"), ("radiation", "not measured"),
    }  # fmt: skip
    assert set(rows.filter(pl.col("station_id") == "0-20000-0-06202")["reason"]) == {"quarantined"}
    summary = json.loads((lake / "exports/knmi-hourly/2023/gaps/summary.json").read_text())
    assert "humidity range" in summary["held"]["0-20000-0-06202"]
    assert summary["expected_per_column"] == 8760


def test_coveragejson_is_valid_and_says_the_same(made: tuple[Edr, Path, Ran]) -> None:
    """Validated by covjson-pydantic, which is not ours."""
    _, lake, _ = made
    path = lake / "exports/knmi-hourly/2023/coveragejson/0-20000-0-06201-2023.covjson"
    document = Coverage.model_validate_json(path.read_bytes())
    assert len(document.domain.axes.t.values) == 8760  # type: ignore[union-attr]
    values = document.ranges["temperature"].values  # type: ignore[union-attr]
    table = pl.read_parquet(lake / "silver/knmi-hourly/station_id=0-20000-0-06201/year=2023/part.parquet")
    assert list(values) == table["temperature"].to_list()
    assert values[GAP[0]] is None


def test_csv_and_one_parquet_file(made: tuple[Edr, Path, Ran]) -> None:
    _, lake, _ = made
    rows = pl.read_csv(lake / "exports/knmi-hourly/2023/csv/0-20000-0-06200-2023.csv")
    assert rows.height == 8760
    assert rows.columns[:4] == ["timestamp", "station_id", "temperature", "temperature_flag"]
    whole = pl.read_parquet(lake / "exports/knmi-hourly/2023/silver/knmi-hourly-2023.parquet")
    assert whole.height == 4 * 8760
    assert whole.select("timestamp", "station_id").is_duplicated().sum() == 0
    assert whole["timestamp"].is_sorted()


def test_a_chart_for_every_published_station(made: tuple[Edr, Path, Ran]) -> None:
    from matplotlib.image import imread

    _, lake, _ = made
    charts = sorted((lake / "exports/knmi-hourly/2023/charts").glob("*.png"))
    assert len(charts) == 4
    picture = imread(charts[0])
    # Lines were drawn: the colour of the data is there.
    blue = np.abs(picture[..., :3] - np.array([0x2B, 0x6C, 0xB0]) / 255).max(axis=-1) < 0.02
    assert blue.sum() > 5000


def examples() -> list[tuple[str, str]]:
    """The Python blocks of the page, each with its first line as its name."""
    text = (ROOT / "docs" / "stations.md").read_text()
    return [(b.splitlines()[0], b) for b in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize(("name", "code"), examples(), ids=lambda v: v[:40])
def test_the_examples_of_the_page(made: tuple[Edr, Path, Ran], name: str, code: str) -> None:
    _, lake, _ = made
    code = code.replace("./lake", str(lake)).replace("2024", "2023").replace("06260", "06200")
    place: dict[str, Any] = {}
    exec(compile(code, name, "exec"), place)
    assert len(place["rows"]) > 0


def test_the_page_has_the_schema() -> None:
    text = (ROOT / "docs" / "stations.md").read_text()
    for name in silver_schema():
        assert f"| `{name}` |" in text, name


def test_duckdb_and_polars_see_the_same(made: tuple[Edr, Path, Ran]) -> None:
    _, lake, _ = made
    pattern = f"{lake}/silver/knmi-hourly/**/*.parquet"
    counted = "select station_id, year, count(*) n, avg(temperature) t"
    source = f"read_parquet('{pattern}', hive_partitioning = true)"
    one = duckdb.sql(f"{counted} from {source} group by all order by 1").fetchall()
    two = (
        pl.scan_parquet(pattern, hive_partitioning=True)
        .group_by("station_id", "year")
        .agg(pl.len().alias("n"), pl.col("temperature").mean().alias("t"))
        .sort("station_id")
        .collect()
    )
    assert [r[:3] for r in one] == [r[:3] for r in two.rows()]
    assert [r[3] for r in one] == pytest.approx(two["t"].to_list())


def test_commands_that_are_wrong(tmp_path: Path) -> None:
    with serve(1) as server:
        base = ["--lake", str(tmp_path / "lake"), "--set", f"source.url={server.url}", *PLAIN]
        for more, code, sentence in (
            (["--start", "2023-01-01", "--end", "2022-01-01"], 2, "ends before it starts"),
            (["--station", "06999"], 2, "there is no station '06999'"),
        ):
            ran = run("ingest", "knmi-hourly", *more, *base, env=environment(KNMI_API_KEY=KEY))
            assert ran.code == code, ran.err
            assert ran.err.count("error:") == 1
            assert sentence in ran.err
        ran = run("ingest", "knmi-hourly", *base, env=environment(KNMI_API_KEY="planted-wrong"))
        assert ran.code == 1
        assert "answered 403" in ran.err
        assert "planted" not in ran.err + ran.out
