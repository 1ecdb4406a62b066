"""The section walk of whole files, and the table of a file without an index."""

import mmap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.forecasts import scan as scan_module
from tasks.forecasts.decode import Header, header
from tasks.forecasts.manifest import SCHEMA
from tasks.forecasts.scan import Place, scan, scan_manifest
from tasks.lake.errors import CorruptInput

from .encoding import encode, field, join, sections
from .test_decode import grib_files

MESSAGES = (
    encode(field(1)),
    encode(field(2), 1),
    encode(field(3), productDefinitionTemplateNumber=1, perturbationNumber=7, shortName="10u", endStep=12),
    encode(field(4), productDefinitionTemplateNumber=8, shortName="tp", stepType="accum", startStep=6, endStep=12),
)
TOTAL = {"productDefinitionTemplateNumber": 8, "shortName": "tp", "stepType": "accum"}
RUN = datetime(2026, 11, 20, 6, tzinfo=UTC)
JUNK = st.binary(max_size=40).filter(lambda b: b"G" not in b) | st.sampled_from(
    [b"", b"\r\r\n001\r\r\n", b"GRIB of old\0\0"]
)


@given(st.lists(st.tuples(JUNK, st.sampled_from(MESSAGES)), max_size=6), JUNK)
def test_messages_are_found_between_anything(parts: list[tuple[bytes, bytes]], tail: bytes):
    data, expected = b"", []
    for junk, message in parts:
        data += junk
        expected.append(Place(len(data), len(message), 1))
        data += message
    assert scan(data + tail) == expected
    assert scan(memoryview(data + tail)) == expected


def test_a_message_of_several_fields_counts_them():
    one, two = sections(MESSAGES[0]), sections(encode(field(2), shortName="10u"))
    both = join(MESSAGES[0], [*(one[n] for n in sorted(one)), *(two[n] for n in (4, 5, 6, 7))])
    assert scan(MESSAGES[2] + both) == [(0, len(MESSAGES[2]), 1), (len(MESSAGES[2]), len(both), 2)]
    table = scan_manifest(both, "file:///a.grib2")
    assert table["param"].to_pylist() == ["2t", "10u"]
    assert table["sub"].to_pylist() == [0, 1]
    assert table["offset"].to_pylist() == [0, 0]


@given(st.data())
def test_a_truncated_last_message_is_named(data: st.DataObject):
    first, last = MESSAGES[0], data.draw(st.sampled_from(MESSAGES))
    kept = data.draw(st.integers(4, len(last) - 1))
    with pytest.raises(CorruptInput, match=f"at byte {len(first)} "):
        scan(first + last[:kept])


def test_an_empty_file_has_no_messages_and_makes_no_table():
    assert scan(b"") == []
    with pytest.raises(CorruptInput, match="holds no GRIB message"):
        scan_manifest(b"<html></html>", "x")


def test_the_table_says_what_an_index_would():
    table = scan_manifest(b"".join(MESSAGES), "file:///a.grib2", run=RUN)
    assert table.schema == SCHEMA
    assert table["param"].to_pylist() == ["2t", "2t", "10u", "tp"]
    assert table["level_type"].to_pylist() == [
        "heightAboveGround",
        "surface",
        "heightAboveGround",
        "surface",
    ]  # edition 1 has no 2 m
    assert table["level"].to_pylist() == [2, None, 10, None]
    assert table["member"].to_pylist() == [None, None, 7, None]
    assert table["lead_time"].cast(pa.int64()).to_pylist() == [0, 0, 43200, 43200]
    assert table["window"].to_pylist() == ["instant"] * 3 + ["accum"]
    assert table["window_start"].cast(pa.int64()).to_pylist() == [None, None, None, 21600]
    assert set(table["url"].to_pylist()) == {"file:///a.grib2"}
    assert scan_manifest(MESSAGES[0], "x", member=4)["member"].to_pylist() == [4]


def test_messages_of_another_run_are_refused():
    with pytest.raises(
        CorruptInput, match="byte 0 belongs to another run: expected 2026-11-20T12:00, found 2026-11-20T06:00"
    ):
        scan_manifest(MESSAGES[0], "x", run=datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: encode(field(9), dataDate=20270101, forecastTime=30),
        lambda m: encode(field(9), productDefinitionTemplateNumber=1, perturbationNumber=9, forecastTime=3),
        lambda m: encode(field(9), indicatorOfUnitOfTimeRange=0, forecastTime=90),
        lambda m: encode(field(9), **TOTAL, startStep=18, endStep=24),
        lambda m: encode(field(9), **TOTAL, startStep=0, endStep=24),
        lambda m: encode(field(9), shortName="2d"),
    ],
)  # fmt: skip
def test_names_known_from_another_message_are_not_mixed_up(change: Callable[[bytes], bytes]):
    for message in (*MESSAGES, change(b"")):
        row, found = scan_manifest(message, "x").to_pylist()[0], header(message)
        assert_same(row, found)


def test_members_and_steps_of_a_product_are_named_once(monkeypatch: pytest.MonkeyPatch):
    ensemble = [
        encode(field(m), productDefinitionTemplateNumber=1, perturbationNumber=m, forecastTime=h, shortName="sp")
        for m in range(5)
        for h in (0, 6, 12)
    ]
    asked: list[int] = []
    monkeypatch.setattr(scan_module, "header", lambda view, sub: asked.append(sub) or header(view, sub))
    table = scan_manifest(b"".join(ensemble), "x")
    assert table["member"].to_pylist() == [m for m in range(5) for _ in range(3)]
    assert len(asked) == 1


def assert_same(row: dict, found: Header) -> None:
    """A row of the table says the same as ecCodes' header of the message."""
    start = None if found.step_type == "instant" else found.start_step * 3600
    assert (row["param"], row["level_type"], row["window"]) == (found.short_name, found.type_of_level, found.step_type)
    assert (row["level"] or 0, row["member"]) == (found.level, found.member)
    assert row["lead_time"].total_seconds() == found.end_step * 3600
    assert (None if row["window_start"] is None else row["window_start"].total_seconds()) == start


@pytest.mark.real
def test_every_row_of_every_real_file_is_what_ecCodes_says(shared: Path):
    for path in grib_files(shared):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            rows = scan_manifest(mapped, "x").to_pylist()
        data = path.read_bytes()
        for row in rows:
            assert_same(row, header(data[row["offset"] : row["offset"] + row["length"]], row["sub"]))


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["gfs/gfs.t06z.pgrb2.10p0.f010.grib2", "gfs/subgrids.grib2", "gfswave/gfswave.t18z.atlocn.0p16.f001.grib2"]
)
def test_ranges_are_those_of_the_real_index(shared: Path, name: str):
    path = shared / "data" / name
    lines = [line.split(":") for line in (path.with_name(path.name + ".idx")).read_text().splitlines()]
    table = scan_manifest(path.read_bytes(), "x")
    np.testing.assert_array_equal(table["offset"].to_numpy(), [int(line[1]) for line in lines])
