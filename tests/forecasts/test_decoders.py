"""Which decoder reads a message, what happens when it cannot, and that the two agree."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from tasks.forecasts import decoders, isolated
from tasks.forecasts.decode import header
from tasks.forecasts.decoders import ECCODES, GRIBBERISH, Decoder, Decoders, guarded, order
from tasks.forecasts.message import Undecodable, cut, plausible
from tasks.forecasts.scan import scan
from tasks.lake.errors import CorruptInput, ResourceError
from tasks.lake.partition import Partition

from .encoding import SHAPE, encode, field, join, reference, sections

ENCODINGS = {"PNG": 41, "JPEG2000": 40, "COMPLEX_PACKING": 2, "SIMPLE_PACKING": 0, "IEEE_FLOATING_POINT": 4}
"""GDAL's name -> data representation template."""

ECCODES_PACKINGS = ("grid_simple", "grid_ccsds", "grid_complex", "grid_complex_spatial_differencing", "grid_jpeg")


def bad(name: str) -> Decoder:
    return Decoder(name, f"tests.forecasts.bad_decoders:{name}")


def use(monkeypatch: pytest.MonkeyPatch, *choice: Decoder) -> None:
    """Have these decoders tried in this order, whatever the packing."""
    monkeypatch.setattr(decoders, "ORDER", {})
    monkeypatch.setattr(decoders, "DEFAULT", choice)


def by_gdal(folder: Path, encoding: str, holes: bool = False, height: int = 30) -> tuple[bytes, np.ndarray]:
    """A message that GDAL packed (ecCodes here cannot write PNG), and the values it was given."""
    rasterio = pytest.importorskip("rasterio")
    y, x = np.mgrid[:height, :40]
    values = (280 + 10 * np.sin(x / 7) * np.cos(y / 5)).astype(np.float32)
    if holes:
        values[3, 5:9] = 9999
    path = folder / "field.grib2"
    profile = {
        "driver": "GRIB", "width": 40, "height": height, "count": 1, "dtype": "float32", "crs": "EPSG:4326",
        "transform": rasterio.transform.from_bounds(0, 0, 40, height, 40, height), "nodata": 9999 if holes else None,
    }  # fmt: skip
    with rasterio.open(path, "w", DATA_ENCODING=encoding, NBITS=16, **profile) as file:
        file.write(values, 1)
    return path.read_bytes(), np.where(values == 9999, np.nan, values)


@pytest.mark.parametrize(("encoding", "holes"), [*((e, False) for e in ENCODINGS), ("COMPLEX_PACKING", True)])
def test_packings_that_gdal_writes(encoding: str, holes: bool, tmp_path: Path):
    message, written = by_gdal(tmp_path, encoding, holes)
    assert message[message.index(sections(message)[5]) + 9 :][:2] == ENCODINGS[encoding].to_bytes(2, "big")
    mine = Decoders(checked=1)
    found, values = mine.read(message)
    # GDAL writes the row in the north first or last, as it likes; ecCodes says which.
    rows = values[::-1] if message_scans_north(message) else values
    assert found.shape == written.shape
    np.testing.assert_array_equal(np.isnan(rows), np.isnan(written))
    np.testing.assert_allclose(rows, written, atol=20 / 2**16)
    by_hand = reference(message).reshape(written.shape)
    np.testing.assert_array_equal(values[~np.isnan(values)], by_hand[~np.isnan(values)].astype(np.float32))
    first = "gribberish" if encoding == "PNG" else "ecCodes"
    wanted = {f"decode_{first}": 1}
    assert mine.metrics == (wanted if encoding == "IEEE_FLOATING_POINT" else wanted | {"decode_cross_checked": 1})


@pytest.mark.parametrize("encoding", ["PNG", "JPEG2000"])
def test_pictures_with_a_bitmap(encoding: str, tmp_path: Path):
    """GDAL writes none: the picture of 29 rows in a grid of 30, whose bitmap leaves out the row between."""
    whole, _ = by_gdal(tmp_path, encoding)
    less, _ = by_gdal(tmp_path, encoding, height=29)
    grid, data = sections(whole), sections(less)
    there = np.ones((30, 40), bool)
    there[7] = False
    bits = np.packbits(there).tobytes()
    bitmap = (6 + len(bits)).to_bytes(4, "big") + b"\x06\x00" + bits
    message = join(whole, [grid[1], grid[3], grid[4], data[5], bitmap, data[7]])
    mine = Decoders(checked=1)
    values = mine.decode(message)
    assert mine.metrics == {f"decode_{'gribberish' if encoding == 'PNG' else 'ecCodes'}": 1, "decode_cross_checked": 1}
    np.testing.assert_array_equal(np.isnan(values), ~there)
    np.testing.assert_array_equal(values[there], reference(less).astype(np.float32))


