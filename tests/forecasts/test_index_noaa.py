"""NOAA's index: real files without loss, ecCodes as judge, laws, and one test for every way it goes wrong."""

import csv
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import eccodes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.forecasts import noaa_levels
from tasks.forecasts.decode import header
from tasks.forecasts.manifest import SCHEMA
from tasks.forecasts.noaa_index import read_noaa
from tasks.forecasts.noaa_levels import level_of
from tasks.forecasts.scan import LEVELS_FROM_ZERO
from tasks.lake.errors import CorruptInput, UsageError

RUN = datetime(2026, 8, 12, 6, tzinfo=UTC)
WHERE = "gfs.t06z.pgrb2.0p25.f006.idx"
HOUR = timedelta(hours=1)


def read(index: str | bytes, run: datetime = RUN, step: int = 6, size: int | None = 1000, member: int | None = None):
    data = index if isinstance(index, bytes) else index.encode()
    return read_noaa(data, url="a.grib2", where=WHERE, run=run, step=step, size=size, member=member)


def line(n: int | str, offset: int, what: str = "TMP:2 m above ground:6 hour fcst:") -> str:
    return f"{n}:{offset}:d=2026081206:{what}\n"


class Real(NamedTuple):
    """A real index, the run and step it belongs to, and its number of lines."""

    path: str
    run: str
    step: int
    lines: int
    grib: str | None = None


REAL = [
    Real("gfs_idx/20221014.gfs.t00z.pgrb2.0p25.f000.idx", "2022-10-14T00", 0, 696),
    Real("gfs_idx/20221014.gfs.t06z.pgrb2.0p25.f021.idx", "2022-10-14T06", 21, 743),
    Real("hrrr_idx/20221014.hrrr.t01z.wrfsfcf00.grib2.idx", "2022-10-14T01", 0, 170),
    Real("hrrr_idx/20221014.hrrr.t09z.wrfsfcf05.grib2.idx", "2022-10-14T09", 5, 173),
    Real("gefs/gefs.20260812.gec00.t00z.pgrb2a.0p50.f024.idx", "2026-08-12T00", 24, 85),
    Real("gfs/gfs.t06z.pgrb2.10p0.f010.grib2.idx", "2021-09-18T06", 10, 6, "gfs/gfs.t06z.pgrb2.10p0.f010.grib2"),
    Real("gfs/subgrids.grib2.idx", "2020-09-26T00", 0, 2, "gfs/subgrids.grib2"),
    Real("gfs/gfs.t00z.pgrb2.2p50.f000.derived.idx", "2017-03-22T00", 0, 352, "gfs/gfs.t00z.pgrb2.2p50.f000"),
    Real(
        "gfs/gfs.20111008.2p5deg.f072.grib2.derived.idx", "2011-10-08T00", 72, 344,
        "gfs/gfs.20111008.2p5deg.f072.grib2",
    ),
    Real(
        "gfswave/gfswave.t18z.atlocn.0p16.f001.grib2.idx", "2023-08-23T18", 1, 19,
        "gfswave/gfswave.t18z.atlocn.0p16.f001.grib2",
    ),
    Real(
        "hrrr_nam/nam.t00z.awp21100.tm00.grib2.derived.idx", "2018-09-17T00", 0, 181,
        "hrrr_nam/nam.t00z.awp21100.tm00.grib2",
    ),
]  # fmt: skip
WITH_GRIB = [real for real in REAL if real.grib]


def parsed(shared: Path, real: Real):
    """A real index as a table, with the text of its lines."""
    text = (shared / "data" / real.path).read_text()
    last = int(text.splitlines()[-1].split(":")[1])
    size = (shared / "data" / real.grib).stat().st_size if real.grib else last + 1000
    run = datetime.fromisoformat(real.run).replace(tzinfo=UTC)
    return read(text, run=run, step=real.step, size=size), text.splitlines()


@pytest.mark.real
@pytest.mark.parametrize("real", REAL, ids=lambda r: Path(r.path).name)
def test_a_real_index_loses_nothing(shared: Path, real: Real):
    table, lines = parsed(shared, real)
    assert table.num_rows == len(lines) == real.lines
    assert table.schema == SCHEMA
    parts = [entry.split(":") for entry in lines]
    assert table["param"].to_pylist() == [p[3] for p in parts]
    assert table["offset"].to_pylist() == [int(p[1]) for p in parts]
    distinct = sorted({int(p[1]) for p in parts})
    following = dict(pairwise(distinct))
    for offset, length in zip(table["offset"].to_pylist(), table["length"].to_pylist(), strict=True):
        assert offset + length == following.get(offset, offset + length)


