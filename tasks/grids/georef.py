"""Where pixels lie: coordinate reference system, affine transform, centre coordinates, the same at coarser levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError

from ..lake.errors import CorruptInput

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f, of a pixel's upper left corner."""


@dataclass(frozen=True, slots=True)
class Georef:
    """The grid of a group: CRS as authority code (``EPSG:32632``) or, without one, as WKT 2, and the transform."""

    crs: str
    transform: Affine

    def coarser(self, factor: int) -> "Georef":
        """The grid with pixels of ``factor`` x ``factor``, from the same corner."""
        a, b, c, d, e, f = self.transform
        return Georef(self.crs, (a * factor, b * factor, c, d * factor, e * factor, f))

    def centres(self, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """(y, x) of pixel centres, float64, in the CRS's units: exact for sizes that are whole numbers."""
        a, _, c, _, e, f = self.transform
        return f + e * (np.arange(rows) + 0.5), c + a * (np.arange(columns) + 0.5)

    def bbox(self, rows: int, columns: int) -> tuple[float, float, float, float]:
        """(west, south, east, north) of the outer edges in the CRS's units."""
        a, _, c, _, e, f = self.transform
        xs, ys = sorted((c, c + a * columns)), sorted((f, f + e * rows))
        return xs[0], ys[0], xs[1], ys[1]

    def geographic(self, rows: int, columns: int) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees of longitude and latitude (WGS 84)."""
        from pyproj import Transformer

        found = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform_bounds(*self.bbox(rows, columns))
        west, south, east, north = (float(v) for v in found)
        return west, south, east, north

    @property
    def code(self) -> str | None:
        """The CRS as authority code, when it is known as one."""
        return self.crs if ":" in self.crs and "[" not in self.crs else None


def find_crs(sources: Sequence[Mapping[str, Any]], where: str) -> str:
    """The CRS that the first of several attribute mappings names (array, group, item ...).

    Understands the names of STAC's projection extension, of the proj: convention and of CF. Raises ``CorruptInput``
    when none names one, or when it means nothing.
    """
    for attributes in sources:
        for key in ("proj:code", "proj:epsg", "proj:wkt2", "crs_wkt", "spatial_ref"):
            value = attributes.get(key)
            if value in (None, ""):
                continue
            try:
                crs = CRS.from_user_input(int(value) if key == "proj:epsg" else value)
            except (CRSError, ValueError):
                raise CorruptInput(f"{where}: {key} is no CRS (found {str(value)[:60]!r})") from None
            authority = crs.to_authority(min_confidence=100)
            return ":".join(authority) if authority else crs.to_wkt("WKT2_2019")
    raise CorruptInput(f"{where} has no CRS: neither proj:code, proj:epsg, proj:wkt2 nor a grid mapping is there")


def find_transform(
    sources: Sequence[Mapping[str, Any]], y: np.ndarray | None, x: np.ndarray | None, where: str
) -> Affine:
    """The affine transform that attributes name, checked against the source's coordinates; without one, from these.

    Coordinates may be those of centres or of upper left corners: only with a transform is it known which.
    Raises ``CorruptInput`` when there is neither, when they disagree, or when the grid is rotated or uneven.
    """
    named = next((t for s in sources if (t := _named(s))), None)
    if named is None:
        if y is None or x is None or len(y) < 2 or len(x) < 2:
            raise CorruptInput(f"{where} has neither a transform nor coordinates x and y")
        (dy, y0), (dx, x0) = _step(y, f"{where}/y"), _step(x, f"{where}/x")
        return dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2
    a, b, c, d, e, f = named
    if b or d:
        raise CorruptInput(f"{where}: a rotated grid cannot be made into overviews", expected="b = d = 0", found=named)
    for name, values, step, origin in (("x", x, a, c), ("y", y, e, f)):
        if values is None or len(values) == 0:
            continue
        away = (np.array([values[0], values[-1]], "f8") - origin) / step - np.array([0, len(values) - 1])
        if not (np.allclose(away, 0.5, atol=0.01) or np.allclose(away, 0.0, atol=0.01)):
            raise CorruptInput(
                f"{where}: transform and coordinate {name} disagree",
                expected=f"{origin + step / 2:g} as the first centre", found=f"{values[0]:g}",
            )  # fmt: skip
    return named


def _named(attributes: Mapping[str, Any]) -> Affine | None:
    for key in ("proj:transform", "spatial:transform"):
        value = attributes.get(key)
        if isinstance(value, Sequence) and len(value) >= 6:
            a, b, c, d, e, f = (float(v) for v in value[:6])
            return a, b, c, d, e, f
    if isinstance(text := attributes.get("GeoTransform"), str):
        # GDAL's order: x of the corner, width, row rotation, y of the corner, column rotation, height.
        c, a, b, f, d, e = (float(v) for v in text.split()[:6])
        return a, b, c, d, e, f
    return None


def _step(values: np.ndarray, where: str) -> tuple[float, float]:
    steps = np.diff(values.astype("f8"))
    step = float((values[-1] - values[0]) / (len(values) - 1))
    if step == 0 or not np.allclose(steps, step, rtol=1e-3):
        raise CorruptInput(
            f"{where} is not evenly spaced", expected=f"{step:g}", found=f"{steps.min()} to {steps.max()}"
        )
    return step, float(values[0])
