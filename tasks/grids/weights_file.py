"""Weight files: written in ESMF's offline form, read in that form, in xESMF's and in SCRIP's (CDO).

ESMF Reference Manual, "Regridding weight file format": ``row`` and ``col`` count from 1 in the order of the arrays,
longitude fastest; ``src_grid_dims`` and ``dst_grid_dims`` have the fastest dimension first.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ..lake.errors import CorruptInput
from ..lake.hdf5 import HDF5

if TYPE_CHECKING:
    from netCDF4 import Dataset

    from .weights import Weights

_NAMES = (("row", "col", "S"), ("dst_address", "src_address", "remap_matrix"))
"""Variables of ESMF's form and of SCRIP's."""

_SIZES = (("n_a", "n_b"), ("src_grid_size", "dst_grid_size"))

_SHARES = {
    "area_a": ("area_a", "src_grid_area"),
    "area_b": ("area_b", "dst_grid_area"),
    "frac_a": ("frac_a", "src_grid_frac"),
    "frac_b": ("frac_b", "dst_grid_frac"),
}
_CENTRES = {
    "a": (("yc_a", "xc_a"), ("src_grid_center_lat", "src_grid_center_lon")),
    "b": (("yc_b", "xc_b"), ("dst_grid_center_lat", "dst_grid_center_lon")),
}
_MAP_METHODS = {
    "conservative": "Conservative remapping",
    "bilinear": "Bilinear remapping",
    "nearest": "Nearest neighbor",
}
_NORMS = {"fracarea": "fracarea", "dstarea": "destarea"}


def write(weights: "Weights") -> bytes:
    """The bytes of a netCDF-4 file, compressed. Nothing in it depends on the time."""
    from netCDF4 import Dataset

    # By way of the disk: in memory the library lets HDF5 write down the time.
    with HDF5, TemporaryDirectory() as folder:
        path = Path(folder) / "weights.nc"
        with Dataset(path, "w", format="NETCDF4") as file:
            _fill(file, weights)
        return path.read_bytes()


def _fill(file: "Dataset", weights: "Weights") -> None:
    matrix = weights.matrix
    n_a, n_b = int(np.prod(weights.source_shape)), int(np.prod(weights.target_shape))
    file.setncatts(
        {
            "title": "regridding weights",
            "conventions": "NCAR-CSM",
            "normalization": _NORMS.get(weights.norm, "none"),
            "map_method": _MAP_METHODS.get(weights.method, weights.method),
            "method": weights.method,
            "cell_edges": weights.convention,
            "source_digest": weights.source,
            "target_digest": weights.target,
            "options": json.dumps(dict(weights.options), sort_keys=True),
        }
    )
    for name, shape in (("src", weights.source_shape), ("dst", weights.target_shape)):
        file.createDimension(f"{name}_grid_rank", len(shape))
        file.createVariable(f"{name}_grid_dims", "i4", (f"{name}_grid_rank",))[:] = shape[::-1]
    for name, size in (("n_a", n_a), ("n_b", n_b), ("n_s", matrix.nnz)):
        file.createDimension(name, size)
    for name in _SHARES:
        values = getattr(weights, name)
        if values is not None:
            _put(file, name, "f8", f"n_{name[-1]}", values, "square radians" if name[:4] == "area" else "unitless")
    _put(file, "col", "i4", "n_s", matrix.indices + 1)
    _put(file, "row", "i4", "n_s", np.repeat(np.arange(1, n_b + 1), np.diff(matrix.indptr)))
    _put(file, "S", "f8", "n_s", matrix.data)


def _put(file: "Dataset", name: str, kind: str, dim: str, values: np.ndarray, units: str = "") -> None:
    variable = file.createVariable(name, kind, (dim,), compression="zlib", complevel=1, shuffle=True)
    if units:
        variable.units = units
    variable[:] = values


def read(data: bytes) -> dict[str, Any]:
    """Fields of `Weights` by name. Raises `CorruptInput`."""
    with HDF5:
        return _read(data)


def _read(data: bytes) -> dict[str, Any]:
    from netCDF4 import Dataset
    from scipy.sparse import coo_array, csr_array

    try:
        file = Dataset("weights.nc", "r", memory=data)
    except OSError as error:
        raise CorruptInput(f"the weight file is no netCDF: {error}") from None
    with file:
        file.set_auto_mask(False)
        form = next((i for i, names in enumerate(_NAMES) if set(names) <= set(file.variables)), None)
        if form is None:
            raise CorruptInput(
                "the file holds no weights", expected=" or ".join(map(str, _NAMES)), found=", ".join(file.variables)
            )
        row, col, share = (file[name][:] for name in _NAMES[form])
        if share.ndim == 2:
            if share.shape[1] != 1:
                raise CorruptInput(
                    "the file holds weights of a higher order", expected="one a link", found=share.shape[1]
                )
            share = share[:, 0]
        shapes = _shapes(file)
        n_a, n_b = (int(np.prod(s)) for s in shapes)
        if row.size and (min(row.min(), col.min()) < 1 or row.max() > n_b or col.max() > n_a):
            raise CorruptInput(
                "the weights point outside their grids", expected=f"rows to {n_b}, columns to {n_a}",
                found=f"{row.min()} to {row.max()}, {col.min()} to {col.max()}",
            )  # fmt: skip
        matrix = csr_array(coo_array((share.astype("float64"), (row - 1, col - 1)), shape=(n_b, n_a)))
        matrix.sum_duplicates()
        found: dict[str, Any] = {"matrix": matrix, "source_shape": shapes[0], "target_shape": shapes[1]}
        for name, names in _SHARES.items():
            there = next((n for n in names if n in file.variables), None)
            if there is not None:
                found[name] = file[there][:]
        return found | _described(file) | {"centres": _centres(file)}


def _centres(file: "Dataset") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Latitude and longitude in degrees of source (``a``) and target (``b``), where the file has them."""
    found = {}
    for side, forms in _CENTRES.items():
        for names in forms:
            if set(names) <= set(file.variables):
                turned = [str(getattr(file[n], "units", "degrees")).startswith("rad") for n in names]
                values = (np.asarray(file[n][:], "float64").ravel() for n in names)
                lat, lon = (np.degrees(v) if t else v for v, t in zip(values, turned, strict=True))
                found[side] = (lat, lon)
    return found


