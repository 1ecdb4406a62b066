"""What every source owes its callers. A new source adds a line to ``FIXTURES``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from tasks.forecasts.manifest import SCHEMA
from tasks.forecasts.sources.source import Source, SourceFile, sources
from tasks.lake.errors import CorruptInput, LakeError
from tasks.lake.objects import locate

RUN = datetime(2026, 11, 20, tzinfo=UTC)
RUNS = [RUN + timedelta(hours=h) for h in (0, 6, 12, 18)]

Index = Callable[[datetime, SourceFile], tuple[bytes, int]]
"""Writes an index of a file, with the size its GRIB file has."""


def ecmwf(run: datetime, file: SourceFile) -> tuple[bytes, int]:
    """Two fields as ECMWF's index has them: a control or a single run, and a perturbed member."""
    base = {
        "date": f"{run:%Y%m%d}", "time": f"{run:%H%M}", "step": str(file.step), "levtype": "sfc", "param": "2t",
        "_length": 50,
    }  # fmt: skip
    lines = [base | {"type": "cf", "_offset": 50}, base | {"type": "pf", "number": "1", "_offset": 0}]
    return b"".join(orjson.dumps(entry) + b"\n" for entry in lines), 100


def noaa(run: datetime, file: SourceFile) -> tuple[bytes, int]:
    """Two fields as NOAA's index has them."""
    window = f"{file.step} hour fcst" if file.step else "anl"
    lines = (f"{n}:{n * 50 - 50}:d={run:%Y%m%d%H}:TMP:{n} mb:{window}:\n" for n in (1, 2))
    return "".join(lines).encode(), 100


@dataclass(frozen=True)
class Fixture:
    """A source as a recipe writes it, how its index is written, and a run before its first (None: any run exists)."""

    config: dict
    index: Index
    too_early: datetime | None


FIXTURES = {
    "ecmwf": Fixture({"stream": "enfo"}, ecmwf, datetime(2022, 1, 1, tzinfo=UTC)),
    "gfs": Fixture({}, noaa, datetime(2020, 1, 1, tzinfo=UTC)),
    "gefs": Fixture({}, noaa, datetime(2020, 1, 1, tzinfo=UTC)),
    "hrrr": Fixture({}, noaa, datetime(2017, 1, 1, tzinfo=UTC)),
    "folder": Fixture(
        {"root": "archive", "pattern": "{init:%Y%m%d%H}/f{step:03d}", "index": "noaa", "steps": [0, 3, 6]}, noaa, None
    ),
    "demo": Fixture({}, ecmwf, None),
}

ALL = list(sources)


@pytest.fixture(params=ALL)
def fixture(request: pytest.FixtureRequest) -> Fixture:
    if request.param not in FIXTURES:
        pytest.fail(f"source {request.param!r} has no entry in FIXTURES of {__name__}")
    found = FIXTURES[request.param]
    return Fixture({"type": request.param} | found.config, found.index, found.too_early)


@pytest.fixture
def source(fixture: Fixture) -> Source:
    return sources.build(fixture.config)


def root_of(source: Source) -> str:
    return source.roots()[0] if source.roots() else "file:///archive"


def files(source: Source, run: datetime, steps: int | None = None) -> Iterator[SourceFile]:
    """Files of the first steps of a run, all of them by default."""
    for step in source.steps(run)[:steps]:
        yield from source.files(root_of(source), run, step)


def test_it_reads_back_what_it_writes_of_itself(source: Source):
    assert sources.build(source.model_dump()) == source
    assert sources.build(source.model_dump(mode="json")) == source


def test_an_unknown_key_is_refused(fixture: Fixture):
    with pytest.raises(ValueError, match="nosuch"):
        sources.build(fixture.config | {"nosuch": 1})


def test_roots_are_urls_that_the_objects_layer_knows(source: Source):
    for root in source.roots():
        assert "://" in root
        assert locate(root).prefix == locate(root).prefix.strip("/") or locate(root).is_local


