"""The metadata of the finished store: groups with the multiscales, spatial and proj conventions, coordinates, all of
it consolidated at the root. A pure function of the structure, so that every phase knows it without reading it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
from pyproj import CRS

from ..grids import geozarr
from ..lake.errors import CorruptInput
from .manifest import SourceArray
from .recipe import SceneRecipe
from .structure import Band, Level, Structure
from .zarr_array import Document, document, dtype


def coordinates(level: Level) -> dict[str, tuple[Document, np.ndarray]]:
    """Name -> (``zarr.json``, values) of the arrays that say where a level's pixels lie: centres x, y and the CRS."""
    crs = CRS.from_user_input(level.georef.crs)
    unit = crs.axis_info[0].unit_name if crs.axis_info else "metre"
    y, x = level.georef.centres(level.rows, level.columns)
    a, b, c, d, e, f = level.georef.transform
    geographic = crs.is_geographic
    names = {
        "y": (y, "latitude" if geographic else "projection_y_coordinate"),
        "x": (x, "longitude" if geographic else "projection_x_coordinate"),
    }
    out = {}
    for name, (values, standard) in names.items():
        attributes = {"standard_name": standard, "axis": name.upper(), "units": "m" if unit == "metre" else unit}
        out[name] = document_of(values, (name,), attributes), values
    mapping = {**crs.to_cf(), "spatial_ref": crs.to_wkt(), "GeoTransform": f"{c} {a} {b} {f} {d} {e}"}
    out["spatial_ref"] = document_of(np.array(0, "int64"), (), mapping), np.array(0, "int64")
    return out


def document_of(values: np.ndarray, dims: tuple[str, ...], attributes: Mapping[str, Any]) -> Document:
    """``zarr.json`` of an array in one chunk."""
    fill: Any = float("nan") if values.dtype.kind == "f" else 0
    return document(
        values.shape, str(values.dtype), values.shape, values.shape,
        fill=fill, dims=dims, attributes=attributes, level=3,
    )  # fmt: skip


def other_axes(structure: Structure, level: Level) -> Iterator[tuple[str, str, str]]:
    """(group, name of the source's array, path in the store) of coordinates for dimensions besides y and x."""
    seen = set()
    for band in structure.bands.values():
        if band.level != level:
            continue
        for dim in band.source.dims[:-2]:
            if dim in structure.manifests[band.group].arrays and dim not in seen:
                seen.add(dim)
                yield band.group, dim, f"{level.path}/{dim}"


def axis_document(source: SourceArray) -> Document:
    """``zarr.json`` of a coordinate besides y and x."""
    kept = {k: v for k, v in source.attributes.items() if not k.startswith("_")}
    return document_of(np.empty(source.shape, dtype(source.document).newbyteorder("=")), source.dims, kept)


def documents(structure: Structure, recipe: SceneRecipe) -> dict[str, bytes]:
    """Key below the store -> content of every ``zarr.json``; the root's, which makes it a store, comes last.

    Raises ``UsageError`` without the extra ``scenes``, ``CorruptInput`` when groups of a scene differ in CRS.
    """
    nodes: dict[str, Document] = {}
    for level in structure.levels.values():
        for group, name, path in other_axes(structure, level):
            nodes[path] = axis_document(structure.manifests[group].arrays[name])
        bands = [b for b in structure.bands.values() if b.level == level]
        nodes |= {b.path: b.document for b in bands}
        nodes |= {f"{level.path}/{name}": found for name, (found, _) in coordinates(level).items()}
        nodes[level.path] = _group({**_own(structure, level, bands), **_grid(level), "grid_mapping": "spatial_ref"})
    for path, levels in structure.pyramids.items():
        nodes[path] = _group(_pyramid(structure, path, levels))
    for path in list(nodes):
        while path := path.rpartition("/")[0]:
            nodes.setdefault(path, _group({}))
    root = _root(structure, recipe)
    inside = {path: nodes[path] for path in sorted(nodes)}
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": inside}
    out = {f"{path}/zarr.json": _json(node) for path, node in inside.items()}
    out["zarr.json"] = _json(root)
    return out


def _own(structure: Structure, level: Level, bands: list[Band]) -> dict[str, Any]:
    """What the source says of the group, at the source's own level."""
    groups = {b.group for b in bands if b.parent is None}
    return dict(structure.manifests[groups.pop()].attributes) if len(groups) == 1 else {}


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def _group(attributes: Mapping[str, Any]) -> Document:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def _grid(level: Level) -> dict[str, Any]:
    return geozarr.grid_attributes(level.georef, (level.rows, level.columns))


def _pyramid(structure: Structure, path: str, paths: tuple[str, ...]) -> dict[str, Any]:
    levels = []
    for name in paths:
        level = structure.levels[name]
        parent = None if level.parent is None else level.parent.removeprefix(f"{path}/")
        levels.append(
            geozarr.Scale(
                name.removeprefix(f"{path}/"), level.georef, (level.rows, level.columns), parent, level.factor
            )
        )
    methods = {b.method for b in structure.bands.values() if b.level.path in paths}
    return geozarr.pyramid_attributes(levels, methods)


def _root(structure: Structure, recipe: SceneRecipe) -> Document:
    first = next(iter(structure.manifests.values()))
    crs = {m.crs for m in structure.manifests.values()}
    if len(crs) > 1:
        raise CorruptInput(
            f"the groups of {structure.scene} differ in CRS", expected="one", found=", ".join(sorted(crs))
        )
    boxes = np.array([m.georef.bbox(*m.size) for m in structure.manifests.values()])
    box = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    attributes = {
        "zarr_conventions": geozarr.registered("spatial", "proj"),
        "spatial:dimensions": ["y", "x"],
        "spatial:bbox": box,
        **geozarr.crs_attributes(first.georef),
        "title": f"{recipe.title}: {structure.scene}" if recipe.title else structure.scene,
        "attribution": recipe.attribution,
        "derived_from": first.href or first.store,
    }
    return _group(attributes)
