"""A synthetic EOPF Sentinel-2 L2A item: the group structure, dtypes, codecs and attributes of the real product.

The tables were read from the consolidated metadata of a product (Zarr 2, Blosc zstd-3 with bit shuffle); pixels are
made up: smooth fields with noise, a swath edge without data, and classes in patches. `write` gives any size that is a
multiple of 6 at 10 m, from 183 x 6 = 1098 to the real 10980, or 183 for the coarsest group alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from pyproj import CRS

BANDS = {
    "r10m": ("b02", "b03", "b04", "b08"),
    "r20m": ("b01", "b02", "b03", "b04", "b05", "b06", "b07", "b11", "b12", "b8a"),
    "r60m": ("b01", "b02", "b03", "b04", "b05", "b06", "b07", "b09", "b11", "b12", "b8a"),
}
MASKED = {"r10m": BANDS["r10m"], "r20m": ("b05", "b06", "b07", "b11", "b12", "b8a"), "r60m": ("b01", "b09", "b10")}
CORNER = (699960.0, 4700040.0)
REFLECTANCE = ("measurements/reflectance/r10m", "measurements/reflectance/r20m", "measurements/reflectance/r60m")
SCL = "conditions/mask/l2a_classification/r20m"
_FLAGS = ("ANC_LOST", "ANC_DEG", "MSI_LOST", "MSI_DEG", "QT_DEFECTIVE_PIXELS", "QT_NODATA_PIXELS",
          "QT_PARTIALLY_CORRECTED_PIXELS", "QT_SATURATED_PIXELS_L1A")  # fmt: skip
_CODEC = Blosc(cname="zstd", clevel=3, shuffle=Blosc.BITSHUFFLE)


@dataclass(frozen=True)
class Product:
    """A written item: its folder, id, STAC item file, and size in pixels at 10 m."""

    store: Path
    item: Path
    id: str
    size: int

    def raw(self, path: str) -> np.ndarray:
        """An array as stored, read by zarr alone."""
        return np.asarray(zarr.open_group(self.store, mode="r")[path])


def write(
    folder: Path,
    size: int = 366,
    *,
    name: str = "S2A_MSIL2A_20251008T100041_N0511_R122_T32TQM_20251008T122613",
    groups: tuple[str, ...] | None = None,
    epsg: int | None = 32632,
    smooth: bool = False,
    edge: float = 0.2,
) -> Product:
    """Write an item and its STAC document into ``folder``.

    ``groups`` leaves out all others; ``epsg`` None leaves out every word on the CRS; ``edge`` is the share of columns
    without data in the first row; ``smooth`` leaves out the noise (quicker to write).
    """
    store = folder / f"{name}.zarr"
    root = zarr.open_group(store, mode="w", zarr_format=2)
    root.attrs.update({"stac_discovery": _discovery(name, epsg, size), "other_metadata": {"UTM_zone": "32N"}})
    writer = _Writer(root, size, epsg, smooth, edge, groups)
    for resolution, names in BANDS.items():
        for band in names:
            writer.reflectance(f"measurements/reflectance/{resolution}", band)
        for band in MASKED[resolution]:
            writer.flags(f"quality/mask/{resolution}", band)
            writer.detectors(f"conditions/mask/detector_footprint/{resolution}", band)
        for band in ("aot", "wvp"):
            writer.amount(f"quality/atmosphere/{resolution}", band)
        writer.quicklook(f"quality/l2a_quicklook/{resolution}")
    for resolution in ("r20m", "r60m"):
        writer.classes(f"conditions/mask/l2a_classification/{resolution}", "scl")
    for band in ("cld", "snw"):
        writer.probability("quality/probability/r20m", band)
    writer.angles("conditions/geometry")
    zarr.consolidate_metadata(store, zarr_format=2)
    item = folder / f"{name}.json"
    item.write_text(json.dumps(stac_item(name, str(store), epsg)))
    return Product(store, item, name, size)


def stac_item(name: str, store: str, epsg: int | None = 32632) -> dict[str, Any]:
    """The STAC item of a product, with the assets that matter here; ``store`` is the URL of the Zarr."""
    assets = {
        "SR_10m": {"href": f"{store}/{REFLECTANCE[0]}", "type": "application/vnd.zarr", "roles": ["data"], "gsd": 10},
        "product": {"href": store, "type": "application/vnd.zarr", "roles": ["data", "metadata"]},
        "product_metadata": {"href": f"{store}/.zmetadata", "type": "application/json", "roles": ["metadata"]},
    }
    properties: dict[str, Any] = {
        "datetime": "2025-10-08T10:00:41.024000Z", "platform": "sentinel-2a", "constellation": "sentinel-2",
        "instruments": ["msi"], "gsd": 10, "eo:cloud_cover": 0.003839, "grid:code": "MGRS-32TQM",
    }  # fmt: skip
    if epsg is not None:
        properties["proj:code"] = f"EPSG:{epsg}"
    west, south, east, north = 11.393460776835221, 41.40403474612011, 12.763136432704886, 42.426911995973605
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": "sentinel-2-l2a",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
        "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip


def _discovery(name: str, epsg: int | None, size: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"datetime": None, "start_datetime": "2025-10-08T10:00:41.024000+00:00"}
    if epsg is not None:
        x, y = CORNER
        properties |= {"proj:epsg": epsg, "proj:bbox": [x, y - size * 10, x + size * 10, y]}
    return {"type": "Feature", "id": f"{name}.SAFE", "properties": properties, "stac_version": "1.0.0"}


class _Writer:
    """Writes arrays with the attributes that EOPF gives them."""

    def __init__(
        self, root: zarr.Group, size: int, epsg: int | None, smooth: bool, edge: float, groups: tuple[str, ...] | None
    ) -> None:
        self.root = root
        self.size = size
        self.wkt = CRS.from_epsg(epsg).to_wkt("WKT1_GDAL") if epsg is not None else None
        self.epsg = epsg
        self.smooth = smooth
        self.edge = edge
        self.groups = groups
        self.random = np.random.default_rng(20251008)

    def reflectance(self, path: str, name: str) -> None:
        number = int(name[1:].replace("8a", "81"), 10)
        info = {"add_offset": -0.1, "scale_factor": 0.0001, "fill_value": 0, "dtype": "<u2", "units": "digital_counts",
                "valid_min": 1, "valid_max": 65535,
                "long_name": f"BOA reflectance from MSI acquisition at spectral band {name}"}  # fmt: skip
        if (n := self._length(path)) is None:
            return
        values = self._field(n, number, 1500 + 90 * number, 900).astype("u2")
        values[self._outside(n)] = 0
        # At 10 m the real product has four chunks a band, at 20 m and 60 m one.
        self._put(path, name, values, n // 2 if path.endswith("r10m") and n % 2 == 0 else n, info, fill=0, masked=True)

    def flags(self, path: str, name: str) -> None:
        if (n := self._length(path)) is None:
            return
        values = (self._field(n, 3, 3, 3).astype("u1") & 0b1001) | (self._outside(n) * 32).astype("u1")
        info = {"flag_masks": [1 << i for i in range(8)], "flag_meanings": list(_FLAGS), "dtype": "<u1"}
        self._put(path, name, values, n, info)

    def detectors(self, path: str, name: str) -> None:
        if (n := self._length(path)) is None:
            return
        values = np.broadcast_to(1 + (np.arange(n) * 12 // n), (n, n)).astype("u1").copy()
        values[self._outside(n)] = 0
        self._put(path, name, values, n, {"long_name": "detector footprint mask, 0 = no detector", "dtype": "<u1"})

    def amount(self, path: str, name: str) -> None:
        if (n := self._length(path)) is None:
            return
        values = self._field(n, 11, 180, 60).astype("u2")
        values[self._outside(n)] = 0
        self._put(path, name, values, n, {})

    def quicklook(self, path: str) -> None:
        if (n := self._length(path)) is None:
            return
        values = np.stack([self._field(n, 20 + i, 120, 90) for i in range(3)]).clip(0, 255).astype("u1")
        self._put(path, "tci", values, n, {}, dims=("band", "y", "x"))
        self._array(path, "band", np.array([1, 2, 3], "i8"), 3, ("band",), {})

    def classes(self, path: str, name: str) -> None:
        if (n := self._length(path)) is None:
            return
        values = (self._field(n, 7, 5.5, 4.5).clip(1, 11)).astype("u1")
        values[self._outside(n)] = 0
        self._put(path, name, values, n, {})

    def probability(self, path: str, name: str) -> None:
        if (n := self._length(path)) is None:
            return
        values = self._field(n, 9, 40, 60).clip(0, 100).astype("u1")
        self._put(path, name, values, n, {"coordinates": "band"})

    def angles(self, path: str) -> None:
        if self.groups is not None and path not in self.groups:
            return
        self._array(path, "sun_angles", np.full((2, 23, 23), 45.0), 23, ("angle", "y", "x"), {}, fill="NaN")
        for name, start, step in (("x", CORNER[0], 5000), ("y", CORNER[1], -5000)):
            self._array(path, name, (start + step * np.arange(23)).astype("i8"), 23, (name,), {})

    def _length(self, path: str) -> int | None:
        """Pixels of a side; None for a group that is left out."""
        if self.groups is not None and path not in self.groups:
            return None
        resolution = int(path.rpartition("/")[2][1:-1])
        return self.size * 10 // resolution

    def _field(self, n: int, seed: int, mean: float, amplitude: float) -> np.ndarray:
        y, x = np.ogrid[0 : 6.0 : n * 1j, 0 : 6.0 : n * 1j]
        values = mean + amplitude * (0.6 * np.sin(x + seed) * np.cos(0.7 * y + seed) + 0.3 * np.sin(3.3 * x * y / 6))
        if not self.smooth:
            values += amplitude * 0.03 * self.random.standard_normal((n, n), dtype="f4")
        return np.maximum(values, 1)

    def _outside(self, n: int) -> np.ndarray:
        """Where the swath does not reach: a wedge on the left."""
        y, x = np.ogrid[0:n, 0:n]
        return x < self.edge * (n - y * 0.7)

    def _put(
        self, path: str, name: str, values: np.ndarray, chunk: int, info: dict[str, Any], *,
        fill: Any = None, masked: bool = False, dims: tuple[str, ...] = ("y", "x"),
    ) -> None:  # fmt: skip
        n = values.shape[-1]
        resolution = self.size * 10 / n
        x, y = CORNER
        own = {"coordinates": ["x", "y"], "dimensions": list(dims), **info}
        info = {"_eopf_attrs": own | ({"eopf_is_masked": True, "eopf_target_dtype": "<f8"} if masked else {}), **info}
        if self.epsg is not None:
            info |= {
                "proj:bbox": [x, y - n * resolution, x + n * resolution, y], "proj:epsg": self.epsg,
                "proj:shape": [n, n], "proj:transform": [resolution, 0.0, x, 0.0, -resolution, y, 0.0, 0.0, 1.0],
                "proj:wkt2": self.wkt,
            }  # fmt: skip
        self._array(path, name, values, chunk, dims, info, fill=fill)
        if f"{path}/x" not in self.root:
            centres = (np.arange(n) + 0.5) * resolution
            self._array(path, "x", (x + centres).astype("i8"), n, ("x",), {})
            self._array(path, "y", (y - centres).astype("i8"), n, ("y",), {})

    def _array(
        self, path: str, name: str, values: np.ndarray, chunk: int, dims: tuple[str, ...], info: dict[str, Any], *,
        fill: Any = None,
    ) -> None:  # fmt: skip
        chunks = tuple(chunk if d in ("y", "x") else n for d, n in zip(dims, values.shape, strict=True))
        array = self.root.create_array(
            f"{path}/{name}", shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=_CODEC,
            fill_value=fill, attributes={"_ARRAY_DIMENSIONS": list(dims), **info},
        )  # fmt: skip
        array[...] = values