@pytest.mark.real
@pytest.mark.parametrize("real", WITH_GRIB, ids=lambda r: Path(r.path).name)
def test_every_row_is_the_field_ecCodes_finds_there(shared: Path, real: Real):
    with open(shared / "data/mapping/gfs_idx_eccodes_map.csv", newline="") as file:
        known: dict[tuple[str, str], set[str]] = {}
        for entry in csv.DictReader(file):
            known.setdefault((entry["ncep_abbrev"], entry["ec_typeOfLevel"]), set()).add(entry["ec_shortName"])
    data = (shared / "data" / str(real.grib)).read_bytes()
    table, lines = parsed(shared, real)
    compared = 0
    for row, text in zip(table.to_pylist(), lines, strict=True):
        message = data[row["offset"] : row["offset"] + row["length"]]
        assert (message[:4], message[-4:]) == (b"GRIB", b"7777"), text
        found = header(message, row["sub"])
        assert row["level_type"] == found.type_of_level, text
        if row["level"] is not None and row["level"] >= 0:
            assert row["level"] == pytest.approx(found.level, rel=1e-12), text
        elif row["level"] is None:
            assert found.type_of_level not in LEVELS_FROM_ZERO, text
        assert row["lead_time"] == found.end_step * HOUR, text
        # The tool that derived NAM's index has no word for windows of no length.
        if found.start_step != found.end_step:
            assert row["window_start"] == found.start_step * HOUR, text
            # ecCodes calls the extremes of 2011 instant though they have a window.
            assert row["window"] == found.step_type or row["param"] in ("TMAX", "TMIN"), text
        names = known.get((row["param"], row["level_type"]))
        if names is not None:
            compared += 1
            assert found.short_name in names, text
    assert compared >= 0.5 * len(lines) or "wave" in real.path


# -- laws --------------------------------------------------------------------------------------------------

LEVELS = ["surface", "2 m above ground", "500 mb", "0-0.1 m below ground", "entire atmosphere", "boundary of nothing"]
WINDOWS = {
    "6 hour fcst": ("instant", None), "360 min fcst": ("instant", None), "0-6 hour acc fcst": ("accum", 0),
    "5-6 hour ave fcst": ("avg", 5), "3-6 hour max fcst": ("max", 3), "0-6 hour min fcst": ("min", 0),
}  # fmt: skip
FIELDS = st.tuples(st.sampled_from(["TMP", "UGRD", "APCP"]), st.sampled_from(LEVELS), st.sampled_from(list(WINDOWS)))
MESSAGES = st.lists(st.tuples(st.integers(1, 10**6), st.lists(FIELDS, min_size=1, max_size=3)), min_size=1, max_size=20)


@given(MESSAGES, st.sampled_from(["", "ENS=low-res ctl", "ENS=+7", "ens mean"]), st.booleans())
def test_what_was_written_is_read(messages, ending: str, carriage_return: bool):
    text, expected, offset = "", [], 0
    for n, (length, fields) in enumerate(messages, 1):
        for sub, (param, level, window) in enumerate(fields):
            number = f"{n}.{sub + 1}" if len(fields) > 1 else str(n)
            text += line(number, offset, f"{param}:{level}:{window}:{ending}")
            kind, start = WINDOWS[window]
            expected.append((param, *level_of(level), kind, start, offset, length, sub))
        offset += length
    table = read(text.replace("\n", "\r\n") if carriage_return else text, size=offset)
    assert table.schema == SCHEMA
    rows = table.to_pylist()
    assert [
        (
            r["param"], r["level_type"], r["level"], r["window"],
            None if r["window_start"] is None else r["window_start"] / HOUR, r["offset"], r["length"], r["sub"],
        )
        for r in rows
    ] == expected  # fmt: skip
    assert {r["lead_time"] for r in rows} == {6 * HOUR}
    assert {r["member"] for r in rows} == {{"ENS=low-res ctl": 0, "ENS=+7": 7}.get(ending)}


