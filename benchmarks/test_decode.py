"""Decoding by packing: ours against bare ecCodes and gribberish, on one core and two threads; and what care costs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import eccodes
import gribberish
import numpy as np
import pytest
from gribapi.bindings import ffi, lib

from tasks.forecasts.decode_eccodes import FLOAT32_PACKINGS
from tasks.forecasts.decoders import Decoders, order

NY, NX = 721, 1440
ROUNDS = 3
FIELDS = 8
"""Fields of a round."""

PACKINGS = ("grid_ccsds", "grid_complex_spatial_differencing", "grid_complex", "grid_simple", "grid_ieee", "grid_jpeg")
_buffers = threading.local()


def values() -> np.ndarray:
    """A smooth field with a little noise, float64 of a 0.25-degree globe."""
    latitude = np.deg2rad(np.linspace(90, -90, NY))[:, None]
    longitude = np.deg2rad(np.arange(NX) / 4)[None, :]
    wave = np.cos(latitude) * np.sin(3 * longitude) + 0.3 * np.sin(9 * longitude) * np.cos(7 * latitude)
    return 280 + 30 * (wave + 0.002 * np.random.default_rng(0).standard_normal((NY, NX)))


def packed(packing: str) -> bytes:
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    keys = {
        "Ni": NX, "Nj": NY, "latitudeOfFirstGridPointInDegrees": 90, "latitudeOfLastGridPointInDegrees": -90,
        "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 359.75,
        "iDirectionIncrementInDegrees": 0.25, "jDirectionIncrementInDegrees": 0.25, "shortName": "2t",
        "bitsPerValue": 16 if packing in ("grid_ccsds", "grid_simple", "grid_ieee") else 12,
    }  # fmt: skip
    try:
        for key, value in keys.items():
            eccodes.codes_set(handle, key, value)
        eccodes.codes_set_values(handle, values().ravel())
        eccodes.codes_set(handle, "packingType", packing)
        return eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)


def png(folder: Path) -> bytes:
    """The field packed as PNG, which ecCodes as distributed here cannot write."""
    import rasterio

    path = folder / "png.grib2"
    place = rasterio.transform.from_bounds(-180, -90.125, 180, 90.125, NX, NY)
    with rasterio.open(
        path, "w", driver="GRIB", width=NX, height=NY, count=1, dtype="float32", crs="EPSG:4326", transform=place,
        DATA_ENCODING="PNG", NBITS=12,
    ) as file:  # fmt: skip
        file.write(values().astype(np.float32), 1)
    return path.read_bytes()


def buffer(dtype: str) -> np.ndarray:
    """This thread's memory for a field: fresh memory would cost as much as decoding."""
    if not hasattr(_buffers, dtype):
        setattr(_buffers, dtype, np.empty((NY, NX), dtype))
    return getattr(_buffers, dtype)


def bare(packing: str) -> Callable[[bytes], None]:
    """ecCodes and nothing else: opened, unpacked by its quickest call that works into memory used again, released."""
    kind, name = ("float32", "float") if packing in FLOAT32_PACKINGS else ("float64", "double")

    def once(message: bytes) -> None:
        handle = eccodes.codes_new_from_message(message)
        length = ffi.new("size_t *", NY * NX)
        target = ffi.cast(f"{name} *", buffer(kind).ctypes.data)
        unpack = getattr(lib, f"grib_get_{name}_array")
        assert unpack(ffi.cast("grib_handle *", handle), b"values", target, length) == 0
        eccodes.codes_release(handle)

    return once


def usual(message: bytes) -> None:
    """As its Python examples do it."""
    handle = eccodes.codes_new_from_message(message)
    eccodes.codes_get_values(handle)
    eccodes.codes_release(handle)


def rate(work: Callable[[bytes], Any], message: bytes, fields: int, threads: int) -> float:
    """Fields a second."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [message] * threads * 2))
        begun = time.perf_counter()
        list(pool.map(work, [message] * fields))
        return fields / (time.perf_counter() - begun)


def fastest(ways: dict[str, tuple[Callable[[bytes], Any], int]], message: bytes, fields: int) -> dict[str, float]:
    """The best rate of each way (work, threads) of some rounds, taken in turn so that all see the same machine."""
    best = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, (work, threads) in ways.items():
            best[name] = max(best[name], rate(work, message, fields * threads, threads))
    return best


@pytest.fixture
def messages(tmp_path: Path) -> dict[str, bytes]:
    return {p: packed(p) for p in PACKINGS} | {"grid_png": png(tmp_path)}


def test_decode(benchmark, messages: dict[str, bytes]):
    """Fields a second by packing."""
    rows = []
    for packing, message in messages.items():
        mine = Decoders(checked=None)

        def ours(data: bytes, mine: Decoders = mine) -> None:
            mine.decode(data, out=buffer("float32"))

        def rust(data: bytes) -> None:
            gribberish.parse_grib_array(data, 0)

        simple = bare(packing)
        ways = {"bare": (simple, 1), "bare 2": (simple, 2), "usual": (usual, 1), "ours": (ours, 1), "ours 2": (ours, 2)}
        if packing != "grid_ieee":
            ways |= {"gribberish": (rust, 1), "gribberish 2": (rust, 2)}
        found = fastest(ways, message, 2 if packing == "grid_jpeg" else FIELDS)
        rows.append(
            {
                "packing": packing.removeprefix("grid_"),
                "bare ecCodes": found["bare"], "2 threads": found["bare 2"] / found["bare"],
                "codes_get_values": found["usual"],
                "gribberish": found.get("gribberish", ""),
                "gribberish, 2 threads": found["gribberish 2"] / found["gribberish"] if "gribberish" in found else "",
                "first choice": order(message)[0].name,
                "ours": found["ours"], "ours / bare ecCodes": found["ours"] / found["bare"],
                "ours, 2 threads": found["ours 2"] / found["ours"],
            }
        )  # fmt: skip
    benchmark.extra_info.update({"table": "decode", "rows": rows})
    benchmark.pedantic(lambda: None, rounds=1)


def test_care(benchmark, messages: dict[str, bytes]):
    """What the header, a second opinion and a child process cost, by the field."""
    rows = []
    for packing in ("grid_ccsds", "grid_complex_spatial_differencing"):
        plain, checked, apart = Decoders(checked=None), Decoders(checked=1), Decoders(isolated=True, checked=None)
        ways: dict[str, tuple[Callable[[bytes], Any], int]] = {
            "values": (lambda m, d=plain: d.decode(m, out=buffer("float32")), 1),
            "values and header": (lambda m, d=plain: d.read(m, out=buffer("float32")), 1),
            "values, read by both decoders": (lambda m, d=checked: d.decode(m, out=buffer("float32")), 1),
            "values, in a child process": (lambda m, d=apart: d.decode(m, out=buffer("float32")), 1),
        }
        found = fastest(ways, messages[packing], FIELDS)
        rows += [
            {"packing": packing.removeprefix("grid_"), "what": name, "ms a field": 1e3 / n,
             "times the values alone": found["values"] / n}
            for name, n in found.items()
        ]  # fmt: skip
    benchmark.extra_info.update({"table": "decode-care", "rows": rows})
    benchmark.pedantic(lambda: None, rounds=1)
