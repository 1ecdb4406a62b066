"""Ingest against a server that enforces the provider's limits and misbehaves: all of it, once, within the quota."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.lake.errors import AccessError, ExitCode, UsageError
from tasks.lake.lake import Lake
from tasks.lake.ledger import State
from tasks.lake.phase import Window
from tasks.lake.quota import Quota
from tasks.lake.rate import Rate
from tasks.stations import catalogue, raw, tables
from tasks.stations.pace import Pace

from ..flows.running import PLAIN, environment, run, start
from .conftest import Site
from .edr_server import KEY, Edr, Place, weather

YEAR = {"select.years": [2023]}


def arrived(site: Site, year: int = 2023) -> pl.DataFrame:
    """Every refined row of a year."""
    return pl.concat(
        tables.read(Lake(site.url).objects, m.key).select(
            pl.lit(m.key.split("/")[2]).alias("station"), "timestamp", "T"
        )
        for m in Lake(site.url).objects.listing(f"refined/{site.recipe}")
        if f"year={year}" in m.key
    )


def assert_all_there(site: Site, year: int = 2023) -> None:
    """Every row of every station exactly once, with the server's value."""
    rows = arrived(site, year)
    times = np.arange(f"{year}-01-01T00", f"{year + 1}-01-01T00", dtype="datetime64[h]").astype("datetime64[s]")
    assert rows.height == len(site.server.places) * len(times)
    assert rows.unique(["station", "timestamp"]).height == rows.height
    for place in site.server.places:
        mine = rows.filter(pl.col("station") == f"station_id={place.id}").sort("timestamp")
        np.testing.assert_array_equal(mine["T"].to_numpy(), weather(place, "T", times))


def test_everything_arrives_once_whatever_the_server_does(site: Callable[..., Site]) -> None:
    here = site(
        6, settings=YEAR | {"source.points": 60_000, "source.windows": [{"requests": 100, "seconds": 10}]},
        window=(100, 10), error_rate=0.15, truncate_rate=0.2, latency=0.01,
    )  # fmt: skip
    reports = here.run("ingest", "refine")
    assert [r.exit_code for r in reports] == [0, 0], [r.problems for r in reports]
    statuses = Counter(here.server.statuses())
    assert statuses[503] > 0
    assert any(not a.whole for a in here.server.answers)
    assert statuses[429] == 0
    cells = Counter(here.server.cells())
    assert set(cells.values()) == {1}
    assert_all_there(here)


def test_a_429_is_waited_for_and_not_looped_through(site: Callable[..., Site]) -> None:
    """Somebody else uses the same key: the provider's window is smaller than what the recipe says."""
    here = site(3, settings=YEAR | {"source.points": 40_000}, window=(5, 2.5))
    (report,) = here.run("ingest")
    assert report.exit_code == 0, report.problems
    answered = here.server.answers
    refused = [a for a in answered if a.status == 429]
    assert refused
    assert Counter(here.server.cells()).most_common(1)[0][1] == 1
    # After a refusal all wait: what was under way comes back refused too, and nothing else is sent until Retry-After
    # is over. (The server's clock: a second at least.)
    first = refused[0].at
    assert not [a for a in answered if first + 0.5 < a.at < first + 0.9]
    assert len(refused) < len(answered)


def test_too_many_points_are_split_and_the_limit_is_remembered(site: Callable[..., Site]) -> None:
    here = site(3, settings=YEAR, points=100_000)
    reports = here.run("ingest", "refine")
    assert [r.exit_code for r in reports] == [0, 0], [r.problems for r in reports]
    assert 413 in here.server.statuses()
    assert_all_there(here)
    assert set(Counter(here.server.cells()).values()) == {1}
    # What was learnt is used: three quarters of what was refused, until it fits.
    for years in ([2022], [2021]):
        here.server.answers.clear()
        assert here.run("ingest", select__years=years)[0].exit_code == 0
    assert set(here.server.statuses()) == {200}


