"""A GFS-like archive: 0.25-degree global fields, complex packing or CCSDS, NOAA-style idx."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import eccodes
import numpy as np

STEPS = tuple(range(0, 27, 3))
FULL_STEPS = tuple(range(0, 255, 3))
"""85 steps."""

COMPLEX, CCSDS = "grid_complex_spatial_differencing", "grid_ccsds"
NY, NX = 721, 1440
_PATTERNS = 6
"""So many different fields a variable: encoding is slow, and every sixth step may repeat its values."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the archive and how a recipe selects it."""

    name: str
    element: str
    level: str
    parameter: tuple[int, int]
    surface: tuple[int, int]
    mean: float
    amplitude: float
    bits: int
    level_type: str | None = None
    packing: str = COMPLEX
    short_name: str = ""

    @property
    def recipe(self) -> dict[str, object]:
        """The variable as a recipe writes it."""
        entry: dict[str, object] = {"name": self.name, "param": self.element, "keep_bits": self.bits}
        if self.level_type:
            entry |= {
                "level_type": self.level_type,
                "levels": [self.surface[1] // (100 if self.surface[0] == 100 else 1)],
            }
        return entry


HEIGHT, PRESSURE = "heightAboveGround", "isobaricInhPa"
FIELDS = (
    Variable("msl", "PRMSL", "mean sea level", (3, 1), (101, 0), 101000.0, 3000.0, 11, short_name="prmsl"),
    Variable("t2m", "TMP", "2 m above ground", (0, 0), (103, 2), 280.0, 30.0, 7, HEIGHT, short_name="2t"),
    Variable("u10", "UGRD", "10 m above ground", (2, 2), (103, 10), 0.0, 15.0, 6, HEIGHT, short_name="10u"),
    Variable("v10", "VGRD", "10 m above ground", (2, 3), (103, 10), 0.0, 15.0, 6, HEIGHT, short_name="10v"),
    Variable("t850", "TMP", "850 mb", (0, 0), (100, 85000), 275.0, 25.0, 7, PRESSURE, short_name="t"),
)
FULL = (
    *FIELDS,
    Variable("d2m", "DPT", "2 m above ground", (0, 6), (103, 2), 275.0, 30.0, 7, HEIGHT, CCSDS, short_name="2d"),
    Variable("r2", "RH", "2 m above ground", (1, 1), (103, 2), 60.0, 30.0, 7, HEIGHT, CCSDS, short_name="2r"),
    Variable("u850", "UGRD", "850 mb", (2, 2), (100, 85000), 5.0, 20.0, 6, PRESSURE, CCSDS, short_name="u"),
    Variable("v850", "VGRD", "850 mb", (2, 3), (100, 85000), 0.0, 20.0, 6, PRESSURE, CCSDS, short_name="v"),
    Variable("z500", "HGT", "500 mb", (3, 5), (100, 50000), 5500.0, 300.0, 11, PRESSURE, CCSDS, short_name="gh"),
)
"""Ten variables, half of them in each packing."""


def write(folder: Path, run: datetime, steps: Sequence[int] = STEPS, variables: Sequence[Variable] = FIELDS) -> None:
    """Write one run: ``gfs.tHHz.pgrb2.0p25.fFFF`` and ``.idx`` files, flat in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    patterns = [[_message(run, v, n, p) for p in range(min(_PATTERNS, len(steps)))] for n, v in enumerate(variables)]
    for place, step in enumerate(steps):
        name = f"gfs.t{run:%H}z.pgrb2.0p25.f{step:03d}"
        offset, lines = 0, []
        when = "anl" if step == 0 else f"{step} hour fcst"
        with open(folder / name, "wb") as file:
            for number, (variable, made) in enumerate(zip(variables, patterns, strict=True), 1):
                message = _at(made[place % len(made)], step)
                file.write(message)
                lines.append(f"{number}:{offset}:d={run:%Y%m%d%H}:{variable.element}:{variable.level}:{when}:")
                offset += len(message)
        (folder / f"{name}.idx").write_text("\n".join(lines) + "\n")


def _at(message: bytes, step: int) -> bytes:
    """The message with another step: the header is changed, the data stay as they are."""
    handle = eccodes.codes_new_from_message(message)
    try:
        eccodes.codes_set(handle, "forecastTime", step)
        return eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)


def _message(run: datetime, variable: Variable, number: int, pattern: int) -> bytes:
    latitude = np.deg2rad(np.linspace(90, -90, NY))[:, None]
    longitude = np.deg2rad(np.arange(NX) / 4)[None, :]
    noise = np.random.default_rng(100 * number + pattern).standard_normal((NY, NX))
    wave = np.cos(latitude) * np.sin((number + 3) * longitude + pattern / 10)
    wave = wave + 0.3 * np.sin(9 * longitude) * np.cos(7 * latitude) + 0.01 * noise
    field = variable.mean + variable.amplitude * wave
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    try:
        keys = {
            "centre": 7, "tablesVersion": 2, "dataDate": int(f"{run:%Y%m%d}"), "dataTime": run.hour * 100,
            "productDefinitionTemplateNumber": 0, "parameterCategory": variable.parameter[0],
            "parameterNumber": variable.parameter[1], "typeOfFirstFixedSurface": variable.surface[0],
            "scaleFactorOfFirstFixedSurface": 0, "scaledValueOfFirstFixedSurface": variable.surface[1],
            "stepRange": 0, "Ni": NX, "Nj": NY, "latitudeOfFirstGridPointInDegrees": 90,
            "latitudeOfLastGridPointInDegrees": -90, "longitudeOfFirstGridPointInDegrees": 0,
            "longitudeOfLastGridPointInDegrees": 359.75, "iDirectionIncrementInDegrees": 0.25,
            "jDirectionIncrementInDegrees": 0.25, "bitsPerValue": 12,
        }  # fmt: skip
        for key, value in keys.items():
            eccodes.codes_set(handle, key, value)
        eccodes.codes_set_values(handle, field.ravel())
        eccodes.codes_set(handle, "packingType", variable.packing)
        return eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)
