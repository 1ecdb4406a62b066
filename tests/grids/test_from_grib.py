"""Grids of GRIB messages against ecCodes' own latitudes and longitudes."""

from pathlib import Path

import eccodes
import numpy as np
import pytest

from tasks.grids.from_grib import from_grib
from tasks.lake.errors import CorruptInput, UsageError

FILES = {
    "grids/O32_global.grib2": ("unstructured", (5248,)),
    "grids/t_n48.grib": ("unstructured", (13280,)),
    "grids/hpa_and_pa.grib": ("rectilinear", (37, 72)),
    "grids/mercator.grib": ("curvilinear", (225, 339)),
    "grids/meteofrance.mfwam.arome-SWELL.grib2": ("rectilinear", (601, 801)),
    "grids/pl_regular_ll.grib": ("rectilinear", (19, 36)),
    "grids/rotated_wind_20x20.grib": ("curvilinear", (9, 18)),
    "grids/step_60m.grib": ("rectilinear", (3, 3)),
    "grids/wind_20x20.grib": ("rectilinear", (9, 18)),
    "gfs/gfs.20111008.2p5deg.f072.grib2": ("rectilinear", (73, 144)),
    "gfs/gfs.20240820.t12z.0p25.f044.TMAX.grib2": ("rectilinear", (721, 1440)),
    "gfs/gfs.2026081406.f000.crop.grib2": ("rectilinear", (80, 80)),
    "gfs/gfs.t06z.pgrb2.10p0.f010.grib2": ("rectilinear", (18, 36)),
    "hrrr_nam/hrrr.t06z.wrfsfcf01-CFRZR.grib2": ("curvilinear", (1059, 1799)),
    "hrrr_nam/nam.t00z.awp21100.tm00.grib2": ("curvilinear", (65, 93)),
    "ecmwf/20230711120000-3h-oper-fc.skt.0p4.grib2": ("rectilinear", (451, 900)),
    "ecmwf/aifs-single-t500.grib2": ("rectilinear", (721, 1440)),
    "gefs/gec00_20250101_00_soilw.grib2": ("rectilinear", (361, 720)),
    "ens_small/ens_50.grib": ("rectilinear", (2, 3)),
    "ens_small/wgust_ens.grib": ("rectilinear", (41, 51)),
    "gfswave/gfswave.t18z.atlocn.0p16.f001.grib2": ("rectilinear", (331, 301)),
}

ROUNDED = {
    # ecCodes adds up an increment of 0.166667, 330 times, and computes rotations with six decimals.
    "gfswave/gfswave.t18z.atlocn.0p16.f001.grib2": 1.2e-4,
    "grids/rotated_wind_20x20.grib": 1e-5,
}
"""How far ecCodes is off by its own doing, in degrees."""

NORTHWARDS = {
    "jScansPositively": 1, "latitudeOfFirstGridPointInDegrees": 0, "latitudeOfLastGridPointInDegrees": 60,
}  # fmt: skip
WESTWARDS = {
    "iScansNegatively": 1, "longitudeOfFirstGridPointInDegrees": 30, "longitudeOfLastGridPointInDegrees": 0,
}  # fmt: skip

# Northwards, as all such grids in use: told to scan southwards, ecCodes 2.50 unfolds this projection northwards.
LENGTHS = {"DxInMetres": 100_000, "DyInMetres": 120_000, "jScansPositively": 1}

SAMPLES: list[tuple[str, dict]] = [
    ("regular_ll_sfc_grib2", {}),
    ("regular_ll_sfc_grib1", {}),
    ("regular_ll_sfc_grib2", NORTHWARDS),
    ("regular_ll_sfc_grib2", WESTWARDS),
    ("rotated_ll_sfc_grib2", {}),
    ("rotated_ll_sfc_grib1", {}),
    ("regular_gg_sfc_grib2", {}),
    ("regular_gg_sfc_grib1", {}),
    ("reduced_gg_sfc_grib2", {}),
    ("reduced_gg_sfc_grib1", {}),
    ("reduced_ll_sfc_grib2", {}),
    ("polar_stereographic_sfc_grib2", LENGTHS),
    ("polar_stereographic_sfc_grib1", LENGTHS),
]
"""ecCodes' own sample messages, and keys set in them."""


def first_message(path: Path) -> bytes:
    with path.open("rb") as file:
        handle = eccodes.codes_grib_new_from_file(file)
    message = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return message


def sample(name: str, **keys: object) -> bytes:
    handle = eccodes.codes_grib_new_from_samples(name)
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    message = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return message


def by_eccodes(message: bytes) -> np.ndarray:
    """ecCodes' latitudes and longitudes as unit vectors: at a pole the longitude says nothing."""
    handle = eccodes.codes_new_from_message(message)
    lat, lon = (np.radians(eccodes.codes_get_array(handle, n)) for n in ("latitudes", "longitudes"))
    eccodes.codes_release(handle)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def distance(message: bytes) -> float:
    """Largest distance between our points and ecCodes', in degrees."""
    return float(np.degrees(np.linalg.norm(from_grib(message).vectors - by_eccodes(message), axis=1).max()))


