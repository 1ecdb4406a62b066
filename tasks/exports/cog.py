"""Exporter ``cog``: fields of a run as cloud-optimised GeoTIFFs."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ..lake.errors import UsageError
from .exporter import exporters
from .fields import init_time, lead_hours, utc_text, valid_times
from .raster import Raster, method_of, raster
from .selecting import Selecting
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr

_OVERVIEWS = {"mean": "AVERAGE", "max": "NEAREST", "flags": "NEAREST", "mode": "MODE", "first": "NEAREST"}


@exporters.register("cog")
class Cog(Selecting):
    """Fields as cloud-optimised GeoTIFFs with overviews, rows from the north, NaN where missing.

    ``per: field``: a file a variable, level, member and lead time (``t-l850-m01-006.tif``). ``per: series``: a file a
    variable, level and member with a band a lead time (``t-l850-m01.tif``). Latitudes and longitudes are EPSG:4326,
    projected grids keep their projection. Units, times and level are tags of file and bands.
    """

    type: Literal["cog"] = "cog"
    per: Literal["field", "series"] = Field(default="series", description="What makes a file.")

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        try:
            import rasterio  # noqa: F401
        except ImportError:
            raise UsageError("GeoTIFFs need the extra 'scenes'") from None
        selection = self.selected(run)
        place = raster(selection)
        paths = []
        for array in selection.arrays:
            others = [d for d in array.dims[:-2] if d != "lead_time"]
            for index in product(*(range(array.sizes[d]) for d in others)):
                part = array.isel(dict(zip(others, index, strict=True)))
                name = "-".join([str(array.name), *(_label(part, str(d)) for d in reversed(others))])
                paths += self._write(part, name, selection, place, folder)
        return paths

    def _write(self, series: xr.DataArray, name: str, selection: Selection, place: Raster, folder: Path) -> list[Path]:
        """Write a series of maps (lead_time, y, x)."""
        values = place.turned(np.asarray(series.values))
        run = selection.run
        hours, valid = lead_hours(run), [utc_text(t) for t in valid_times(run)]
        about = {k: str(series.attrs[k]) for k in ("units", "long_name", "standard_name") if series.attrs.get(k)}
        about |= {"variable": str(series.name), "init_time": utc_text(init_time(run))}
        about |= {k: str(run.attrs[k]) for k in ("title", "attribution") if run.attrs.get(k)}
        bands = [
            (f"{series.name} +{h:g} h", {"lead_time": f"{h:g}", "valid_time": v, **about})
            for h, v in zip(hours, valid, strict=True)
        ]
        overview = _OVERVIEWS[method_of(series)]
        if self.per == "series":
            path = folder / f"{name}.tif"
            _geotiff(path, values, place, bands, about, overview)
            return [path]
        paths = []
        for n, (hour, band) in enumerate(zip(hours, bands, strict=True)):
            path = folder / f"{name}-{hour:03g}.tif"
            _geotiff(path, values[n : n + 1], place, [band], band[1], overview)
            paths.append(path)
        return paths


def _label(array: xr.DataArray, dim: str) -> str:
    """A place along a dimension as file names have it: ``m01``, ``l850``."""
    value = array[dim].values if dim in array.coords else 0
    if dim == "member":
        return f"m{int(value):02d}"
    return f"{dim[0]}{float(value):g}" if np.issubdtype(np.asarray(value).dtype, np.number) else str(value)


def _geotiff(
    path: Path, values: np.ndarray, place: Raster, bands: list[tuple[str, dict[str, str]]], about: dict[str, str],
    overview: str,
) -> None:  # fmt: skip
    """Write bands (band, y, x) as a cloud-optimised GeoTIFF."""
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy

    rows, columns = place.shape
    floating = values.dtype.kind == "f"
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": str(values.dtype), "count": len(values), "height": rows, "width": columns,
        "crs": place.georef.crs, "transform": rasterio.Affine(*place.georef.transform),
        "nodata": np.nan if floating else None,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as draft:
            draft.write(values)
            draft.update_tags(**about)
            for number, (description, tags) in enumerate(bands, 1):
                draft.set_band_description(number, description)
                draft.set_band_unit(number, about.get("units", ""))
                draft.update_tags(number, **tags)
        with memory.open() as draft:
            copy(
                draft, path, driver="COG", compress="DEFLATE", predictor="3" if floating else "2",
                overview_resampling=overview, bigtiff="IF_SAFER", num_threads="2",
            )  # fmt: skip
