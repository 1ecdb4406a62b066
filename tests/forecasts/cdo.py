"""CDO (Climate Data Operators) as a second opinion: fields in, what one of its operators makes of them out."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import netCDF4
import numpy as np
import pytest

needs_cdo = pytest.mark.skipif(shutil.which("cdo") is None, reason="CDO is not installed")

GOLDEN = Path(__file__).parent / "golden"
"""What CDO made once, with the fields it was made of (see its README)."""


def golden(name: str) -> dict[str, np.ndarray]:
    """Variables of a golden file, NaN where a value is missing."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {n: file[n] for n in file.files}


def write(path: Path, fields: Mapping[str, np.ndarray], latitude: np.ndarray, longitude: np.ndarray) -> Path:
    """Fields float32 (time, latitude, longitude) as netCDF, an hour apart."""
    with netCDF4.Dataset(path, "w") as file:
        count = next(iter(fields.values())).shape[0]
        file.createDimension("time", count)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.standard_name = "hours since 2026-11-20 00:00:00", "time"
        time[:] = np.arange(count)
        for name, values, units in (("lat", latitude, "degrees_north"), ("lon", longitude, "degrees_east")):
            file.createDimension(name, values.size)
            axis = file.createVariable(name, "f8", (name,))
            axis.units, axis.standard_name = units, {"lat": "latitude", "lon": "longitude"}[name]
            axis[:] = values
        for name, values in fields.items():
            variable = file.createVariable(name, "f4", ("time", "lat", "lon"), fill_value=np.float32(-9e33))
            variable[:] = np.where(np.isnan(values), np.float32(-9e33), values)
    return path


def cdo(operator: Sequence[str], inputs: Sequence[Path], out: Path) -> dict[str, np.ndarray]:
    """What an operator makes of files: variable -> float64, NaN where a value is missing."""
    command = ["cdo", "-s", "-O", "-P", "1", "-b", "F64", *operator, *map(str, inputs), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    with netCDF4.Dataset(out) as file:
        names = [n for n, v in file.variables.items() if v.ndim == 3 and not n.endswith("_bnds")]
        return {n: np.ma.filled(file.variables[n][:].astype("f8"), np.nan) for n in names}
