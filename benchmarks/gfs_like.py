"""A GFS-like archive: 0.25-degree global fields, complex packing with spatial differencing, NOAA-style idx."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import eccodes
import numpy as np

STEPS = tuple(range(0, 27, 3))
FIELDS = (
    # NCEP abbreviation, idx level, (category, number, type of level, level), mean, amplitude
    ("PRMSL", "mean sea level", (3, 1, 101, 0), 101000.0, 3000.0),
    ("TMP", "2 m above ground", (0, 0, 103, 2), 280.0, 30.0),
    ("UGRD", "10 m above ground", (2, 2, 103, 10), 0.0, 15.0),
    ("VGRD", "10 m above ground", (2, 3, 103, 10), 0.0, 15.0),
    ("TMP", "850 mb", (0, 0, 100, 85000), 275.0, 25.0),
)
NY, NX = 721, 1440


def write(folder: Path, run: datetime, steps: Sequence[int] = STEPS) -> None:
    """Write one run: ``gfs.tHHz.pgrb2.0p25.fFFF`` and ``.idx`` files, flat in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        name = f"gfs.t{run:%H}z.pgrb2.0p25.f{step:03d}"
        messages = list(_messages(run, step))
        (folder / name).write_bytes(b"".join(messages))
        offset, lines = 0, []
        when = "anl" if step == 0 else f"{step} hour fcst"
        for number, ((element, level, *_), message) in enumerate(zip(FIELDS, messages, strict=True), 1):
            lines.append(f"{number}:{offset}:d={run:%Y%m%d%H}:{element}:{level}:{when}:")
            offset += len(message)
        (folder / f"{name}.idx").write_text("\n".join(lines) + "\n")


def _messages(run: datetime, step: int) -> Iterator[bytes]:
    latitude = np.deg2rad(np.linspace(90, -90, NY))[:, None]
    longitude = np.deg2rad(np.arange(NX) / 4)[None, :]
    noise = np.random.default_rng(step)
    for number, (_, _, (category, parameter, level_type, level), mean, amplitude) in enumerate(FIELDS):
        wave = np.cos(latitude) * np.sin((number + 3) * longitude + step / 10) + 0.3 * np.sin(9 * longitude) * np.cos(
            7 * latitude
        )
        field = mean + amplitude * (wave + 0.01 * noise.standard_normal((NY, NX)))
        handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
        try:
            keys = {
                "centre": 7, "tablesVersion": 2, "dataDate": int(f"{run:%Y%m%d}"), "dataTime": run.hour * 100,
                "productDefinitionTemplateNumber": 0, "parameterCategory": category, "parameterNumber": parameter,
                "typeOfFirstFixedSurface": level_type, "scaleFactorOfFirstFixedSurface": 0,
                "scaledValueOfFirstFixedSurface": level, "stepRange": step, "Ni": NX, "Nj": NY,
                "latitudeOfFirstGridPointInDegrees": 90, "latitudeOfLastGridPointInDegrees": -90,
                "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 359.75,
                "iDirectionIncrementInDegrees": 0.25, "jDirectionIncrementInDegrees": 0.25, "bitsPerValue": 12,
            }  # fmt: skip
            for key, value in keys.items():
                eccodes.codes_set(handle, key, value)
            eccodes.codes_set_values(handle, field.ravel())
            eccodes.codes_set(handle, "packingType", "grid_complex_spatial_differencing")
            yield eccodes.codes_get_message(handle)
        finally:
            eccodes.codes_release(handle)
