"""The decoder against ecCodes' own reading of the same messages, and its manners with broken ones."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import eccodes
import numpy as np
import pytest

from tasks.forecasts.decode import Undecodable, decode, decode_second, header, verify
from tasks.forecasts.message import cut
from tasks.forecasts.scan import scan
from tasks.lake.errors import CorruptInput

from .encoding import SHAPE, encode, field, join, reference, sections

REFERENCE = """
import sys, numpy as np, eccodes
eccodes.codes_grib_multi_support_on()
folder = sys.argv[2]
count = 0
with open(sys.argv[1], "rb") as file:
    while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
        eccodes.codes_set(handle, "missingValue", -1e30)
        values = eccodes.codes_get_values(handle)
        if eccodes.codes_is_defined(handle, "scanningMode") and eccodes.codes_get(handle, "scanningMode") & 0x10:
            rows = values.reshape(eccodes.codes_get(handle, "Ny"), eccodes.codes_get(handle, "Nx"))
            rows[1::2] = rows[1::2, ::-1].copy()
        np.save(f"{folder}/{count}.npy", np.where(values == -1e30, np.nan, values).astype(np.float32))
        eccodes.codes_release(handle)
        count += 1
print(count)
"""

PACKINGS = ("grid_simple", "grid_ccsds", "grid_complex", "grid_complex_spatial_differencing", "grid_ieee", "grid_jpeg")


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("holes", [False, True])
def test_every_packing_decodes_as_ecCodes_does(packing: str, holes: bool):
    missing = np.zeros(SHAPE, bool)
    if holes:
        missing[1, 2] = missing[4] = True
    message = encode(field(), packingType=packing, missing=missing if holes else None)
    values = decode(message)
    expected = reference(message).reshape(SHAPE).astype(np.float32)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(values), missing)
    np.testing.assert_array_equal(values[~missing], expected[~missing])


@pytest.mark.parametrize("edition", [1, 2])
def test_a_constant_field_and_an_empty_one(edition: int):
    np.testing.assert_array_equal(decode(encode(np.full(SHAPE, 273.5), edition)), np.full(SHAPE, 273.5, np.float32))
    assert np.isnan(decode(encode(field(), edition, missing=np.ones(SHAPE, bool)))).all()


def test_the_first_edition():
    message = encode(field(3), 1, bitsPerValue=16)
    np.testing.assert_array_equal(decode(message).reshape(-1), reference(message).astype(np.float32))
    found = header(message)
    assert (found.edition, found.short_name, found.shape, found.member) == (1, "2t", SHAPE, None)


def test_out_is_filled_and_returned():
    message = encode(field())
    out = np.full(SHAPE, np.nan, np.float32)
    assert decode(message, out=out) is out
    np.testing.assert_array_equal(out, decode(message))


@pytest.mark.parametrize(
    "out", [np.empty(SHAPE, np.float64), np.empty(SHAPE[::-1], np.float32), np.empty(SHAPE[::-1], np.float32).T]
)
def test_an_out_that_does_not_fit_is_refused(out: np.ndarray):
    with pytest.raises(ValueError, match="C-contiguous float32"):
        decode(encode(field()), out=out)


@pytest.mark.parametrize("scan_mode", [0x00, 0x20, 0x40, 0x60, 0x80, 0xA0])
def test_scanning_modes_come_as_rows_from_the_first_point_on(scan_mode: int):
    # ecCodes' own triples of latitude, longitude and value say where the values belong.
    edges = (-80, 80) if scan_mode & 0x40 else (80, -80)
    sides = (315, 0) if scan_mode & 0x80 else (0, 315)
    message = encode(
        field(5), scanningMode=scan_mode, packingType="grid_ieee",
        latitudeOfFirstGridPointInDegrees=edges[0], latitudeOfLastGridPointInDegrees=edges[1],
        longitudeOfFirstGridPointInDegrees=sides[0], longitudeOfLastGridPointInDegrees=sides[1],
    )  # fmt: skip
    triples = reference(message, "latLonValues").reshape(-1, 3)
    placed = {(round(lat, 3), round(lon, 3)): value for lat, lon, value in triples}
    latitude, longitude = np.linspace(*edges, SHAPE[0]), np.linspace(*sides, SHAPE[1])
    expected = [[placed[(round(lat, 3), round(lon, 3))] for lon in longitude] for lat in latitude]
    np.testing.assert_array_equal(decode(message), np.array(expected, np.float32))


@pytest.mark.parametrize("scan_mode", [0x10, 0x50])
def test_rows_that_run_to_and_fro_are_those_ecCodes_straightens(scan_mode: int):
    message = encode(field(6), scanningMode=scan_mode, packingType="grid_ieee")
    handle = eccodes.codes_new_from_message(message)
    eccodes.codes_set(handle, "swapScanningAlternativeRows", 1)
    straight = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    np.testing.assert_array_equal(decode(message), reference(straight).reshape(SHAPE).astype(np.float32))
    assert (decode(message)[1] != reference(message).reshape(SHAPE).astype(np.float32)[1]).any()


def test_columns_that_run_to_and_fro():
    # Code table 3.4: with bit 3 (columns one after the other) bit 4 turns every other column.
    expected = field(7).astype(np.float32)
    stored = expected.T.copy()
    stored[1::2] = stored[1::2, ::-1].copy()
    message = encode(stored, scanningMode=0x30, packingType="grid_ieee")
    np.testing.assert_array_equal(decode(message), expected)


def two_fields(second: dict[str, object], **first: object) -> tuple[bytes, bytes, bytes]:
    """Two messages and one message that holds both fields, sections 4 to 7 repeated."""
    a, b = encode(field(1), **first), encode(field(2), **second)  # type: ignore[arg-type]
    one, two = sections(a), sections(b)
    parts = [*(one[n] for n in sorted(one)), *(two[n] for n in (4, 5, 6, 7))]
    return a, b, join(a, parts)


def test_fields_of_one_message_are_told_apart():
    a, b, both = two_fields({"shortName": "10v"}, shortName="10u")
    assert [header(both, sub).short_name for sub in (0, 1)] == ["10u", "10v"]
    np.testing.assert_array_equal(decode(both, 0), decode(a))
    np.testing.assert_array_equal(decode(both, 1), decode(b))
    np.testing.assert_array_equal(decode_second(both, 1), reference(b))
    assert cut(a) is a
    with pytest.raises(CorruptInput, match="number below 2, found field 2"):
        decode(both, 2)


def test_a_bitmap_can_be_the_one_of_the_field_before():
    holes = np.zeros(SHAPE, bool)
    holes[2, 3:] = True
    a, b = encode(field(1), missing=holes), encode(field(2), missing=holes)
    one, two = sections(a), sections(b)
    same_again = (6).to_bytes(4, "big") + bytes([6, 254])
    both = join(a, [*(one[n] for n in sorted(one)), two[4], two[5], same_again, two[7]])
    np.testing.assert_array_equal(decode(both, 1), decode(b))
    nothing_before = join(a, [*(one[n] for n in (1, 3, 4, 5)), same_again, one[7], *(two[n] for n in (4, 5, 6, 7))])
    with pytest.raises(CorruptInput, match="no earlier field has one"):
        decode(nothing_before, 0)


def test_headers_of_a_member_over_a_window():
    message = encode(
        field(), productDefinitionTemplateNumber=11, shortName="tp", stepType="accum", startStep=0, endStep=9,
        perturbationNumber=3, packingType="grid_ccsds", bitsPerValue=12,
    )  # fmt: skip
    found = header(message)
    assert (found.short_name, found.step_type, found.start_step, found.end_step) == ("tp", "accum", 0.0, 9.0)
    assert (found.member, found.packing_type, found.bits_per_value) == (3, "grid_ccsds", 12)
    assert found.init_time == datetime(2026, 11, 20, 6, tzinfo=UTC)
    assert found.valid_time == datetime(2026, 11, 20, 15, tzinfo=UTC)


def test_headers_below_the_hour():
    found = header(encode(field(), indicatorOfUnitOfTimeRange=0, forecastTime=45))
    assert (found.start_step, found.end_step) == (0.75, 0.75)
    assert found.valid_time == datetime(2026, 11, 20, 6, 45, tzinfo=UTC)


@pytest.mark.parametrize("edition", [1, 2])
def test_broken_messages_are_named(edition: int):
    message = encode(field(), edition)
    assert verify(message).length == len(message)
    broken = {
        "is truncated": message[:-10],
        "does not start with GRIB": b"<htm" + message[4:],
        "unknown GRIB edition": message[:7] + b"\x09" + message[8:],
        "does not end with 7777": message[:-4] + b"7778",
        "does not end with the message": message + b"\0",
        "does not fit|do not add up|lacks|unknown section": message[: 8 if edition == 1 else 16]
        + b"\x00\xff\xff\xff"[edition == 1 :]
        + message[11 if edition == 1 else 20 :],
    }
    for reason, data in broken.items():
        with pytest.raises(CorruptInput, match=reason):
            verify(data)
        with pytest.raises(CorruptInput):
            decode(data)


@pytest.mark.parametrize("cut_at", range(0, 180, 7))
def test_no_truncation_gets_through(cut_at: int):
    with pytest.raises(CorruptInput):
        verify(encode(field())[:cut_at])


def test_a_packing_nobody_knows_is_named():
    message = bytearray(encode(field()))
    at = message.index(sections(bytes(message))[5])
    message[at + 9 : at + 11] = (60000).to_bytes(2, "big")
    with pytest.raises(Undecodable, match=r"template 5\.60000"):
        decode(bytes(message))
    with pytest.raises(Undecodable):
        decode_second(bytes(message))


def test_threads_do_not_disturb_each_other():
    messages = [encode(field(i), packingType=p) for i, p in enumerate(PACKINGS)]
    alone = [decode(m) for m in messages]
    start = threading.Barrier(8)

    def work(_: int) -> None:
        start.wait()
        for _ in range(30):
            for message, expected in zip(messages, alone, strict=True):
                np.testing.assert_array_equal(decode(message), expected)
                assert header(message).short_name == "2t"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def grib_files(shared: Path) -> list[Path]:
    """Every GRIB file among the real ones."""
    return sorted(p for p in (shared / "data").rglob("*") if p.is_file() and p.read_bytes()[:4] == b"GRIB")


@pytest.mark.real
def test_every_field_of_every_real_file_is_what_ecCodes_reads(shared: Path, tmp_path: Path):
    files = grib_files(shared)
    assert len(files) > 25
    for file in files:
        done = subprocess.run(
            [sys.executable, "-c", REFERENCE, str(file), str(tmp_path)], capture_output=True, text=True, check=True
        )
        data = file.read_bytes()
        fields = [(p, sub) for p in scan(data) for sub in range(p.sub_count)]
        assert len(fields) == int(done.stdout), file.name
        for number, (place, sub) in enumerate(fields):
            message = data[place.offset : place.offset + place.length]
            values = decode(message, sub)
            expected = np.load(tmp_path / f"{number}.npy")
            np.testing.assert_array_equal(values.reshape(-1), expected, err_msg=f"{file.name} {number}")


@pytest.mark.real
def test_the_second_decoder_agrees_on_real_files(shared: Path):
    names = (
        "ecmwf/20260702000000-24h-enfo-ef.2t.m1-3.grib2",
        "hrrr_nam/hrrr.wrfsubhf.sample.grib2",
        "gfs/subgrids.grib2",
        "gefs/gec00_20250101_00_soilw.grib2",
        "gfswave/gfswave.t18z.atlocn.0p16.f001.grib2",
    )
    for name in names:
        data = (shared / "data" / name).read_bytes()
        for place in scan(data):
            message = data[place.offset : place.offset + place.length]
            for sub in range(place.sub_count):
                np.testing.assert_array_equal(
                    decode(message, sub).reshape(-1), decode_second(message, sub).astype(np.float32), err_msg=name
                )