def _shapes(file: "Dataset") -> tuple[tuple[int, ...], tuple[int, ...]]:
    if "src_grid_dims" in file.variables:
        return tuple(tuple(int(n) for n in file[f"{g}_grid_dims"][::-1]) for g in ("src", "dst"))  # type: ignore[return-value]
    attributes = file.ncattrs()
    if "shape_a" in attributes:
        return tuple(tuple(int(n) for n in np.atleast_1d(file.getncattr(f"shape_{g}"))) for g in "ab")  # type: ignore[return-value]
    for names in _SIZES:
        if set(names) <= set(file.dimensions):
            return tuple((file.dimensions[n].size,) for n in names)  # type: ignore[return-value]
        if set(names) <= set(attributes):
            return tuple((int(file.getncattr(n)),) for n in names)  # type: ignore[return-value]
    raise CorruptInput("the weight file does not say how large its grids are")


def _described(file: "Dataset") -> dict[str, Any]:
    attributes = {n: str(file.getncattr(n)) for n in file.ncattrs()}
    spoken = attributes.get("method") or attributes.get("map_method", "")
    method = next((m for m in _MAP_METHODS if spoken.lower().startswith(m)), spoken)
    norm = next((n for n, spelt in _NORMS.items() if spelt == attributes.get("normalization")), "")
    try:
        options = json.loads(attributes.get("options", "{}"))
    except ValueError:
        options = {"options": attributes["options"]}
    return {
        "method": method,
        "norm": norm if method == "conservative" else "",
        "convention": attributes.get("cell_edges", ""),
        "source": attributes.get("source_digest", ""),
        "target": attributes.get("target_digest", ""),
        "options": options,
    }