@pytest.mark.real
@pytest.mark.parametrize("name", FILES)
def test_points_are_eccodes_own(shared: Path, name: str) -> None:
    message = first_message(shared / "data" / name)
    made = from_grib(message)
    assert (made.kind, made.shape) == FILES[name]
    assert distance(message) < ROUNDED.get(name, 2e-8)
    assert made.digest == from_grib(message).digest


@pytest.mark.real
def test_longitudes_are_exact_multiples(shared: Path) -> None:
    gfs = from_grib(first_message(shared / "data/gfs/gfs.20240820.t12z.0p25.f044.TMAX.grib2"))
    np.testing.assert_array_equal(gfs.longitude, 0.25 * np.arange(1440))
    wave = from_grib(first_message(shared / "data/gfswave/gfswave.t18z.atlocn.0p16.f001.grib2"))
    assert wave.latitude[-1] == 0
    assert wave.longitude[150] == 285


@pytest.mark.real
def test_hrrr_is_regular_in_its_projection(shared: Path) -> None:
    made = from_grib(first_message(shared / "data/hrrr_nam/hrrr.t06z.wrfsfcf01-CFRZR.grib2"))
    assert made.x is not None
    np.testing.assert_allclose(np.diff(made.x), 3000, atol=1e-6)
    again = from_grib(first_message(shared / "data/hrrr_nam/hrrr.wrfsubhf.sample.grib2"))
    assert again.digest == made.digest
    assert again.latitude is made.latitude, "two million points are projected once"
    assert made.mapping["standard_parallel"] == [38.5, 38.5]
    assert made.mapping["earth_radius"] == 6371229.0


@pytest.mark.real
def test_transverse_mercator_lies_in_its_zone(shared: Path) -> None:
    """ecCodes has no iterator for it; the message is a part of UTM zone 11 in NAD 27, its earth Clarke's of 1866."""
    from pyproj import Proj

    made = from_grib(first_message(shared / "data/gfs/subgrids.grib2"))
    assert made.shape == (20, 20)
    lon, lat = Proj("EPSG:26711")(440750, 3750150, inverse=True)
    np.testing.assert_allclose((made.latitude[0, 0], made.longitude[0, 0]), (lat, lon), atol=1e-9)


@pytest.mark.real
def test_a_grid_without_coordinates_says_so_and_takes_them(shared: Path) -> None:
    message = first_message(shared / "data/grids/test_icon.grib")
    with pytest.raises(UsageError, match="5a0a863d2523951577894930e3452bc0"):
        from_grib(message)
    made = from_grib(message, np.arange(6.0), np.arange(6.0))
    assert made.dims == ("cell",)
    with pytest.raises(UsageError, match="another grid"):
        from_grib(message, np.arange(5.0), np.arange(5.0))


@pytest.mark.parametrize(("name", "keys"), SAMPLES)
def test_samples_of_eccodes(name: str, keys: dict) -> None:
    message = sample(name, **keys)
    # Edition 1 has millidegrees, which ecCodes and we spread differently over a row.
    assert distance(message) < (2e-3 if name.endswith("1") else 2e-5)


def test_the_order_follows_the_scan() -> None:
    up, west = (from_grib(sample("regular_ll_sfc_grib2", **keys)) for keys in (NORTHWARDS, WESTWARDS))
    assert (up.latitude[0], up.latitude[-1]) == (0, 60)
    assert (west.longitude[0], west.longitude[-1]) == (30, 0)


def test_a_date_line_in_the_middle() -> None:
    """From 170E to 170W: longitudes go on rising."""
    message = sample(
        "regular_ll_sfc_grib2", longitudeOfFirstGridPointInDegrees=170, longitudeOfLastGridPointInDegrees=190
    )
    made = from_grib(message)
    assert (np.diff(made.longitude) > 0).all()
    assert made.longitude[-1] - made.longitude[0] == 20


def test_longitudes_beyond_a_turn_are_brought_back() -> None:
    message = sample(
        "regular_ll_sfc_grib2", longitudeOfFirstGridPoint=350_000_000, longitudeOfLastGridPoint=370_000_000
    )
    made = from_grib(message)
    assert (made.longitude[0], made.longitude[-1]) == (-10, 10)


@pytest.mark.parametrize("message", [b"", b"GRIB", b"no message at all"])
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(CorruptInput, match="no whole GRIB message"):
        from_grib(message)


def test_a_field_of_coefficients_has_no_grid() -> None:
    with pytest.raises(UsageError, match="sh"):
        from_grib(sample("sh_sfc_grib2"))


def test_coordinates_are_not_taken_for_a_grid_that_has_them() -> None:
    with pytest.raises(UsageError, match="of its own"):
        from_grib(sample("regular_ll_sfc_grib2"), np.zeros(3), np.zeros(3))
