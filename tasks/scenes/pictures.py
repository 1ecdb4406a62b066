"""Pictures of a finished scene: a quick-look PNG, and cloud-optimised GeoTIFFs of its bands."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..grids.overviews import valid
from ..lake.errors import UsageError
from .layout import spans
from .stored import Stored

QUICKLOOK_SIDE = 1024
"""Longest side of a quick-look in pixels."""

_OVERVIEWS = {"mean": "AVERAGE", "max": "NEAREST", "flags": "NEAREST", "mode": "MODE", "first": "NEAREST"}


def decoded(values: np.ndarray, stored: Stored) -> np.ndarray:
    """Stored values (y, x) as float32 in their units, NaN without data."""
    band = stored.band
    good = valid(values, band.nodata)
    out = values.astype("f4")
    if not band.decoded:
        out = out * np.float32(band.scale if band.scale is not None else 1.0) + np.float32(band.offset or 0.0)
    if good is not None:
        out[~good] = np.nan
    return out


def quicklook(bands: Sequence[Stored], stretch: tuple[float, float]) -> bytes:
    """A PNG of one band in grey or three in colour, clear where there are no data.

    ``stretch`` holds the values that come out black and white; between them a square root lifts the dark land.
    """
    from matplotlib.image import imsave

    low, high = stretch
    planes = []
    for band in bands:
        values = band.rows(0, band.band.level.rows)
        planes.append(decoded(values.reshape(-1, *values.shape[-2:])[0], band))
    planes = planes * 3 if len(planes) == 1 else planes
    clear = np.any(np.isnan(planes), axis=0)
    colours = [np.sqrt(np.clip((np.nan_to_num(p, nan=low) - low) / (high - low), 0, 1)) for p in planes]
    picture = np.stack([*colours, np.where(clear, 0.0, 1.0)], axis=-1)
    out = io.BytesIO()
    imsave(out, np.round(picture * 255).astype("u1"), format="png")
    return out.getvalue()


def geotiff(stored: Stored, path: Path) -> None:
    """Write a band as a cloud-optimised GeoTIFF, as stored, with scale, offset and nodata. Raises ``UsageError``."""
    try:
        import rasterio
        from rasterio.shutil import copy
        from rasterio.windows import Window
    except ImportError:
        raise UsageError("GeoTIFFs need the extra 'scenes'") from None
    band, level = stored.band, stored.band.level
    count = int(np.prod(band.shape[:-2]))
    draft = path.with_suffix(".draft.tif")
    profile = {
        "driver": "GTiff", "dtype": str(band.stored), "count": count, "height": level.rows, "width": level.columns,
        "crs": level.georef.crs, "transform": rasterio.Affine(*level.georef.transform), "nodata": band.nodata,
        "tiled": True, "compress": "zstd", "bigtiff": "if_safer",
    }  # fmt: skip
    with rasterio.open(draft, "w", **profile) as out:
        for top, bottom in spans(level.rows, band.cuts[0].chunk):
            rows = stored.rows(top, bottom).reshape(count, bottom - top, level.columns)
            out.write(rows, window=Window(0, top, level.columns, bottom - top))  # type: ignore[call-arg]
        if not band.decoded and (band.scale, band.offset) != (None, None):
            out.scales = [band.scale if band.scale is not None else 1.0] * count
            out.offsets = [band.offset or 0.0] * count
        for number in range(1, count + 1):
            out.set_band_description(number, band.name if count == 1 else f"{band.name} {number}")
    copy(draft, path, driver="COG", compress="DEFLATE", overview_resampling=_OVERVIEWS[band.method])
    draft.unlink()