def message_scans_north(message: bytes) -> bool:
    latitudes = reference(message, "latitudes")
    return bool(latitudes[0] < latitudes[-1])


def test_the_choice_is_a_table():
    assert order(encode(field(), packingType="grid_ccsds")) == (ECCODES, GRIBBERISH)
    assert order(encode(field(), packingType="grid_ieee")) == (ECCODES,)
    assert order(encode(field(), 1)) == (ECCODES, GRIBBERISH)
    png = bytearray(encode(field()))
    at = bytes(png).index(sections(bytes(png))[5])
    png[at + 9 : at + 11] = (41).to_bytes(2, "big")
    assert order(bytes(png)) == (GRIBBERISH, ECCODES)


@pytest.mark.parametrize("packing", ECCODES_PACKINGS)
@pytest.mark.parametrize("mode", [0x00, 0x10, 0x20, 0x30, 0x40])
def test_gribberish_reads_as_ecCodes_does_in_every_scanning_mode(
    packing: str, mode: int, monkeypatch: pytest.MonkeyPatch
):
    holes = np.zeros(SHAPE, bool)
    holes[2, 3:5] = True
    for missing in (None, holes):
        message = encode(field(4), packingType=packing, scanningMode=mode, missing=missing)
        by_eccodes = Decoders(checked=None).decode(message)
        with monkeypatch.context() as patch:
            use(patch, GRIBBERISH)
            np.testing.assert_array_equal(Decoders(checked=None).decode(message), by_eccodes)


@pytest.mark.parametrize("packing", [*ECCODES_PACKINGS, "grid_ieee"])
def test_a_child_reads_the_same(packing: str):
    message = encode(field(), packingType=packing, scanningMode=0x10)
    apart = Decoders(isolated=True, checked=1)
    found, values = apart.read(message)
    assert found == header(message)
    np.testing.assert_array_equal(values, Decoders().decode(message))
    assert apart.metrics["decode_isolated"] == 1
    assert apart.header(message) == found


def test_a_worker_that_was_lost_makes_careful():
    assert not guarded(Partition("run/t2m", "f")).isolated
    assert guarded(Partition("run/t2m", "f", lost=1)).isolated


# -- falling back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True])
def test_what_the_first_refuses_the_second_reads(apart: bool, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, bad("refuse"), GRIBBERISH)
    mine = Decoders(isolated=apart, checked=1)
    np.testing.assert_array_equal(mine.decode(encode(field())).reshape(-1), reference(encode(field())).astype("f4"))
    assert mine.metrics == {"decode_gribberish": 1, "decode_fallback": 1, "decode_isolated": 1}


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("crash", "it was ended by SIGSEGV"),
        ("hang", "it was not done after 2 s"),
        ("eat", "it wanted more than 64 MiB of memory"),
        ("fail", "it ended without an answer, exit code 1: .* a defect of the decoder"),
    ],
)
def test_a_decoder_that_dies_leaves_this_process_alone(way: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolated, "SECONDS", 2.0 if way == "hang" else 60.0)
    monkeypatch.setattr(isolated, "MEMORY", 64 * 2**20)
    message = encode(field())
    use(monkeypatch, bad(way), ECCODES)
    mine = Decoders(isolated=True)
    np.testing.assert_array_equal(mine.decode(message).reshape(-1), reference(message).astype(np.float32))
    assert mine.metrics["decode_fallback"] == 1
    use(monkeypatch, bad(way), bad("refuse"))
    why = rf"at f byte 7 \(simple packing\) cannot be decoded: {way}: {said}.*; it does"
    with pytest.raises(CorruptInput, match=why):
        mine.decode(message, where="f byte 7")


def test_memory_that_lacks_for_both_is_no_damage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolated, "MEMORY", 64 * 2**20)
    use(monkeypatch, bad("eat"))
    with pytest.raises(ResourceError):
        Decoders(isolated=True).decode(encode(field()))


