"""Grids, weights and fields that other programs made (see golden/README.md)."""

from functools import cache
from pathlib import Path

import netCDF4
import numpy as np

from tasks.grids.grid import Grid, from_coordinates
from tasks.grids.weights import Weights, load_weights

GOLDEN = Path(__file__).parent / "golden"

AXES = {
    "g2": (np.arange(89.0, -90, -2), np.arange(-179.0, 180, 2)),
    "g1p": (np.arange(90.0, -91, -1), np.arange(0.0, 360)),
    "eu05": (np.arange(30, 60.25, 0.5), np.arange(-15, 25.25, 0.5)),
}


def variables(name: str, *names: str) -> list[np.ndarray]:
    """Arrays of a golden file, missing values as NaN."""
    with netCDF4.Dataset(GOLDEN / f"{name}.nc") as file:
        return [np.ma.filled(file[n][:].astype("float64"), np.nan) for n in names]


@cache
def grid(name: str) -> Grid:
    """A golden grid, with the bounds its file gives."""
    if name in AXES:
        return from_coordinates(*AXES[name])
    return from_coordinates(*variables(f"grid_{name}", "lat", "lon", "lat_bnds", "lon_bnds"))


@cache
def weights(name: str) -> Weights:
    """Golden weights, as `load_weights` reads them."""
    return load_weights((GOLDEN / f"{name}.nc").read_bytes())


def largest(a, b) -> float:
    """Largest difference between two sparse matrices."""
    difference = abs(a - b)
    return float(difference.max()) if difference.nnz else 0.0