@pytest.mark.parametrize("run", RUNS, ids=lambda r: f"{r:%H}")
def test_steps_are_sorted_and_members_begin_with_the_control(source: Source, run: datetime):
    steps = source.steps(run)
    assert steps
    assert list(steps) == sorted(set(steps))
    assert min(steps) >= 0
    members = source.members(run)
    assert members is None or list(members) == list(range(len(members)))


@pytest.mark.parametrize("run", RUNS, ids=lambda r: f"{r:%H}")
def test_every_file_is_named_once_and_relative_to_its_root(source: Source, run: datetime):
    found = list(files(source, run))
    keys = [f.url for f in found] + [f.index_url for f in found if f.index_url]
    assert len(keys) == len(set(keys))
    for key in keys:
        assert "://" not in key
        assert "?" not in key
        assert not key.startswith("/")
    assert {f.step for f in found} == set(source.steps(run))
    assert {f.member for f in found} - {None} <= set(source.members(run) or ())


def test_runs_share_no_file(source: Source):
    first, second = ({f.url for f in files(source, run, 2)} for run in RUNS[:2])
    assert first.isdisjoint(second)


def test_the_same_question_has_the_same_answer(source: Source):
    assert list(files(source, RUN, 2)) == list(files(source, RUN, 2))


def test_later_steps_are_not_there_earlier(source: Source):
    delays = [source.latency(step) for step in source.steps(RUN)]
    assert delays == sorted(delays)
    assert min(delays) >= 0


def test_there_is_no_run_before_the_first(fixture: Fixture, source: Source):
    if fixture.too_early is not None:
        with pytest.raises(LakeError, match=f"or later.*{fixture.too_early:%Y-%m-%d}"):
            source.steps(fixture.too_early)


def test_an_index_becomes_a_table_of_its_file(fixture: Fixture, source: Source):
    for file in files(source, RUN, 2):
        index, size = fixture.index(RUN, file)
        table = source.parse(file, RUN, index, size)
        assert table.schema == SCHEMA
        assert table.num_rows == 2
        assert table["url"].to_pylist() == [file.url] * 2
        assert set(table["lead_time"].to_pylist()) == {timedelta(hours=file.step)}
        assert (table["offset"].to_numpy() + table["length"].to_numpy() <= size).all()


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b"", lambda b: b[:-15], lambda b: b"<html>Slow Down</html>", lambda b: b"\x00" * 100],
    ids=["empty", "truncated", "web page", "zeros"],
)
def test_a_spoilt_index_is_one_sentence(fixture: Fixture, source: Source, spoil: Callable[[bytes], bytes]):
    file = next(files(source, RUN))
    index, size = fixture.index(RUN, file)
    with pytest.raises(CorruptInput) as caught:
        source.parse(file, RUN, spoil(index), size)
    assert str(file.index_url) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stale_index_is_refused(fixture: Fixture, source: Source):
    first, *_ = files(source, RUN)
    later = next(f for f in files(source, RUN) if f.step != first.step)
    for index, size in (fixture.index(RUNS[1], first), fixture.index(RUN, later)):
        with pytest.raises(CorruptInput, match=r"another (run|step)"):
            source.parse(first, RUN, index, size)


def test_an_index_reaching_beyond_its_file_is_refused(fixture: Fixture, source: Source):
    file = next(files(source, RUN))
    index, size = fixture.index(RUN, file)
    with pytest.raises(CorruptInput, match="beyond the end"):
        source.parse(file, RUN, index, size // 2)


def test_a_generator_makes_the_files_it_names(source: Source):
    if source.roots():
        assert list(source.generate(RUN)) == []
        return
    made = {key for key, _ in source.generate(RUN)}
    assert made >= {key for f in files(source, RUN) for key in (f.url, f.index_url) if key}


def test_no_source_reaches_for_the_network_or_the_disk(source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import socket

    def refuse(*args: object) -> None:
        raise AssertionError("a source must not open connections")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.chdir(tmp_path)
    source.roots()
    list(files(source, RUN, 1))
    assert not list(tmp_path.iterdir())