def spoilt(packing: str, octet: int, value: int) -> bytes:
    """A message with another value in an octet (from 1) of its data representation section."""
    message = bytearray(encode(field(), packingType=packing))
    at = bytes(message).index(sections(bytes(message))[5])
    message[at + octet - 1] = value
    return bytes(message)


@pytest.mark.parametrize("octet", [20, 36, 37])
def test_a_message_on_which_ecCodes_ends_the_process_is_named(octet: int):
    message = spoilt("grid_complex", octet, 174)
    assert not plausible(message)
    with pytest.raises(CorruptInput, match=r"at f 12 \(complex packing\) cannot be decoded: ecCodes: it was ended by"):
        Decoders().read(message, where="f 12")


def test_a_message_on_which_only_ecCodes_ends_the_process_is_read():
    # Bits of the scaled lengths of groups, of which this message has one, whose length is elsewhere.
    message = spoilt("grid_complex", 47, 70)
    mine = Decoders()
    np.testing.assert_array_equal(mine.decode(message), Decoders().decode(encode(field(), packingType="grid_complex")))
    assert mine.metrics == {"decode_gribberish": 1, "decode_fallback": 1, "decode_isolated": 1}


@pytest.mark.parametrize("packing", ["grid_complex", "grid_complex_spatial_differencing", "grid_ccsds", "grid_simple"])
def test_what_is_whole_is_plausible(packing: str):
    assert plausible(encode(field(), packingType=packing))


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["grid_complex", "grid_complex_spatial_differencing", "grid_ccsds"])
def test_no_spoilt_byte_ends_this_process(packing: str):
    """One byte of sections 5 to 7 spoilt at a time: a typed error or values, whatever the decoders do."""
    base = encode(field(), packingType=packing)
    begin = base.index(sections(base)[5])
    rng = np.random.default_rng(3)
    for at in range(begin, len(base) - 4, 2):
        message = base[:at] + bytes([int(rng.integers(256))]) + base[at + 1 :]
        with contextlib.suppress(CorruptInput, Undecodable):
            Decoders(isolated=True, checked=None).decode(message)


# -- agreeing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True])
def test_a_disagreement_is_named_with_both_values(apart: bool, monkeypatch: pytest.MonkeyPatch):
    message = encode(field(), bitsPerValue=16)
    value = np.float32(reference(message)[11])
    for way, other in (("differ", value + 1), ("lose", np.nan)):
        use(monkeypatch, ECCODES, bad(way))
        with pytest.raises(CorruptInput) as error:
            Decoders(isolated=apart, checked=1).decode(message, where="f at 7")
        text = str(error.value)
        assert text.startswith("the decoders disagree on the message at f at 7 (simple packing) at row 1, column 3")
        assert text.endswith(f"expected {value:.9g} (ecCodes), found {other:.9g} ({way})")


def test_another_rounding_is_no_disagreement(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, ECCODES, bad("round_otherwise"))
    mine = Decoders(checked=1)
    mine.decode(encode(field(), bitsPerValue=16))
    assert mine.metrics["decode_cross_checked"] == 1


def test_the_sample_follows_from_the_messages():
    messages = [encode(field(i)) for i in range(200)]

    def sampled(checked: int | None) -> list[int]:
        found = []
        for number, message in enumerate(messages):
            mine = Decoders(checked=checked)
            mine.decode(message)
            if "decode_cross_checked" in mine.metrics:
                found.append(number)
        return found

    assert sampled(8) == sampled(8)
    assert 10 < len(sampled(8)) < 45
    assert sampled(None) == []


@pytest.mark.real
def test_the_decoders_agree_on_every_field_of_every_real_file(shared: Path):
    files = [p for p in sorted((shared / "data").rglob("*")) if p.is_file() and p.read_bytes()[:4] == b"GRIB"]
    fields, compared = 0, 0
    for file in files:
        data = file.read_bytes()
        mine = Decoders(checked=1)
        for place in scan(data):
            message = data[place.offset : place.offset + place.length]
            for sub in range(place.sub_count):
                mine.decode(bytes(cut(message, sub)), where=file.name)
                fields += 1
        compared += int(mine.metrics.get("decode_cross_checked", 0))
        assert "decode_fallback" not in mine.metrics, file.name
    # Not compared: IEEE floats, rotated and reduced grids of edition 1.
    assert fields - compared == 14
