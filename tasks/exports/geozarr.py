"""Exporter ``geozarr``: a run as a multiscale GeoZarr store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ..grids import geozarr, geozarr_validators
from ..grids.georef import Georef
from ..grids.overviews import Method, reduced
from ..lake.errors import LakeError, UsageError
from ..lake.fork import fast_codecs
from . import cf, plain_zarr
from .exporter import exporters
from .raster import Raster, map_block, maps, method_of, raster
from .selecting import Selecting
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr
    import zarr

_TILE = 512
"""Rows and columns of a chunk, at most."""


@exporters.register("geozarr")
class GeoZarr(Selecting):
    """A run as a Zarr v3 store with overviews, by the GeoZarr conventions spatial, proj and multiscales.

    Groups ``0`` (the finest), ``1``, ``2`` ... of cells twice as wide each, until a side is shorter than ``smallest``.
    Variables are ``time [member] [level] latitude longitude`` (or ``y x``), rows from the north, columns from -180 on;
    a chunk is a map or a tile of 512 x 512 of it. Overviews are means of what is not missing; of variables with flags
    the most frequent class; of directions every second cell. zarr-cm checks the metadata before anything is handed out.
    """

    type: Literal["geozarr"] = "geozarr"
    smallest: int = Field(default=256, ge=1, description="Overviews are made while the shorter side has as many cells.")
    methods: dict[str, Method] = Field(default={}, description="How overviews are made, by variable.")
    compression_level: int = Field(default=3, ge=1, le=22, description="zstd level.")

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        selection = self.selected(run)
        if unknown := sorted(set(self.methods) - {str(a.name) for a in selection.arrays}):
            raise UsageError(f"'methods' names {unknown[0]!r}, which is not among the variables exported")
        methods = {str(a.name): self.methods.get(str(a.name)) or method_of(a) for a in selection.arrays}
        place = raster(selection)
        scales = self._scales(place)
        store = folder / f"{self.name}.zarr"
        with fast_codecs():
            root = _root(store, selection, place, scales, methods)
            for array in selection.arrays:
                self._write(root, array, selection, place, scales, methods[str(array.name)])
        paths = plain_zarr.finished(store)
        documents = {p.relative_to(store).as_posix(): p.read_bytes() for p in paths if p.name == "zarr.json"}
        if problems := geozarr_validators.conventions(documents):
            raise LakeError(f"the store of {self.name} is no GeoZarr, zarr-cm says: {problems[0]}")
        return paths

    def _scales(self, place: Raster) -> list[geozarr.Scale]:
        found = [geozarr.Scale("0", place.georef, place.shape)]
        while min(found[-1].shape) // 2 >= self.smallest:
            last = found[-1]
            rows, columns = (-(-n // 2) for n in last.shape)
            found.append(geozarr.Scale(str(len(found)), last.georef.coarser(2), (rows, columns), last.asset, 2))
        return found

    def _write(
        self, root: zarr.Group, array: xr.DataArray, selection: Selection, place: Raster,
        scales: list[geozarr.Scale], method: Method,
    ) -> None:  # fmt: skip
        from zarr.codecs import BloscCodec

        dims = [*cf.dims_of(array)[:-2], *place.dims]
        about = {k: v for k, v in cf.attributes(array, selection).items() if k != "coordinates"}
        extra = [n for n in ("valid_time", "init_time") if n in root["0"]]
        about |= {"grid_mapping": "spatial_ref", "coordinates": " ".join(extra)}
        made, front = {}, map_block(array)[:-2]
        for scale in scales:
            tile = [min(n, _TILE) for n in scale.shape]
            # What is read at once is one shard: written once, by one call.
            shard = (*front, *(-(-n // t) * t for n, t in zip(scale.shape, tile, strict=True)))
            made[scale.asset] = root.create_array(
                f"{scale.asset}/{array.name}",
                shape=(*array.shape[:-2], *scale.shape),
                chunks=(*(1 for _ in front), *tile),
                shards=shard,
                dtype=array.dtype,
                dimension_names=dims,
                attributes=plain_zarr.json_values(about),
                fill_value=float("nan") if array.dtype.kind == "f" else None,
                compressors=BloscCodec(cname="zstd", clevel=self.compression_level, shuffle="bitshuffle"),
                config={"write_empty_chunks": True},
            )
        for index, values in maps(array, place):
            for scale in scales:
                values = values if scale.parent is None else reduced(values, scale.factor, method, None)
                made[scale.asset][(*index, slice(None), slice(None))] = values


def _root(
    store: Path, selection: Selection, place: Raster, scales: list[geozarr.Scale], methods: Mapping[str, Method]
) -> zarr.Group:
    """The store with its groups and coordinates."""
    import zarr

    about = cf.global_attributes(selection)
    about |= geozarr.pyramid_attributes(scales, set(methods.values()), place.dims)
    root = zarr.open_group(store, mode="w", zarr_format=3, attributes=plain_zarr.json_values(about))
    along = [c for c in cf.coordinates(selection) if c.name not in ("latitude", "longitude", *place.dims)]
    for scale in scales:
        attributes = geozarr.grid_attributes(scale.georef, scale.shape, place.dims) | {"grid_mapping": "spatial_ref"}
        group = root.create_group(scale.asset, attributes=attributes)
        for name, values, words in place.coordinates(scale.shape, scale.georef):
            plain_zarr.put(group, name, (name,), values, words)
        for coordinate in along:
            plain_zarr.put(group, coordinate.name, coordinate.dims, coordinate.values, coordinate.attributes)
        plain_zarr.put(group, "spatial_ref", (), np.array(0), _mapping(scale.georef))
    return root


def _mapping(georef: Georef) -> dict[str, Any]:
    """Attributes of the grid mapping, as CF has them and as GDAL and rioxarray look for them."""
    from pyproj import CRS

    crs = CRS.from_user_input(georef.crs)
    a, b, c, d, e, f = georef.transform
    known = {k: v for k, v in crs.to_cf().items() if not isinstance(v, bool)}
    return {**known, "spatial_ref": crs.to_wkt(), "GeoTransform": f"{c} {a} {b} {f} {d} {e}"}
