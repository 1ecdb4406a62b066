"""Ingest of a run: preflight, drift, copies, mirrors, and every trap and fault that is known, each by its name."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.executor import Threads
from tasks.forecasts import contents, drift, mirrors, template
from tasks.forecasts.archive import Archive
from tasks.forecasts.decode import header
from tasks.forecasts.ingest import Ingest, manifest_keys, read_manifests
from tasks.forecasts.message import without_data
from tasks.forecasts.mirrors import Health, preferred
from tasks.forecasts.select import rows_of
from tasks.forecasts.stock import versions_now
from tasks.grids.from_grib import from_grib
from tasks.lake import recipe as recipes
from tasks.lake.errors import CorruptInput, ExitCode, NotThereYet, Overloaded
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.plan import Options
from tasks.report import Report
from tasks.runner import run_phase, wait_for

from .. import full_ensemble
from ..s3_archive import counts, serving
from .encoding import encode, field

RUN = datetime(2026, 11, 20, tzinfo=UTC)
STEPS, MEMBERS = (0, 3, 6, 9, 12, 15), (0, 1, 2)
BUCKET = "ecmwf-forecasts"
LENGTH = 4_000
"""Bytes of a message: copies of these files are not sparse."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the provider has of two runs; tests change copies of it."""
    folder = tmp_path_factory.mktemp("provider") / BUCKET
    for run in (RUN, RUN + timedelta(hours=6)):
        full_ensemble.write(folder, run, STEPS, MEMBERS, LENGTH)
    return folder