@given(st.binary(max_size=200))
def test_no_bytes_give_anything_but_a_table_or_one_sentence(index: bytes):
    try:
        assert read(index).schema == SCHEMA
    except CorruptInput as error:
        caught = str(error)
    else:
        return
    assert WHERE in caught


@given(st.integers(0, 1000))
def test_an_index_cut_anywhere_inside_a_line_is_noticed(cut: int):
    index = "".join(line(i + 1, i * 10, "TMP:10 mb:6 hour fcst:ENS=+11") for i in range(4))
    cut %= len(index)
    if index[:cut].endswith("\n"):
        assert read(index[:cut]).num_rows == index[:cut].count("\n")
    else:
        with pytest.raises(CorruptInput):
            read(index[:cut])


# -- traps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "step", "window", "start", "end"),
    [
        ("anl", 0, "instant", None, 0),
        ("7 hour fcst", 7, "instant", None, 7),
        ("6-7 hour ave fcst", 7, "avg", 6, 7),
        ("6-7 hour acc fcst", 7, "accum", 6, 7),
        ("6-7 hour max fcst", 7, "max", 6, 7),
        ("6-7 hour min fcst", 7, "min", 6, 7),
        ("0-1 day acc fcst", 24, "accum", 0, 24),
        ("0-0 day max fcst", 0, "max", 0, 0),
        ("495 min fcst", 9, "instant", None, 8.25),
        ("525-540 min acc fcst", 9, "accum", 8.75, 9),
        ("0-6 hour ave anl", 6, "avg", 0, 6),
        ("0-6 hour last-first fcst", 6, "last-first", 0, 6),
    ],
)
def test_every_form_of_window(text: str, step: int, window: str, start: float | None, end: float):
    (row,) = read(line(1, 0, f"X:surface:{text}:"), step=step).to_pylist()
    assert row["window"] == window
    assert row["window_start"] == (None if start is None else start * HOUR)
    assert row["lead_time"] == end * HOUR


def test_duplicate_strings_are_two_rows():
    """GFS f006 has ACPCP twice, as a bucket and as a run total that happen to begin together."""
    what = "ACPCP:surface:0-6 hour acc fcst:"
    table = read(line(1, 0, what) + line(2, 40, what), size=100)
    assert table.select(["offset", "length"]).to_pylist() == [
        {"offset": 0, "length": 40}, {"offset": 40, "length": 60},
    ]  # fmt: skip


def test_submessages_keep_the_v_wind():
    u, v = "UGRD:10 mb:6 hour fcst:", "VGRD:10 mb:6 hour fcst:"
    table = read(line("1.1", 0, u) + line("1.2", 0, v) + line(2, 70, u), size=100)
    assert table["param"].to_pylist() == ["UGRD", "VGRD", "UGRD"]
    assert table["offset"].to_pylist() == [0, 0, 70]
    assert table["length"].to_pylist() == [70, 70, 30]
    assert table["sub"].to_pylist() == [0, 1, 0]


def test_submessages_at_the_end_run_to_the_end_of_the_file():
    table = read(line(1, 0) + line("2.1", 60) + line("2.2", 60), size=100)
    assert table["length"].to_pylist() == [60, 40, 40]


def test_unnamed_parameters_are_kept():
    name = "var discipline=0 center=7 local_table=1 parmcat=16 parm=201"
    assert read(line(1, 0, f"{name}:surface:6 hour fcst:"))["param"].to_pylist() == [name]


@pytest.mark.parametrize(
    ("ending", "member"), [("ENS=low-res ctl", 0), ("ENS=+1", 1), ("ENS=+30", 30), ("ens mean", None), ("", None)]
)
def test_members_of_gefs(ending: str, member: int | None):
    assert read(line(1, 0, f"TMP:10 mb:6 hour fcst:{ending}"))["member"].to_pylist() == [member]


def test_the_file_tells_the_member_where_the_lines_do_not():
    assert read(line(1, 0), member=4)["member"].to_pylist() == [4]


def test_the_index_of_another_member_is_refused():
    with pytest.raises(CorruptInput, match=r"line 1 belongs to another member: expected member 4, found 'ENS=\+5'"):
        read(line(1, 0, "TMP:10 mb:6 hour fcst:ENS=+5"), member=4)


# -- what goes wrong ---------------------------------------------------------------------------------------

