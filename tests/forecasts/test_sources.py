"""Where providers keep their runs: paths, steps and members, era by era, as their archives have them."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from tasks.forecasts.select import rows_of
from tasks.forecasts.sources import ecmwf, gefs, gfs, hrrr
from tasks.forecasts.sources.eras import Eras, every
from tasks.forecasts.sources.source import Source, SourceFile, sources
from tasks.lake import recipe
from tasks.lake.errors import LakeError, RecipeError, UsageError
from tasks.lake.objects import Objects


def run(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ecmwf_source(**keys: object) -> Source:
    return sources.build({"type": "ecmwf"} | keys)


def urls(source: Source, when: str, step: int) -> list[str]:
    return [f.url for f in source.files(source.roots()[0], run(when), step)]


# -- ECMWF -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "when", "step", "expected"),
    [
        (
            {"resolution": "0p4-beta"}, "2023-01-18T00", 3,
            ["20230118/00z/0p4-beta/oper/20230118000000-3h-oper-fc.grib2"],
        ),
        ({}, "2024-02-01T00", 3, ["20240201/00z/0p25/oper/20240201000000-3h-oper-fc.grib2"]),
        ({}, "2024-02-28T00", 3, ["20240228/00z/0p25/oper/20240228000000-3h-oper-fc.grib2"]),
        ({}, "2024-02-28T06", 3, ["20240228/06z/ifs/0p25/scda/20240228060000-3h-scda-fc.grib2"]),
        ({}, "2026-05-12T00", 360, ["20260512/00z/ifs/0p25/oper/20260512000000-360h-oper-fc.grib2"]),
        ({}, "2026-05-11T18", 144, ["20260511/18z/ifs/0p25/scda/20260511180000-144h-scda-fc.grib2"]),
        ({}, "2026-05-12T06", 144, ["20260512/06z/ifs/0p25/oper/20260512060000-144h-oper-fc.grib2"]),
        ({"stream": "wave"}, "2026-05-11T18", 0, ["20260511/18z/ifs/0p25/scwv/20260511180000-0h-scwv-fc.grib2"]),
        ({"stream": "wave"}, "2026-05-12T18", 0, ["20260512/18z/ifs/0p25/wave/20260512180000-0h-wave-fc.grib2"]),
        ({"stream": "enfo"}, "2026-05-12T00", 0, ["20260512/00z/ifs/0p25/enfo/20260512000000-0h-enfo-ef.grib2"]),
        (
            {"stream": "enfo"}, "2026-05-12T06", 0,
            ["20260512/06z/ifs/0p25/enfo/20260512060000-0h-enfo-ef.grib2",
             "20260512/06z/ifs/0p25/oper/20260512060000-0h-oper-fc.grib2"],
        ),
        (
            {"stream": "waef"}, "2026-05-12T12", 360,
            ["20260512/12z/ifs/0p25/waef/20260512120000-360h-waef-ef.grib2",
             "20260512/12z/ifs/0p25/wave/20260512120000-360h-wave-fc.grib2"],
        ),
        ({"model": "aifs-single"}, "2025-02-24T00", 6, ["20250224/00z/aifs/0p25/oper/20250224000000-6h-oper-fc.grib2"]),
        (
            {"model": "aifs-single"}, "2025-02-25T00", 6,
            ["20250225/00z/aifs-single/0p25/experimental/oper/20250225000000-6h-oper-fc.grib2"],
        ),
        (
            {"model": "aifs-single"}, "2025-02-25T06", 6,
            ["20250225/06z/aifs-single/0p25/oper/20250225060000-6h-oper-fc.grib2"],
        ),
        (
            {"model": "aifs-ens", "stream": "enfo"}, "2025-07-02T00", 360,
            ["20250702/00z/aifs-ens/0p25/enfo/20250702000000-360h-enfo-cf.grib2",
             "20250702/00z/aifs-ens/0p25/enfo/20250702000000-360h-enfo-pf.grib2"],
        ),
    ],
)  # fmt: skip
def test_ecmwf_paths_era_by_era(keys: dict, when: str, step: int, expected: list[str]):
    source = ecmwf_source(**keys)
    assert urls(source, when, step) == expected
    for file in source.files(source.roots()[0], run(when), step):
        assert file.index_url == file.url.removesuffix(".grib2") + ".index"


@pytest.mark.parametrize(
    ("stream", "when", "count", "last"),
    [
        ("oper", "2024-11-11T00", 65, 240),
        ("oper", "2024-11-11T18", 31, 90),
        ("oper", "2024-11-12T00", 85, 360),
        ("oper", "2024-11-12T06", 49, 144),
        ("enfo", "2024-03-01T12", 85, 360),
        ("enfo", "2026-11-20T00", 85, 360),
        ("enfo", "2026-11-20T18", 49, 144),
    ],
)
def test_ecmwf_steps_differ_between_main_and_short_runs(stream: str, when: str, count: int, last: int):
    steps = ecmwf_source(stream=stream).steps(run(when))
    assert (len(steps), steps[-1]) == (count, last)
    assert {b - a for a, b in pairwise(steps)} <= {3, 6}


def entry(kind: str, number: int | None = None) -> bytes:
    when = {"date": "20260812", "time": "0000", "step": "24"}
    what = {"type": kind, "levtype": "sfc", "param": "2t", "_offset": 0, "_length": 9}
    return orjson.dumps(when | what | ({} if number is None else {"number": str(number)})) + b"\n"


def test_the_control_of_50r1_comes_with_the_single_run():
    """A check for 50 members would still pass without it: all 51 must be there."""
    source = ecmwf_source(stream="enfo")
    when = run("2026-08-12T00")
    indexes = [b"".join(entry("pf", n) for n in range(1, 51)), entry("fc")]
    found = [
        member
        for file, index in zip(source.files(source.roots()[0], when, 24), indexes, strict=True)
        for member in source.parse(file, when, index, None)["member"].to_pylist()
    ]
    assert sorted(found) == list(source.members(when) or ()) == list(range(51))


def test_the_control_before_50r1_is_in_the_ensemble_file():
    source = ecmwf_source(stream="enfo")
    (file,) = source.files(source.roots()[0], run("2026-05-01T00"), 24)
    assert file.member is None


def test_the_single_run_itself_has_no_member():
    source = ecmwf_source()
    (file,) = source.files(source.roots()[0], run("2026-08-12T00"), 24)
    assert source.parse(file, run("2026-08-12T00"), entry("fc"), None)["member"].to_pylist() == [None]
    assert source.members(run("2026-08-12T00")) is None


@pytest.mark.real
def test_a_step_of_the_ensemble_holds_every_member_once(shared: Path):
    """Members 1 to 3 of a real ensemble index, the control of a real single-run index."""
    source = ecmwf_source(stream="enfo")
    ensemble = (shared / "data/ecmwf/20260702000000-24h-enfo-ef.2t.m1-3.index").read_bytes()
    single = (shared / "data/ecmwf/20260812000000-24h-oper-fc.index").read_bytes()
    first, _ = source.files(source.roots()[0], run("2026-07-02T00"), 24)
    _, second = source.files(source.roots()[0], run("2026-08-12T00"), 24)
    assert source.parse(first, run("2026-07-02T00"), ensemble, None)["member"].to_pylist() == [1, 2, 3]
    assert set(source.parse(second, run("2026-08-12T00"), single, None)["member"].to_pylist()) == {0}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"model": "aifs-ens", "stream": "oper"}, "'aifs-ens' has no stream 'oper'; it has: enfo"),
        ({"model": "aifs-single", "resolution": "0p4-beta"}, "has no resolution '0p4-beta'; it has: 0p25"),
        ({"mirrors": []}, "at least 1"),
    ],
)
def test_products_that_do_not_exist_are_refused(keys: dict, says: str):
    with pytest.raises(ValueError, match=says):
        ecmwf_source(**keys)


@pytest.mark.parametrize(
    ("keys", "when", "step", "says"),
    [
        ({}, "2024-01-31T18", 3, "no run that early: expected 2024-02-01T00 or later, found 2024-01-31T18"),
        ({"model": "aifs-ens", "stream": "enfo"}, "2025-07-01T18", 6, "expected 2025-07-02T00 or later"),
        ({}, "2026-11-20T03", 3, "no run at that hour: expected one of 00, 06, 12, 18 UTC, found 03:00"),
        ({}, "2026-11-20T00:30", 3, "no run at that hour"),
        ({}, "2026-11-20T06", 150, "has no step 150"),
        ({}, "2026-11-20T00", 4, "has no step 4"),
    ],
)
def test_runs_and_steps_that_do_not_exist_are_refused(keys: dict, when: str, step: int, says: str):
    with pytest.raises(UsageError, match=says):
        urls(ecmwf_source(**keys), when, step)


# -- NOAA --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "when", "step", "expected"),
    [
        ({"type": "gfs"}, "2026-11-20T06", 7, "gfs.20261120/06/atmos/gfs.t06z.pgrb2.0p25.f007"),
        ({"type": "gfs"}, "2021-03-22T18", 384, "gfs.20210322/18/gfs.t18z.pgrb2.0p25.f384"),
        ({"type": "gfs"}, "2021-03-23T00", 0, "gfs.20210323/00/atmos/gfs.t00z.pgrb2.0p25.f000"),
        ({"type": "gfs", "resolution": "1p00"}, "2026-11-20T00", 3, "gfs.20261120/00/atmos/gfs.t00z.pgrb2.1p00.f003"),
        ({"type": "gfs", "product": "pgrb2b"}, "2026-11-20T00", 3, "gfs.20261120/00/atmos/gfs.t00z.pgrb2b.0p25.f003"),
        ({"type": "hrrr"}, "2026-11-20T05", 18, "hrrr.20261120/conus/hrrr.t05z.wrfsfcf18.grib2"),
        ({"type": "hrrr", "product": "prs"}, "2026-11-20T12", 0, "hrrr.20261120/conus/hrrr.t12z.wrfprsf00.grib2"),
    ],
)
def test_noaa_paths(keys: dict, when: str, step: int, expected: str):
    source = sources.build(keys)
    (file,) = source.files(source.roots()[0], run(when), step)
    assert (file.url, file.index_url, file.member) == (expected, f"{expected}.idx", None)


@pytest.mark.parametrize(
    ("product", "first"),
    [
        ("pgrb2s", "gefs.20261120/12/atmos/pgrb2sp25/gec00.t12z.pgrb2s.0p25.f006"),
        ("pgrb2a", "gefs.20261120/12/atmos/pgrb2ap5/gec00.t12z.pgrb2a.0p50.f006"),
        ("pgrb2b", "gefs.20261120/12/atmos/pgrb2bp5/gec00.t12z.pgrb2b.0p50.f006"),
    ],
)
def test_gefs_has_a_file_per_member(product: str, first: str):
    source = sources.build({"type": "gefs", "product": product})
    files = source.files(source.roots()[0], run("2026-11-20T12"), 6)
    assert files[0].url == first
    assert files[30].url == first.replace("gec00", "gep30")
    assert [f.member for f in files] == list(range(31))


@pytest.mark.parametrize(
    ("keys", "when", "count", "last"),
    [
        ({"type": "gfs"}, "2026-11-20T18", 209, 384),
        ({"type": "gfs", "resolution": "0p50"}, "2026-11-20T00", 129, 384),
        ({"type": "gefs"}, "2026-11-20T00", 81, 240),
        ({"type": "gefs", "product": "pgrb2a"}, "2026-11-20T06", 105, 384),
        ({"type": "gefs", "product": "pgrb2a"}, "2026-11-20T00", 181, 840),
        ({"type": "hrrr"}, "2026-11-20T00", 49, 48),
        ({"type": "hrrr"}, "2026-11-20T01", 19, 18),
        ({"type": "hrrr"}, "2019-01-01T06", 37, 36),
    ],
)
def test_noaa_steps_by_model_and_hour(keys: dict, when: str, count: int, last: int):
    steps = sources.build(keys).steps(run(when))
    assert (len(steps), steps[-1]) == (count, last)


@pytest.mark.real
def test_a_real_gefs_index_belongs_to_the_control(shared: Path):
    index = (shared / "data/gefs/gefs.20260812.gec00.t00z.pgrb2a.0p50.f024.idx").read_bytes()
    source = sources.build({"type": "gefs", "product": "pgrb2a"})
    control, first, *_ = source.files(source.roots()[0], run("2026-08-12T00"), 24)
    table = source.parse(control, run("2026-08-12T00"), index, 16_000_000)
    assert (table.num_rows, set(table["member"].to_pylist())) == (85, {0})
    with pytest.raises(LakeError, match="another member"):
        source.parse(first, run("2026-08-12T00"), index, 16_000_000)


# -- eras --------------------------------------------------------------------------------------------------

TABLES = {
    **{f"folders {k}": v for k, v in ecmwf.FOLDERS.items()},
    **{f"steps {k}": v for k, v in ecmwf.STEPS.items()},
    **{f"files {k}": v for k, v in ecmwf.FILES.items()},
    "gfs": gfs.FOLDERS,
    **{f"gfs {k}": v for k, v in gfs.STEPS.items()},
    **{f"gefs {k}": v for k, v in gefs.STEPS.items()},
    "hrrr": hrrr.STEPS,
}


@pytest.mark.parametrize("name", TABLES)
def test_eras_follow_one_another_and_each_begins_with_its_first_run(name: str):
    table = TABLES[name]
    pairs = list(table)
    assert [since for since, _ in pairs] == sorted({since for since, _ in pairs})
    for since, value in pairs:
        assert table.at(since, name) == value
    for (_, before), (since, _) in pairwise(pairs):
        assert table.at(since - timedelta(hours=1), name) == before
    with pytest.raises(UsageError, match="or later"):
        table.at(pairs[0][0] - timedelta(hours=1), name)


def test_eras_out_of_order_are_a_mistake_of_ours():
    with pytest.raises(ValueError, match="one after the other"):
        Eras({"2024-02-01": 1, "2023-02-01": 2})


def test_ranges_of_steps_include_their_ends():
    assert every((0, 6, 3), (12, 24, 6)) == (0, 3, 6, 12, 18, 24)


# -- folder ------------------------------------------------------------------------------------------------

FOLDER = {
    "type": "folder",
    "root": "s3://mine?region=eu-west-1",
    "pattern": "{init:%Y%m%d%H}/f{step:03d}.grib2",
    "steps": [6, 0],
}


def folder_source(**keys: object) -> Source:
    return sources.build(FOLDER | keys)


@pytest.mark.parametrize(
    ("keys", "url", "index_url"),
    [
        ({}, "2026112000/f006.grib2", None),
        ({"index": "ecmwf"}, "2026112000/f006.grib2", "2026112000/f006.index"),
        ({"index": "noaa"}, "2026112000/f006.grib2", "2026112000/f006.grib2.idx"),
        ({"index": "noaa", "index_suffix": ".x.idx"}, "2026112000/f006.grib2", "2026112000/f006.grib2.x.idx"),
        ({"index": "ecmwf", "pattern": "x/{step}h-ef.v2.grib2"}, "x/6h-ef.v2.grib2", "x/6h-ef.v2.index"),
    ],
)
def test_a_folder_names_its_files_by_the_pattern(keys: dict, url: str, index_url: str | None):
    source = folder_source(**keys)
    assert source.roots() == ("s3://mine?region=eu-west-1",)
    assert source.steps(run("2026-11-20T00")) == (0, 6)
    assert source.files(source.roots()[0], run("2026-11-20T00"), 6) == [SourceFile(url, index_url, 6)]


def test_a_folder_may_have_a_file_per_member():
    source = folder_source(pattern="{init:%H}/{member:02d}/{step}.grib2", members=[1, 0])
    files = source.files(source.roots()[0], run("2026-11-20T00"), 6)
    assert [(f.url, f.member) for f in files] == [("00/00/6.grib2", 0), ("00/01/6.grib2", 1)]


def test_a_folder_may_have_all_members_in_a_file():
    source = folder_source(index="ecmwf", members=[0, 1])
    (file,) = source.files(source.roots()[0], run("2026-08-12T00"), 6)
    assert file.member is None
    index = (entry("fc") + entry("pf", 1)).replace(b'"24"', b'"6"')
    assert source.parse(file, run("2026-08-12T00"), index, None)["member"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"pattern": "{run}/{step}"}, "is not made of"),
        ({"pattern": "{init:%Y}/{step"}, "is not made of"),
        ({"pattern": "{init.nosuch}/{step}"}, "is not made of"),
        ({"pattern": "/etc/{step}"}, "leads out of the root"),
        ({"pattern": "../{step}"}, "leads out of the root"),
        ({"pattern": "{init:%Y}.grib2", "index": "ecmwf"}, "needs a {step}"),
        ({"pattern": "{member}/{step}.grib2"}, "name the 'members' too"),
        ({"index_suffix": ".idx"}, "index_suffix needs an 'index'"),
        ({"steps": []}, "at least 1"),
        ({"steps": [3, 3]}, "distinct"),
        ({"steps": [-3]}, "not negative"),
    ],
)
def test_a_folder_that_cannot_be_is_refused(keys: dict, says: str):
    with pytest.raises(ValueError, match=says):
        folder_source(**keys)


def test_a_folder_has_only_the_steps_it_names():
    with pytest.raises(UsageError, match="no step 3"):
        folder_source().files("", run("2026-11-20T00"), 3)


@pytest.mark.real
@pytest.mark.parametrize(
    ("keys", "when", "step", "count"),
    [
        ({"root": "ecmwf", "pattern": "{init:%Y%m%d%H}0000-{step}h-enfo-ef.2t.m1-3.grib2", "index": "ecmwf",
          "steps": [24], "members": [1, 2, 3]}, "2026-07-02T00", 24, 3),
        ({"root": "gfs", "pattern": "gfs.t{init:%H}z.pgrb2.10p0.f{step:03d}.grib2", "index": "noaa", "steps": [10]},
         "2021-09-18T06", 10, 6),
        ({"root": "gfs", "pattern": "gfs.{init:%Y%m%d}.2p5deg.f{step:03d}.grib2", "index": "noaa",
          "index_suffix": ".derived.idx", "steps": [72]}, "2011-10-08T00", 72, 344),
        ({"root": "gfswave", "pattern": "gfswave.t{init:%H}z.atlocn.0p16.f{step:03d}.grib2", "index": "noaa",
          "steps": [1]}, "2023-08-23T18", 1, 19),
    ],
)  # fmt: skip
def test_a_folder_serves_real_files(shared: Path, keys: dict, when: str, step: int, count: int):
    source = folder_source(**keys | {"root": str(shared / "data" / keys["root"])})
    store = Objects(source.roots()[0])
    (file,) = source.files(source.roots()[0], run(when), step)
    meta = store.head(file.url)
    assert meta is not None
    table = source.parse(file, run(when), store.get(str(file.index_url)), meta.size)
    assert table.num_rows == count
    for offset, length in zip(table["offset"].to_pylist(), table["length"].to_pylist(), strict=True):
        message = store.get_range(file.url, offset, length)
        assert (message[:4], message[-4:]) == (b"GRIB", b"7777")


# -- recipes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_loads_and_reads_back(name: str):
    found = recipe.load(name)
    assert found.name == name
    assert found.attribution
    assert recipe.parse(found.model_dump(mode="json")) == found


@pytest.mark.parametrize("name", ["ifs-ens", "ifs-hres", "gfs"])
def test_a_recipe_can_be_planned_for_every_run_of_a_day(name: str):
    found = recipe.load(name)
    for hours in range(0, 24, found.runs.every):
        when = found.runs.start + timedelta(hours=hours)
        for step in found.source.steps(when):
            assert found.source.files(found.source.roots()[0], when, step)
    if found.select.members is not None:
        assert set(found.select.members) == set(found.source.members(when))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "index", "when", "step"),
    [
        ("ifs-hres", "ecmwf/20260812000000-24h-oper-fc.index", "2026-08-12T00", 24),
        ("gfs", "gfs_idx/20221014.gfs.t00z.pgrb2.0p25.f000.idx", "2022-10-14T00", 0),
        ("gfs", "gfs_idx/20221014.gfs.t06z.pgrb2.0p25.f021.idx", "2022-10-14T06", 21),
    ],
)
def test_a_real_index_has_all_that_a_recipe_selects(shared: Path, name: str, index: str, when: str, step: int):
    found = recipe.load(name)
    (file,) = found.source.files(found.source.roots()[0], run(when), step)
    table = found.source.parse(file, run(when), (shared / "data" / index).read_bytes(), 10**9)
    rows, missing = rows_of(table, found.select, step, found.select.members)
    assert missing == []
    windowed = [v for v in found.select.variables if step in v.not_at]
    assert set(rows["variable"].to_pylist()) == {v.name for v in found.select.variables} - {v.name for v in windowed}


@pytest.mark.real
def test_the_ensemble_recipe_takes_its_control_from_the_single_run(shared: Path):
    found = recipe.load("ifs-ens")
    when = run("2026-08-12T00")
    _, control = found.source.files(found.source.roots()[0], when, 24)
    index = (shared / "data/ecmwf/20260812000000-24h-oper-fc.index").read_bytes()
    _, missing = rows_of(found.source.parse(control, when, index, None), found.select, 24, found.select.members)
    assert {f.member for f in missing} == set(range(1, 51))


def test_each_gust_is_expected_where_the_provider_has_it():
    for name in ("ifs-ens", "ifs-hres"):
        gusts = {v.param: v for v in recipe.load(name).select.variables if v.param.startswith("10fg")}
        steps = set(every((0, 144, 3), (150, 360, 6)))
        there = {param: steps - set(v.not_at) for param, v in gusts.items()}
        assert there["10fg3"] == set(range(93, 145, 3))
        assert there["10fg"] == steps - {0} - there["10fg3"]


def test_an_unknown_source_is_refused():
    with pytest.raises(RecipeError, match="no source named 'nosuch'; known are: demo, ecmwf, folder, gefs, gfs, hrrr"):
        sources.build({"type": "nosuch"})