@pytest.fixture(autouse=True)
def short_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The messages of these files are small, and only their headers are real."""
    monkeypatch.setattr(template, "_HEADER_BYTES", 1000)


@pytest.fixture
def archive(provider: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(provider, tmp_path / "provider" / BUCKET, copy_function=shutil.copy2))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def executor() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.close()


def recipe(*roots: str, **more: Any) -> Any:
    document = orjson.loads(full_ensemble.recipe("http://127.0.0.1:1", RUN))
    document["source"]["mirrors"] = list(roots)
    document["runs"] |= {"every": 6} | more.pop("runs", {})
    document["select"] |= {"members": list(MEMBERS), "steps": list(STEPS)}
    return recipes.parse(document | more)


@pytest.fixture
def ingest(archive: Path, lake: Lake, executor: Threads) -> Callable[..., Report]:
    """Run the phase on a recipe, by default on the archive in its folder."""

    def go(made: Any = None, run: datetime = RUN, **options: Any) -> Report:
        made = made or recipe(archive.as_uri())
        return run_phase(lake, made, "ingest", Window(run=run), Options(**options), executor)

    return go


def file_of(archive: Path, step: int, suffix: str, stream: str = "enfo", run: datetime = RUN) -> Path:
    (found,) = archive.glob(f"{run:%Y%m%d}/{run:%H}z/ifs/0p25/{stream}/*-{step}h-*{suffix}")
    return found


def rows(lake: Lake, run: str = "2026-11-20T00") -> pa.Table:
    """The whole manifest of a run."""
    context = Context(lake, recipe("file:///nowhere"))
    records = [r for k, r in context.ledger.read_all("ingest", run).items() if "/step-" in k]
    return pa.concat_tables(list(read_manifests(context, manifest_keys(records)))).unify_dictionaries()


# -- the traps of the facts ------------------------------------------------------------------------------------


def test_trap_1_pressure_levels_do_not_collapse(ingest: Callable[..., Report], lake: Lake):
    assert ingest().exit_code is ExitCode.DONE
    table = rows(lake)
    assert len(table) == len(STEPS) * len(MEMBERS) * 160
    of_t = table.filter(pc.equal(table["variable"].cast(pa.string()), "t"))
    assert len(of_t["level"].unique()) == 13
    assert len(of_t) == 13 * len(STEPS) * len(MEMBERS)


def test_trap_2_no_reference_keeps_the_date_of_another_run(ingest: Callable[..., Report], lake: Lake):
    """The template was learnt from the run of 00 UTC; nothing of it is in the references of the next run."""
    for run in (RUN, RUN + timedelta(hours=6)):
        assert ingest(run=run).exit_code is ExitCode.DONE
    assert all("/20261120/06z/" in url for url in rows(lake, "2026-11-20T06")["url"].unique().to_pylist())


def test_trap_3_the_control_is_not_lost_though_fifty_members_are_there(archive: Path, ingest: Callable[..., Report]):
    file_of(archive, 6, ".index", "oper").unlink()
    with pytest.raises(NotThereYet, match=r"5 of 6 steps are there, .* \+6 h \(no 20261120/00z/ifs/0p25/oper/"):
        ingest()


def test_trap_4_runs_of_06_and_18_have_their_own_paths_and_steps(ingest: Callable[..., Report], lake: Lake):
    assert ingest(run=RUN + timedelta(hours=6)).exit_code is ExitCode.DONE
    assert {u.rsplit("/", 1)[1][:14] for u in rows(lake, "2026-11-20T06")["url"].unique().to_pylist()} == {
        "20261120060000"
    }


def test_trap_5_every_index_is_fetched_once_for_all_members(archive: Path, lake: Lake, executor: Threads):
    with serving(archive.parent, errors=0.02) as endpoint:
        mine = recipe(f"s3://{BUCKET}?endpoint={endpoint}&region=x&anonymous=true")
        assert run_phase(lake, mine, "ingest", Window(run=RUN), Options(), executor).exit_code is ExitCode.DONE
        seen = counts(endpoint)
    got = {k: n for k, n in seen.items() if k.endswith(".index")}
    assert len(got) == 2 * len(STEPS)
    assert set(got.values()) == {1}
    assert not any(k.endswith(".grib2") for k in got), "sizes come from the listing"


def test_trap_6_two_rows_for_one_field_are_refused_and_not_dropped(archive: Path, ingest: Callable[..., Report]):
    index = file_of(archive, 6, ".index")
    line = next(x for x in index.read_text().splitlines() if '"param": "2t"' in x)
    index.write_text(index.read_text() + line.replace('"_offset": ', '"_offset": 1') + "\n")
    report = ingest()
    assert report.exit_code is ExitCode.FAILED
    assert "two fields of the index are v2t member" in report.problems[0]


def test_trap_7_what_is_missing_fails_the_step_and_never_becomes_nan(archive: Path, ingest: Callable[..., Report]):
    index = file_of(archive, 6, ".index")
    index.write_text("".join(x + "\n" for x in index.read_text().splitlines() if '"param": "2t"' not in x))
    report = ingest()
    assert report.exit_code is ExitCode.FAILED
    assert "step-006: the index lacks v2t member 1, v2t member 2" in report.problems[0]
    assert report.partitions["done"] == 5


def test_trap_9_a_grib_file_that_changed_behind_the_same_index_is_noticed(archive: Path, ingest: Callable[..., Report]):
    assert ingest().partitions["done"] == 6
    assert ingest().status == "nothing to do"
    grib = file_of(archive, 6, ".grib2")
    stat = grib.stat()
    os.utime(grib, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert ingest().partitions["done"] == 1


def test_trap_9_a_provider_that_cleans_up_makes_nothing_stale(archive: Path, ingest: Callable[..., Report]):
    assert ingest().partitions["done"] == 6
    shutil.rmtree(archive)
    assert ingest().status == "nothing to do"


def test_trap_10_one_bad_file_leaves_everything_else_alone(archive: Path, ingest: Callable[..., Report], lake: Lake):
    index = file_of(archive, 6, ".index")
    good = index.read_bytes()
    index.write_bytes(good[: len(good) // 2])
    assert ingest().partitions["done"] == 5
    before = {m.key: m.etag for m in lake.objects.listing("manifests")}
    index.write_bytes(good)
    report = ingest(select="failed")
    assert report.exit_code is ExitCode.DONE
    assert report.partitions["done"] == 1
    after = {m.key: m.etag for m in lake.objects.listing("manifests")}
    assert before.items() <= after.items()


# -- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda a: _cut(file_of(a, 6, ".index")), 1, "step-006: .*-ef.index: line 320 is truncated"),
        (lambda a: os.truncate(file_of(a, 6, ".grib2"), 10**6), 1, "step-006: .*: line .* reaches beyond the end of"),
        (lambda a: os.truncate(file_of(a, 6, ".grib2"), 0), 4, r"\+6 h \(20261120/00z.*-6h-enfo-ef.grib2 is empty\)"),
        (lambda a: os.truncate(file_of(a, 6, ".grib2"), 2000), 1, "step-006: the provider's file is too small"),
        (lambda a: file_of(a, 6, ".index").write_text("<html>Error</html>"), 1, "-6h-enfo-ef.index is a web page"),
        (lambda a: file_of(a, 6, ".index").write_text(""), 4, r"\+6 h \(.*-6h-enfo-ef.index is empty\)"),
        (lambda a: file_of(a, 6, ".grib2").unlink(), 4, r"5 of 6 steps are there, the first that is not is \+6 h \(no"),
        (lambda a: _without_member(file_of(a, 6, ".index"), 2), 1, "the index lacks gh 1000 member 2, .* and 157 more"),
    ],
    ids=[
        "truncated index", "index disagrees", "empty grib", "tiny grib", "web page", "empty index", "no step",
        "no member",
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_nothing_is_dropped_in_silence(
    archive: Path, ingest: Callable[..., Report], spoil: Callable[[Path], Any], code: int, said: str
):
    spoil(archive)
    try:
        report = ingest()
        problem, exit_code = report.problems[0], report.exit_code
    except (NotThereYet, CorruptInput) as error:
        problem, exit_code = str(error), error.exit_code
    assert exit_code == code, problem
    assert pc.match_substring_regex(pa.array([problem]), said)[0].as_py(), problem


def _cut(index: Path) -> None:
    os.truncate(index, index.stat().st_size - 20)


def _without_member(index: Path, member: int) -> None:
    kept = [x for x in index.read_text().splitlines() if f'"number": "{member}"' not in x]
    index.write_text("\n".join(kept) + "\n")


def test_a_clock_of_the_provider_that_is_wrong_changes_nothing(
    archive: Path, ingest: Callable[..., Report], lake: Lake
):
    for path in archive.rglob("*.*"):
        os.utime(path, (2**32, 2**32))
    assert ingest().exit_code is ExitCode.DONE
    assert ingest().status == "nothing to do"
    assert rows(lake)["last_modified"].unique().to_pylist() == [datetime.fromtimestamp(2**32, UTC)]


def test_a_field_of_a_later_era_is_named_as_such(archive: Path, ingest: Callable[..., Report]):
    old = datetime(2024, 10, 1, tzinfo=UTC)
    full_ensemble.write(archive, old, STEPS, MEMBERS, LENGTH)
    for index in archive.glob("20241001/**/*.index"):
        index.write_text("".join(x + "\n" for x in index.read_text().splitlines() if '"param": "ptype"' not in x))
    made = recipe(archive.as_uri(), runs={"start": "2024-10-01T00:00:00Z", "default": None})
    report = ingest(made, old)
    assert "lacks ptype member 0" in report.problems[0]
    assert "ptype is in ECMWF's open data from 2024-11-13 on" in report.problems[0]


# -- preflight, waiting, partial runs --------------------------------------------------------------------------


def test_a_run_that_is_not_complete_is_not_begun(archive: Path, ingest: Callable[..., Report], lake: Lake):
    file_of(archive, 12, ".index").unlink()
    with pytest.raises(NotThereYet, match=r"5 of 6 steps are there, the first that is not is \+12 h"):
        ingest()
    assert not lake.objects.listing("manifests")


def test_a_partial_run_goes_as_far_as_it_is_and_is_completed_without_redoing(
    archive: Path, ingest: Callable[..., Report], lake: Lake
):
    mine = recipe(archive.as_uri(), runs={"partial": True})
    hidden = [file_of(archive, step, ".index") for step in (9, 12, 15)]
    for path in hidden:
        path.rename(path.with_suffix(".hidden"))
    report = ingest(mine)
    assert report.exit_code is ExitCode.DONE
    assert report.partitions["done"] == 3
    assert "3 of 6 steps are there, the first that is not is +9 h" in report.notes[0]
    before = {m.key: m.etag for m in lake.objects.listing("manifests/ens/2026-11-20T00")}
    for path in hidden:
        path.with_suffix(".hidden").rename(path)
    report = ingest(mine)
    assert report.partitions["done"] == 3
    assert report.notes == ()
    after = {m.key: m.etag for m in lake.objects.listing("manifests/ens/2026-11-20T00")}
    assert {k: v for k, v in before.items() if "step-" in k}.items() <= after.items()


def test_a_partial_run_of_which_nothing_is_there_is_not_there_yet(archive: Path, ingest: Callable[..., Report]):
    shutil.rmtree(archive / "20261120" / "00z")
    with pytest.raises(NotThereYet, match=r"is not there \(yet\): no 20261120/00z"):
        ingest(recipe(archive.as_uri(), runs={"partial": True}))


def test_waiting_ends_when_the_run_is_complete_or_the_time_is_up(
    archive: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    from tasks import runner
    from tasks.report import Progress

    class Told(Progress):
        def __init__(self) -> None:
            self.sentences: list[str] = []

        def said(self, sentence: str) -> None:
            self.sentences.append(sentence)
            path.with_suffix(".hidden").rename(path)

    monkeypatch.setattr(runner, "_LOOK", 0.01)
    path = file_of(archive, 12, ".index")
    path.rename(path.with_suffix(".hidden"))
    told = Told()
    wait_for(lake, recipe(archive.as_uri()), "ingest", Window(run=RUN), 60, told)
    assert len(told.sentences) == 1
    assert "waiting, at most 1 min more: 5 of 6 steps are there" in told.sentences[0]
    path.unlink()
    wait_for(lake, recipe(archive.as_uri()), "ingest", Window(run=RUN), 0.05, Progress())
    assert "5 of 6 steps" in str(Ingest().awaited(Context(lake, recipe(archive.as_uri())), "2026-11-20T00"))


# -- drift -----------------------------------------------------------------------------------------------------


def changed(archive: Path, run: datetime) -> None:
    """Another run in which a param, a level and a member are new, and one param is gone."""
    for step in STEPS:
        control = file_of(archive, step, ".index", "oper", run)
        control.write_text("".join(x + "\n" for x in control.read_text().splitlines() if '"param": "cin"' not in x))
        index = file_of(archive, step, ".index", run=run)
        lines = [x for x in index.read_text().splitlines() if '"param": "cin"' not in x]
        more = next(x for x in lines if '"param": "2t"' in x and '"number": "1"' in x)
        lines.append(more.replace('"2t"', '"new"'))
        lines.append(more.replace('"number": "1"', '"number": "3"'))
        index.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("policy", ["warn", "stop", "relearn"])
def test_drift_is_reported_and_the_recipe_says_what_follows(
    policy: str, archive: Path, ingest: Callable[..., Report], lake: Lake
):
    later = RUN + timedelta(hours=6)
    changed(archive, later)
    document = orjson.loads(recipe(archive.as_uri(), drift=policy, incomplete="accept").model_dump_json())
    document["select"]["variables"] = [v for v in document["select"]["variables"] if v["name"] in ("v2t", "t")]
    mine = recipes.parse(document)
    assert ingest(mine).notes == ()
    report = ingest(mine, later)
    said = orjson.loads(lake.objects.get("manifests/ens/2026-11-20T06/drift.json"))
    assert said["changes"] == [
        "new at sfc (instant) added at 6 steps from 0 to 15 h",
        "member 3 added at 6 steps from 0 to 15 h",
        "cin at sfc (instant) removed at 6 steps from 0 to 15 h",
    ]
    assert "drifted from the template" in report.notes[0]
    assert report.exit_code is (ExitCode.HELD if policy == "stop" else ExitCode.DONE)
    assert template.version(Context(lake, mine)) == (2 if policy == "relearn" else 1)
    if policy == "stop":
        again = recipes.parse(document | {"drift": "relearn"})
        assert ingest(again, later).exit_code is ExitCode.DONE
        assert ingest(mine, later).exit_code is ExitCode.DONE, "what was learnt anew is no drift any more"


def test_headers_that_changed_are_drift(archive: Path, ingest: Callable[..., Report], lake: Lake):
    later = RUN + timedelta(hours=6)
    other = without_data(encode(field(), shortName="2d"))
    assert other is not None
    for path in (file_of(archive, 15, ".grib2", s, later) for s in ("oper", "enfo")):
        with open(path, "r+b") as grib:
            for at in range(0, path.stat().st_size, LENGTH):
                grib.seek(at)
                grib.write(other[:8] + LENGTH.to_bytes(8, "big") + other[16:])
    assert ingest().exit_code is ExitCode.DONE
    report = ingest(run=later)
    assert "v2t has another short_name: 2d instead of 2t" in str(
        drift.sentence(recipe("file:///x"), "r", _changes(lake))
    )
    assert report.notes


def _changes(lake: Lake) -> list[str]:
    found = orjson.loads(lake.objects.get("manifests/ens/2026-11-20T06/drift.json"))["changes"]
    return [c for c in found if "v2t" in c]


def test_contents_survive_being_written():
    steps = {
        0: contents.StepContents({("2t", "sfc", None, "instant"): 3}, (0, 1, 2), 10),
        3: contents.StepContents({("2t", "sfc", None, "instant"): 3, ("t", "pl", 850.0, "avg"): 1}, (), 11),
    }
    assert contents.read(contents.write(steps)) == steps
    assert contents.drift(steps, steps) == []
    fewer = {0: contents.StepContents({("2t", "sfc", None, "instant"): 2}, (0, 1, 2), 10)}
    assert contents.drift(steps, fewer) == ["2t at sfc (instant) is there 2 times instead of 3 at 0 h"]


def test_a_header_without_its_data_says_what_the_whole_message_says():
    whole = encode(field(), shortName="2d", packingType="grid_ccsds")
    start = without_data(whole[:300])
    assert start is not None
    assert header(start) == header(whole)
    assert from_grib(start).digest == from_grib(whole).digest
    assert without_data(whole[:100]) is None
    assert without_data(encode(field(), edition=1)) is None


# -- mirrors, sharing a provider -------------------------------------------------------------------------------


def test_a_mirror_that_lags_lends_nothing_and_the_next_one_has_the_rest(
    archive: Path, tmp_path: Path, ingest: Callable[..., Report], lake: Lake
):
    second = Path(shutil.copytree(archive, tmp_path / "second", copy_function=shutil.copy2))
    file_of(archive, 9, ".index").unlink()
    mine = recipe(archive.as_uri(), second.as_uri())
    assert ingest(mine).exit_code is ExitCode.DONE
    by_root = {"second" if "/second/" in u else "first" for u in rows(lake)["url"].unique().to_pylist()}
    assert by_root == {"first", "second"}
    assert ingest(mine).status == "nothing to do"


def test_a_mirror_that_fails_is_asked_last_from_then_on(
    archive: Path, ingest: Callable[..., Report], lake: Lake, http_archive: Callable[..., Any]
):
    broken = http_archive(archive, error_rate=1.0, error_status=403)
    mine = recipe(broken.url, archive.as_uri())
    assert ingest(mine).exit_code is ExitCode.DONE
    assert mirrors.preferred(mirrors.read(Context(lake, mine), Archive(Context(lake, mine)))) == [1, 0]


def test_mirrors_are_asked_in_the_order_of_the_recipe_unless_one_fails_or_lags():
    assert preferred([Health(), Health(), Health()]) == [0, 1, 2]
    assert preferred([Health(0.5), Health(0.1), Health()]) == [1, 2, 0]
    assert preferred([Health(0, 9.0), Health(0, 8.0), Health()]) == [1, 2, 0]
    assert preferred([Health(0, 8.2), Health(0, 8.0)]) == [0, 1]
    assert Health(0.0, 8.0).after(True, None) == Health(0.3, 8.0)
    assert Health(1.0, None).after(False, 7.0) == Health(0.7, 7.0)


def test_a_refusal_slows_all_workers_down_and_success_lets_them_grow(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    from tasks.forecasts import throttle as module
    from tasks.lake.quota import Quota

    monkeypatch.setattr(module, "_LOOK", 0.0)
    lake.prepare()

    def worker() -> module.Throttle:
        return module.Throttle(Quota(lake.objects, "source-x", adaptive=module._PACE, block=4))

    first, second = worker(), worker()
    with first.request():
        pass
    assert not lake.objects.listing("quotas"), "nothing is written as long as nobody is refused"
    with pytest.raises(Overloaded), first.request():
        raise Overloaded("busy")
    assert second._slowed()
    assert Quota(lake.objects, "source-x", adaptive=module._PACE).state().rate == module._PACE.highest / 2
    with second.request():
        pass


def test_where_each_look_costs_a_request_a_sample_is_looked_at(
    archive: Path, lake: Lake, http_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    from tasks.forecasts import stock

    monkeypatch.setattr(stock, "AUDIT", 4)
    served = http_archive(archive)
    reads = Archive(Context(lake, recipe(served.url)))
    uris = [f"{served.url}/{p.relative_to(archive)}" for p in archive.rglob("*.index")]
    days = [versions_now(reads, uris, RUN + timedelta(days=n)) for n in range(6)]
    assert {len(d) for d in days} == {4}
    assert len({frozenset(d) for d in days}) > 1, "another sample each day"


# -- selection and copies --------------------------------------------------------------------------------------


def test_selection_keeps_the_order_of_the_index_and_names_what_is_missing(archive: Path):
    mine = recipe(archive.as_uri())
    context = Context(Lake("/tmp/none"), mine)
    (file, _) = mine.source.files("", RUN, 6)
    table = mine.source.parse(file, RUN, (archive / file.index_url).read_bytes(), None)
    found, missing = rows_of(table, mine.select, 6, (1, 2, 7))
    assert len(missing) == 160
    assert {f.member for f in missing} == {7}
    for name in ("t", "v2t"):
        offsets = found.filter(pc.equal(found["variable"].cast(pa.string()), name))["offset"].to_numpy()
        assert (np.diff(offsets) > 0).all()
    assert context.recipe.name == "ens"