@pytest.mark.slow
def test_more_requests_than_an_hour_permits(site: Callable[..., Site]) -> None:
    """An hour of 10 seconds with 20 requests; two flows, 34 requests: hardly anybody is refused, and nobody dawdles.

    Of an hour the slack between taking a token and asking is 36 s; of these 10 s it is 0.1: a busy machine may miss it.
    """
    here = site(
        6, settings=YEAR | {"source.points": 30_000, "source.windows": [{"requests": 20, "seconds": 10}]},
        window=(20, 10), latency=0.01,
    )  # fmt: skip
    reports = []
    threads = [threading.Thread(target=lambda: reports.extend(here.run("ingest"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.exit_code for r in reports] == [0, 0], [r.problems for r in reports]
    assert set(here.server.statuses()) <= {200, 429}
    assert here.server.statuses().count(429) <= 2
    assert set(Counter(here.server.cells()).values()) == {1}
    times = [a.at for a in here.server.answers if a.status == 200]
    assert 34 <= len(times) <= 36
    # The first window is used to the full, and the rest goes only when its tokens are back.
    assert times[20] - times[0] >= 10


def test_a_provider_of_one_station_at_a_time(site: Callable[..., Site]) -> None:
    here = site(4, settings=YEAR, several=False)
    reports = here.run("ingest", "refine")
    assert [r.exit_code for r in reports] == [0, 0]
    assert_all_there(here)
    tried = here.server.statuses().count(400)
    assert 0 < tried <= 2
    here.server.answers.clear()
    assert here.run("ingest", select__years=[2022])[0].exit_code == 0
    assert here.server.statuses() == [200] * 4


def test_a_second_run_asks_nothing_and_more_asks_for_more_only(site: Callable[..., Site]) -> None:
    here = site(3, settings=YEAR | {"select.stations": ["06200"]})
    here.run("ingest")
    asked = here.server.asked
    assert here.run("ingest")[0].status == "nothing to do"
    assert here.server.asked == asked
    here.server.answers.clear()
    assert here.run("ingest", select__years=[2022, 2023], select__stations=["all"])[0].exit_code == 0
    cells = Counter((s, a.first[:4], a.last[:4]) for a in here.server.answers for s in a.stations)
    assert cells == {
        ("0-20000-0-06200", "2022", "2022"): 1,
        ("0-20000-0-06201", "2022", "2023"): 1,
        ("0-20000-0-06202", "2022", "2023"): 1,
    }


def test_a_correction_is_a_new_version_and_only_what_depends_on_it_is_stale(site: Callable[..., Site]) -> None:
    corrected: set[str] = set()

    def data(place: Place, parameter: str, times: np.ndarray) -> np.ndarray:
        values = weather(place, parameter, times)
        if place.id in corrected and parameter == "T":
            values = values.copy()
            values[100] += 0.5
        return values

    # One station a request, and stations far from each other: no neighbours.
    here = site(3, settings=YEAR | {"source.several": False, "checks.neighbours": None, "exports": []}, data=data)
    assert here.run()[-1].exit_code == 0
    objects = Lake(here.url).objects
    corrected.add("0-20000-0-06201")
    assert here.run("ingest", force=True)[0].exit_code == 0
    folders = {m.key.rpartition("/")[0] for m in objects.listing("raw")}
    counts = {f.split("/")[2].split("-8760-")[1][:15]: len(raw.versions(objects, f)) for f in folders}
    assert counts == {"0-20000-0-06200": 1, "0-20000-0-06201": 2, "0-20000-0-06202": 1}
    for phase in ("refine", "validate", "regrid"):
        states = {r.partition.key.rpartition("/")[2]: r.state for r in here.plan(phase).rows}
        assert states == {
            "0-20000-0-06200": State.DONE, "0-20000-0-06201": State.STALE, "0-20000-0-06202": State.DONE,
        }  # fmt: skip
        assert here.run(phase)[0].partitions["done"] == 1
    row = arrived(here).filter(pl.col("station") == "station_id=0-20000-0-06201")["T"][100]
    times = np.array(["2023-01-05T04:00:00"], dtype="datetime64[s]")
    assert row == weather(here.server.places[1], "T", times)[0] + 0.5


def test_the_running_month_is_never_finished(site: Callable[..., Site]) -> None:
    now = datetime.now(UTC)
    settings = {"select.start": f"{now.year - 1}-12-01T00:00:00Z", "source.refresh": 1.0}
    here = site(2, settings=settings)
    assert here.run("ingest")[0].exit_code == 0
    first = here.server.answers[:]
    opened = [a for a in first if a.first == f"{now:%Y-%m}-01T00:00:00Z"]
    assert len(opened) == 1
    time.sleep(1.1)
    here.server.answers.clear()
    report = here.run("ingest")[0]
    assert report.partitions["skipped"] == len(first) - 1
    assert [a.first for a in here.server.answers] == [opened[0].first]
    # The same answer again is the same version; a longer one replaces it, and only the last ones are kept.
    folders = {m.key.rpartition("/")[0] for m in Lake(here.url).objects.listing("raw") if "/open-" in m.key}
    assert len(folders) == 1
    assert len(raw.versions(Lake(here.url).objects, folders.pop())) <= 3


def test_two_flows_share_requests_and_quota(site: Callable[..., Site]) -> None:
    here = site(
        4, settings=YEAR | {"source.points": 30_000, "source.windows": [{"requests": 30, "seconds": 10}]},
        window=(30, 10), latency=0.02,
    )  # fmt: skip
    reports = []
    threads = [threading.Thread(target=lambda: reports.extend(here.run("ingest"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.exit_code for r in reports] == [0, 0], [r.problems for r in reports]
    assert set(Counter(here.server.cells()).values()) == {1}
    assert 429 not in here.server.statuses()


@pytest.mark.parametrize(
    ("settings", "kind", "sentence"),
    [
        ({"select.stations": ["06999"]}, UsageError, r"no station '06999' in hourly-.*, which has 3, such as"),
        ({"select.parameters": ["T", "XX"]}, UsageError, r"no parameter 'XX' in hourly-.*; there are: T, TD"),
        ({"source.collection": "hourly"}, UsageError, r"no collection 'hourly'; there are: hourly-in"),
        ({"source.key": "env:NOT_SET_ANYWHERE"}, AccessError, r"env:NOT_SET_ANYWHERE is not set"),
        ({"source.key": "env:WRONG_KEY"}, AccessError, r"/collections answered 403: .*\(asked with env:WRONG_KEY\)"),
    ],
)
def test_what_is_wrong_is_said_before_any_request_for_data(
    site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, settings: dict, kind: type[Exception], sentence: str
) -> None:
    monkeypatch.setenv("WRONG_KEY", "planted-wrong-key")
    here = site(3, settings=YEAR | settings)
    with pytest.raises(kind, match=sentence) as caught:
        here.run("ingest")
    assert "planted" not in str(caught.value)
    assert here.server.answers == []


def test_spans_that_cannot_be(site: Callable[..., Site]) -> None:
    here = site(1)
    early, late = (datetime(y, 1, 1, tzinfo=UTC) for y in (2022, 2023))
    with pytest.raises(UsageError, match=r"ends before it starts: expected an end not before 2023-01-01T00:00Z"):
        here.run("ingest", window=Window(start=late, end=early))
    with pytest.raises(UsageError, match="have no runs"):
        here.run("ingest", window=Window(run=early))
    with pytest.raises(UsageError, match="lies in the future"):
        here.run("ingest", window=Window(start=datetime(2199, 1, 1, tzinfo=UTC), end=datetime(2199, 2, 1, tzinfo=UTC)))


def test_a_bad_query_is_never_sent_again(site: Callable[..., Site]) -> None:
    here = site(1, settings=YEAR)
    here.run("ingest")
    # The provider takes a parameter out of its collection, and the catalogue is of this morning.
    here.server.parameters = {k: v for k, v in here.server.parameters.items() if k != "T"}
    here.server.answers.clear()
    (report,) = here.run("ingest", select__years=[2022])
    assert report.exit_code == ExitCode.FAILED
    assert here.server.statuses() == [400]
    assert 'answered 400: {"message":"bad query"}' in report.problems[0]


def test_a_corrupt_raw_file_stops_what_needs_it_and_nothing_else(site: Callable[..., Site]) -> None:
    here = site(3, settings=YEAR | {"source.several": False})
    here.run("ingest")
    objects = Lake(here.url).objects
    key = next(m.key for m in objects.listing("raw") if "06201" in m.key)
    objects.put(key, objects.get(key)[:-100])
    (report,) = here.run("refine")
    assert (report.partitions["done"], report.partitions["failed"]) == (2, 1)
    assert report.exit_code == ExitCode.FAILED
    assert key in report.problems[0]
    assert "delete it, and ingest fetches it again" in report.problems[0]
    objects.delete(key)
    here.server.answers.clear()
    assert here.run("ingest", "refine")[-1].exit_code == 0
    assert [a.stations for a in here.server.answers] == [("0-20000-0-06201",)]
    assert_all_there(here)


def test_the_key_is_nowhere(site: Callable[..., Site]) -> None:
    here = site(2, settings=YEAR, error_rate=0.2)
    here.run()
    for meta in Lake(here.url).objects.listing():
        assert KEY.encode() not in Lake(here.url).objects.get(meta.key), meta.key


def test_the_catalogue_as_the_provider_gives_it(site: Callable[..., Site]) -> None:
    here = site(12, settings=YEAR)
    here.run("ingest")
    found = catalogue.stored(Lake(here.url), here.loaded())
    assert found.station("06203") == found.station("0-20000-0-06203")
    assert found.station("06203").longitude == here.server.places[3].longitude
    assert found.parameters["T"] == "degrees Celsius"
    assert found.start == datetime(1990, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("capacity", "low", "high"), [(3, 1, 7), (200, 9, 32)])
def test_concurrency_finds_what_the_server_sustains(
    edr: Callable[..., Edr], tmp_path: Path, capacity: int, low: int, high: int
) -> None:
    from tasks.lake.http import Http

    server = edr(1, latency=0.04, capacity=capacity)
    pace = Pace(Quota(Lake(str(tmp_path)).objects, "q", [Rate(10**6, 3600)]), start=10, most=32)
    path = f"collections/{server.collection}/locations/{server.places[0].id}"
    query = {"datetime": "2020-01-01T00:00:00Z/2020-01-01T02:00:00Z", "parameter-name": "T"}
    with Http(server.url, headers={"Authorization": KEY}, limit=pace) as http, pace.used():
        limits: list[int] = []

        def work() -> None:
            for _ in range(12):
                http.get(path, **query)
                limits.append(pace.limit)

        threads = [threading.Thread(target=work) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert low <= float(np.median(limits[-200:])) <= high
    assert server.most_under_way <= 32
    # It is left for those who come next.
    assert Pace(Quota(Lake(str(tmp_path)).objects, "q", [Rate(10**6, 3600)]), start=10, most=32).limit == pace.limit


@pytest.mark.fault
def test_killed_at_random_it_repeats_no_finished_request(site: Callable[..., Site]) -> None:
    here = site(6, settings=YEAR, latency=0.15)
    dice = random.Random(7)
    arguments = [
        here.recipe, "--years", "2023", "--lake", here.url, "--set", f"source.url={here.server.url}",
        "--set", "source.points=12000", *PLAIN, "--json",
    ]  # fmt: skip
    kills, repeated = 0, 0
    for _ in range(6):
        finished = {r.partition for r in here.context.ledger.read_all("ingest").values() if r.status == "done"}
        before = len(here.server.answers)
        process = start("ingest", *arguments, env=environment(KNMI_API_KEY=KEY))
        while process.poll() is None and len(here.server.answers) < before + dice.randint(5, 25):
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        assert finished <= {r.partition for r in here.context.ledger.read_all("ingest").values() if r.status == "done"}
    ran = run("ingest", *arguments, env=environment(KNMI_API_KEY=KEY))
    assert ran.code == 0, ran.out + ran.err
    assert kills >= 3
    repeated = sum(n - 1 for n in Counter(here.server.cells()).values())
    # Only what was under way at a kill may be asked for again: no more than its requests at once.
    assert repeated <= kills * 10 * 6
    done = [r for r in here.context.ledger.read_all("ingest").values() if r.status == "done"]
    assert all(r.attempt - len([a for a in r.history if a.status != "done"]) == 1 for r in done)
    assert here.run("refine", source__points=12000)[0].exit_code == 0
    assert_all_there(here)
