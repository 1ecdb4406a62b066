"""GeoZarr metadata: what groups of a store say by the conventions spatial, proj and multiscales. Pure functions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ..lake.errors import UsageError
from .georef import Georef
from .overviews import Method

_RESAMPLING = {"mean": "average", "max": "max", "flags": "bitwise_or", "mode": "mode", "first": "nearest"}
"""Our words for the ways overviews are made -> those of the multiscales convention (and GDAL's, where it has one)."""


@dataclass(frozen=True, slots=True)
class Scale:
    """One level of a pyramid: path below the pyramid's group, grid, (rows, columns), and the level it was made of, of
    whose cells ``factor`` x ``factor`` became one (None for the finest)."""

    asset: str
    georef: Georef
    shape: tuple[int, int]
    parent: str | None = None
    factor: int = 1


def registered(*names: str) -> list[Any]:
    """Entries of ``zarr_conventions`` for conventions by name, in their latest revision. Raises ``UsageError`` without
    the extra ``scenes``."""
    try:
        from zarr_cm import multiscales, proj, spatial
    except ImportError:
        raise UsageError("writing GeoZarr metadata needs the extra 'scenes'") from None
    known = {"multiscales": multiscales.CMO, "spatial": spatial.CMO, "proj": proj.CMO}
    return [dict(known[name]) for name in names]


def crs_attributes(georef: Georef) -> dict[str, Any]:
    """The CRS, by its code where it has one."""
    return {"proj:code": georef.code} if georef.code else {"proj:wkt2": georef.crs}


def grid_attributes(georef: Georef, shape: tuple[int, int], dims: Sequence[str] = ("y", "x")) -> dict[str, Any]:
    """Attributes of a group whose arrays lie on one grid of (rows, columns)."""
    return {
        "zarr_conventions": registered("spatial", "proj"),
        "spatial:dimensions": list(dims),
        "spatial:transform": list(georef.transform),
        "spatial:transform_type": "affine",
        "spatial:shape": list(shape),
        "spatial:bbox": list(georef.bbox(*shape)),
        "spatial:registration": "pixel",
        **crs_attributes(georef),
    }


def pyramid_attributes(
    scales: Sequence[Scale], methods: Collection[Method], dims: Sequence[str] = ("y", "x")
) -> dict[str, Any]:
    """Attributes of a group with levels, the finest first; ``methods`` are those of all its variables."""
    layout: list[dict[str, Any]] = []
    for scale in scales:
        row: dict[str, Any] = {
            "asset": scale.asset,
            "spatial:shape": list(scale.shape),
            "spatial:transform": list(scale.georef.transform),
        }
        if scale.parent is not None:
            # Edges of pixels, not centres: the corner stays where it is, so nothing is added.
            row["derived_from"] = scale.parent
            row["transform"] = {"scale": [float(scale.factor)] * 2, "translation": [0.0, 0.0]}
        layout.append(row)
    attributes = grid_attributes(scales[0].georef, scales[0].shape, dims) | {
        "zarr_conventions": registered("multiscales", "spatial", "proj"),
        "multiscales": {"layout": layout},
    }
    if len(methods) == 1:
        attributes["multiscales"]["resampling_method"] = _RESAMPLING[next(iter(methods))]
    for key in ("spatial:transform", "spatial:transform_type", "spatial:shape"):
        # These belong to levels; the group has as many as it has levels.
        attributes.pop(key)
    return attributes