GOOD = line(1, 0) + line(2, 100) + line(3, 200)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("", "is empty"),
        ("<html><body>404 Not Found</body></html>", "is a web page"),
        (GOOD.rstrip("\n"), "line 3 is truncated"),
        (GOOD[:-12], "line 3 is truncated"),
        (GOOD + "4:300", "line 4 is truncated"),
        (line(1, 0) + line(2, 200) + line(3, 100), "line 3 goes backwards: expected .* at least 200, found 100"),
        (line(1, 0) + line(2, 2000), "line 2 lies beyond the end of the GRIB file: expected an offset below 1000"),
        (GOOD.replace("2:100:d=2026081206", "2:100:d=2026081200"), "line 2 belongs to another run: expected d="),
        (line(1, 0) + line(2, 9, "TMP:10 mb:9 hour fcst:"), "line 2 belongs to another step: expected step 6"),
        (line(1, 0, "TMP:10 mb:anl:"), "line 1 belongs to another step"),
        (line(1, 0, "TMP:10 mb:six hours:"), "line 1 has an unknown time window"),
        (line(1, 0, "TMP:10 mb:0-6 hour fcst:"), "line 1 has an unknown time window"),
        (GOOD.replace(":100:", ":-100:"), "line 2 has no byte offset"),
        (GOOD.replace(":100:", f":{10**30}:"), "line 2 has no byte offset"),
        ("\n" + GOOD.replace("2:100", "two:100"), "line 3 has no message number"),
        (line(1, 0) + line("2.2", 100), "line 2 is out of place in its message: expected field 1, found field 2"),
        (line("1.1", 0) + line("1.3", 0), "line 2 is out of place in its message"),
        (b"1:0:d=2026081206:\xb5:surface:6 hour fcst:\n", "line 1 is not text"),
        ('{"date": "20260812", "param": "2t"}\n', "line 1 is truncated or no index entry"),
    ],
)
def test_a_malformed_index_is_one_sentence_that_names_the_line(index: str | bytes, says: str):
    with pytest.raises(CorruptInput, match=says) as caught:
        read(index)
    assert WHERE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_last_message_needs_the_size_of_the_file():
    with pytest.raises(UsageError, match="the size of its GRIB file"):
        read(GOOD, size=None)


def test_an_empty_file_behind_an_index_is_refused():
    with pytest.raises(CorruptInput, match="line 1 lies beyond the end"):
        read(GOOD, size=0)


# -- levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "level"),
    [
        ("500 mb", "isobaricInhPa", 500),
        ("0.01 mb", "isobaricInhPa", 0.01),
        ("500-1000 mb", "isobaricLayer", 500),
        ("2 m above ground", "heightAboveGround", 2),
        ("6000-0 m above ground", "heightAboveGroundLayer", 6000),
        ("surface", "surface", None),
        ("mean sea level", "meanSea", None),
        ("0-0.1 m below ground", "depthBelowLandLayer", 0),
        ("entire atmosphere", "atmosphere", None),
        ("1 hybrid level", "hybrid", 1),
        ("0.995 sigma level", "sigma", 0.995),
        ("263 K level", "isothermal", 263),
        ("30-0 mb above ground", "pressureFromGroundLayer", 3000),
        ("PV=2e-06 (Km^2/kg/s) surface", "potentialVorticity", 2000),
        ("PV=-2e-06 (Km^2/kg/s) surface", "potentialVorticity", -2000),
        ("261 K level - 256 K level", "261 K level - 256 K level", None),
        ("2 m in the basement", "2 m in the basement", None),
    ],
)
def test_levels(text: str, kind: str, level: float | None):
    assert level_of(text) == (kind, level)


def test_ecCodes_knows_every_type_of_level():
    numbered = {t for single, layer, _ in noaa_levels.NUMBERED.values() for t in (single, layer) if t}
    for kind in sorted(numbered | set(noaa_levels.NAMED.values())):
        handle = eccodes.codes_grib_new_from_samples("GRIB2")
        try:
            eccodes.codes_set(handle, "centre", 7)
            eccodes.codes_set(handle, "typeOfLevel", kind)
            assert eccodes.codes_get(handle, "typeOfLevel") == kind
        finally:
            eccodes.codes_release(handle)


def test_soil_layers_differ_by_their_top():
    texts = ["0-0.1 m below ground", "0.1-0.4 m below ground", "0.4-1 m below ground", "1-2 m below ground"]
    assert np.allclose([level_of(t)[1] for t in texts], [0, 0.1, 0.4, 1])
