"""ECMWF's index: real files without loss, laws, and one test for every way it goes wrong."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.forecasts.decode import header
from tasks.forecasts.ecmwf_index import LEVEL_TYPES, read_ecmwf
from tasks.forecasts.manifest import SCHEMA
from tasks.lake.errors import CorruptInput

RUN = datetime(2026, 8, 12, tzinfo=UTC)
WHERE = "20260812000000-24h-enfo-ef.index"


def line(param: str = "2t", **keys: object) -> dict[str, object]:
    """One entry of an index at step 24 of `RUN`, every value a string but the byte range."""
    entry: dict[str, object] = {
        "domain": "g", "date": "20260812", "time": "0000", "expver": "0001", "class": "od", "type": "fc",
        "stream": "oper", "step": "24", "levtype": "sfc", "param": param, "_offset": 0, "_length": 100,
    }  # fmt: skip
    return entry | keys


def text(*lines: dict[str, object]) -> bytes:
    return b"".join(orjson.dumps(entry) + b"\n" for entry in lines)


def read(index: bytes, run: datetime = RUN, step: int = 24, **more):
    return read_ecmwf(index, url="a.grib2", where=WHERE, run=run, step=step, **more)


def windows(step: int, *params: str) -> dict[str, tuple[str, float | None]]:
    """Window and its start in hours by param."""
    table = read(text(*(line(p, step=str(step)) for p in params)), step=step)
    return {
        r["param"]: (r["window"], None if r["window_start"] is None else r["window_start"] / timedelta(hours=1))
        for r in table.to_pylist()
    }


# -- real files --------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_real_index_loses_nothing(shared: Path):
    index = (shared / "data/ecmwf/20260812000000-24h-oper-fc.index").read_bytes()
    rows = read(index).to_pylist()
    entries = [orjson.loads(row) for row in index.splitlines()]
    assert len(rows) == len(entries) == 184
    for row, entry in zip(rows, entries, strict=True):
        assert (row["param"], row["offset"], row["length"]) == (entry["param"], entry["_offset"], entry["_length"])
        assert row["level_type"] == LEVEL_TYPES.get(entry["levtype"], entry["levtype"])
        assert row["level"] == (float(entry["levelist"]) if "levelist" in entry else None)
        assert row["member"] is None
        assert row["lead_time"] == timedelta(hours=24)


@pytest.mark.real
def test_the_ranges_of_a_real_index_are_the_messages_it_says(shared: Path):
    folder = shared / "data/ecmwf"
    data = (folder / "20260702000000-24h-enfo-ef.2t.m1-3.grib2").read_bytes()
    index = (folder / "20260702000000-24h-enfo-ef.2t.m1-3.index").read_bytes()
    rows = read(index, run=datetime(2026, 7, 2, tzinfo=UTC), size=len(data)).to_pylist()
    assert [r["member"] for r in rows] == [1, 2, 3]
    for row in rows:
        message = data[row["offset"] : row["offset"] + row["length"]]
        assert (message[:4], message[-4:]) == (b"GRIB", b"7777")
        found = header(message)
        assert (found.short_name, found.member, found.step_type) == (row["param"], row["member"], row["window"])
        assert timedelta(hours=found.end_step) == row["lead_time"]


@pytest.mark.real
def test_lines_of_every_era_can_be_read(shared: Path):
    lines = (shared / "data/ecmwf/index_lines_by_era.jsonl.txt").read_bytes().splitlines()
    entries = [orjson.loads(entry) for entry in lines if not entry.startswith(b"#")]
    assert len(entries) == 10
    for entry in entries:
        run = datetime.strptime(entry["date"] + entry["time"], "%Y%m%d%H%M").replace(tzinfo=UTC)
        (row,) = read(text(entry), run=run, step=int(entry["step"])).to_pylist()
        control = {"cf": 0}.get(entry["type"])
        assert row["member"] == (int(entry["number"]) if "number" in entry else control)


# -- laws --------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(categories=(), include_characters="abtuvz0123456789"), min_size=1, max_size=6)
ENTRIES = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from([("sfc", None), ("pl", "850"), ("pl", "1000"), ("sol", "2"), ("ml", "137")]),
        st.one_of(st.none(), st.integers(0, 50)),
        st.integers(0, 2**40),
        st.integers(1, 2**30),
    ),
    min_size=1,
    max_size=30,
)


@given(ENTRIES, st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_what_was_written_is_read(entries, rng: random.Random, numbers_as_text: bool, final_newline: bool):
    lines = []
    for param, (levtype, levelist), number, offset, length in entries:
        keys: dict[str, object] = {"levtype": levtype, "_offset": offset, "_length": length}
        if levelist is not None:
            keys["levelist"] = levelist
        if number is not None:
            keys |= {"type": "pf", "number": str(number) if numbers_as_text else number}
        items = list(line(param, **keys).items())
        rng.shuffle(items)
        lines.append(dict(items))
    index = text(*lines)
    table = read(index if final_newline else index.rstrip(b"\n"))
    assert table.schema == SCHEMA
    assert [
        (r["param"], (r["level_type"], r["level"]), r["member"], r["offset"], r["length"], r["url"], r["sub"])
        for r in table.to_pylist()
    ] == [
        (p, (LEVEL_TYPES.get(kind, kind), None if v is None else float(v)), number, offset, length, "a.grib2", 0)
        for p, (kind, v), number, offset, length in entries
    ]


@given(st.binary(max_size=200))
def test_no_bytes_give_anything_but_a_table_or_one_sentence(index: bytes):
    try:
        assert read(index).schema == SCHEMA
    except CorruptInput as error:
        caught = str(error)
    else:
        return
    assert WHERE in caught


@given(st.integers(0, 600))
def test_an_index_cut_anywhere_inside_a_line_is_noticed(cut: int):
    index = text(*(line("2t", _offset=i * 100) for i in range(4)))
    cut %= len(index)
    whole = index[:cut].endswith(b"\n") or (index[:cut].endswith(b"}"))
    if whole:
        assert read(index[:cut]).num_rows == index[:cut].count(b"}")
    else:
        with pytest.raises(CorruptInput):
            read(index[:cut])


# -- members and levels ------------------------------------------------------------------------------------


def test_pressure_levels_do_not_collapse():
    levels = [1000, 925, 850, 700, 600, 500, 400, 300, 250, 200, 150, 100, 50]
    table = read(text(*(line("t", levtype="pl", levelist=str(v)) for v in levels)))
    assert table["level"].to_pylist() == levels
    assert set(table["level_type"].to_pylist()) == {"isobaricInhPa"}


def test_the_control_of_an_ensemble_is_member_0():
    table = read(text(line(type="cf", stream="enfo"), line(type="pf", stream="enfo", number="7")))
    assert table["member"].to_pylist() == [0, 7]


def test_the_control_after_50r1_is_the_single_run():
    assert read(text(line(type="fc")), member=0)["member"].to_pylist() == [0]


def test_a_single_run_has_no_member():
    assert read(text(line(type="fc")))["member"].to_pylist() == [None]


def test_a_perturbed_member_without_number_is_refused():
    with pytest.raises(CorruptInput, match=r"line 2 is a perturbed member without a number"):
        read(text(line(type="cf"), line(type="pf")))


# -- windows -----------------------------------------------------------------------------------------------


def test_accumulations_begin_with_the_run():
    params = ("tp", "sf", "ro", "ssr", "ssrd", "str", "strd", "ttr", "ewss", "nsss")
    assert windows(24, *params) == dict.fromkeys(params, ("accum", 0))
    assert windows(0, "tp") == {"tp": ("accum", 0)}


def test_instantaneous_fields_have_no_window():
    assert windows(24, "2t", "msl", "sd", "tcc") == dict.fromkeys(("2t", "msl", "sd", "tcc"), ("instant", None))


@pytest.mark.parametrize(
    ("step", "param", "window"),
    [
        (3, "10fg", ("max", 2)),
        (90, "10fg", ("max", 89)),
        (93, "10fg3", ("max", 90)),
        (150, "10fg", ("max", 144)),
        (6, "mx2t3", ("max", 3)),
        (6, "mn2t3", ("min", 3)),
        (156, "mx2t6", ("max", 150)),
        (156, "mn2t6", ("min", 150)),
        (0, "10fg", ("max", 0)),
    ],
)
def test_extremes_cover_the_hours_their_name_or_step_says(step: int, param: str, window: tuple[str, float]):
    """Windows as in the GRIB messages of public ECMWF files: 2-3, 89-90, 90-93 and 144-150 h for the gust."""
    assert windows(step, param) == {param: window}


# -- what goes wrong ---------------------------------------------------------------------------------------

GOOD = text(line("2t"), line("msl", _offset=100), line("tp", _offset=200))


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"<!DOCTYPE html>\n<html>503 Slow Down</html>", "is a web page: expected an index, found .*line 1"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "is a web page"),
        (GOOD[:-30], "line 3 is truncated"),
        (GOOD + b"\n\n" + GOOD[:20], "line 6 is truncated"),
        (GOOD.replace(b'"msl"', b"msl"), "line 2 is no index entry"),
        (GOOD.replace(b'"_length":100', b'"_length":0', 1), "line 1 is no index entry .*>= 1"),
        (GOOD.replace(b'"_offset":200', b'"_offset":-1'), "line 3 is no index entry .*>= 0"),
        (GOOD.replace(b'"_offset":200', b'"_offset":1e300'), "line 3 is no index entry"),
        (GOOD.replace(b'"param":"tp",', b""), "line 3 is no index entry .*param"),
        (text(line(), line(date="20260811")), "line 2 belongs to another run or step: expected 20260812 0000 step 24"),
        (text(line(), line(time="1200")), "line 2 belongs to another run or step"),
        (b"\n" + text(line(), line(step="27")), "line 3 belongs to another run or step: .*found 20260812 0000 step 27"),
        (text(line(step="0-24")), "line 1 is no index entry"),
        (text(line(number="99999", type="pf")), "line 1 is no index entry"),
        (b"1:0:d=2026081200:TMP:surface:24 hour fcst:\n", "line 1 is no index entry"),
        (b"\xff\xfe\x00", "line 1"),
    ],
)
def test_a_malformed_index_is_one_sentence_that_names_the_line(index: bytes, says: str):
    with pytest.raises(CorruptInput, match=says) as caught:
        read(index)
    assert WHERE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_range_beyond_the_file_is_refused():
    assert read(GOOD, size=300).num_rows == 3
    with pytest.raises(CorruptInput, match=r"line 3 reaches beyond .*at most 299 bytes, found byte 300"):
        read(GOOD, size=299)


def test_an_ensemble_step_has_all_its_rows():
    lines = [
        line(f"p{n}", type="pf" if m else "cf", _offset=(m * 160 + n) * 10, **({"number": str(m)} if m else {}))
        for m in range(51)
        for n in range(160)
    ]
    random.Random(1).shuffle(lines)
    table = read(text(*lines))
    assert table.num_rows == 8160
    pairs = {(r["param"], r["member"]) for r in table.select(["param", "member"]).to_pylist()}
    assert len(pairs) == 8160
    assert np.array_equal(table["offset"].to_numpy(), [entry["_offset"] for entry in lines])
