"""The structure of a cube: its arrays and coordinates as Zarr metadata, made in any store."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import orjson

from .cube_template import ArrayTemplate, CubeTemplate
from .errors import UsageError
from .run_axis import RUN_AXIS, RUN_COORDINATES, create_status, status_name

_RUNS_PER_CHUNK = 1024


def make(group: Any, template: CubeTemplate, path: str) -> None:
    """Make every array of ``template`` that is not in ``group`` yet, and bring attributes up to date.

    Raises ``UsageError``, which names the cube by its ``path``, when an array is there in another layout.
    """
    # Listed once: each look at a single member is a round trip through zarr's event loop.
    there = dict(group.members())
    # xarray's convention for coordinates that no variable names: they are none of the data.
    coordinates = _plain_coordinates(template, there)
    attributes = {"Conventions": "CF-1.11", **template.attributes, "coordinates": coordinates}
    if dict(group.attrs) != attributes:
        group.attrs.put(attributes)
    for name, (dims, values, attrs) in template.coordinates.items():
        if name not in there:
            _put_coordinate(group, name, dims, values, attrs)
    for name, axis in RUN_COORDINATES.items():
        if name not in there:
            lengths = {RUN_AXIS: 0, "lead_time": len(template.lead_time)}
            group.create_array(
                name,
                shape=tuple(lengths[d] for d in axis.dims),
                chunks=tuple(lengths[d] or _RUNS_PER_CHUNK for d in axis.dims),
                dtype=axis.dtype,
                fill_value=axis.fill,
                dimension_names=list(axis.dims),
                attributes=dict(axis.attributes),
                config={"write_empty_chunks": True},
            )
    for name, array in template.arrays.items():
        if name not in there:
            _create_array(group, name, array)
        else:
            _same_layout(path, name, there[name], array)
            if dict(there[name].attrs) != dict(array.attributes):
                there[name].attrs.put(dict(array.attributes))
        if status_name(name) not in there:
            create_status(group, name, array)


def metadata(template: CubeTemplate) -> dict[str, Any]:
    """The Zarr metadata of a cube without runs: name of the array ('' for the group) -> its ``zarr.json``."""
    import zarr
    from zarr.storage import MemoryStore

    kept: dict[str, Any] = {}
    make(zarr.open_group(MemoryStore(kept), mode="w", zarr_format=3), template, "in memory")
    return {
        key.removesuffix("zarr.json").rstrip("/"): orjson.loads(kept[key].to_bytes())
        for key in sorted(kept)
        if key.endswith("zarr.json")
    }


def _plain_coordinates(template: CubeTemplate, there: Collection[str]) -> str:
    # Variables that only another recipe of this cube has keep their status among the coordinates.
    known = dict.fromkeys([*template.arrays, *sorted(n.removesuffix("_status") for n in there)])
    statuses = [status_name(n) for n in known if n in template.arrays or status_name(n) in there]
    names = [*RUN_COORDINATES, *template.coordinates, *statuses]
    dimensions = {RUN_AXIS, "lead_time"}.union(*(dims for dims, _, _ in template.coordinates.values()))
    return " ".join(n for n in names if n not in dimensions)


def _put_coordinate(group: Any, name: str, dims: tuple[str, ...], values: np.ndarray, attrs: Mapping[str, Any]) -> None:
    values = np.asarray(values)
    array = group.create_array(
        name, shape=values.shape, chunks=tuple(max(n, 1) for n in values.shape), dtype=values.dtype,
        dimension_names=list(dims), attributes=dict(attrs), config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = values


def _create_array(group: Any, name: str, array: ArrayTemplate) -> None:
    from zarr.codecs import BloscCodec

    group.create_array(
        name,
        shape=(0, *array.shape),
        chunks=(1, *array.chunks),
        shards=(1, *array.shards),
        dtype=array.dtype,
        fill_value=float("nan"),
        dimension_names=[RUN_AXIS, *array.dims],
        attributes=dict(array.attributes),
        filters=_packers(array.packing),
        compressors=BloscCodec(cname="zstd", clevel=array.level, shuffle="bitshuffle"),
        config={"write_empty_chunks": True},
    )


def _packers(packing: tuple[float, float] | None) -> list[Any]:
    """Codecs that store float32 as 16-bit integers (Zarr extensions ``scale_offset`` and ``cast_value``)."""
    if packing is None:
        return []
    from zarr.codecs import CastValue, ScaleOffset

    offset, step = packing
    # Clamped, since Zarr tries the codecs on a zero when it makes the array; whoever writes looks at the range first.
    missing: Any = {"encode": [("NaN", _NO_VALUE)], "decode": [(_NO_VALUE, "NaN")]}
    return [
        ScaleOffset(offset=offset, scale=1 / step),
        CastValue(data_type="int16", out_of_range="clamp", scalar_map=missing),
    ]


_NO_VALUE = -32768


def _same_layout(path: str, name: str, found: Any, wanted: ArrayTemplate) -> None:
    there = (tuple(found.shape[1:]), tuple(found.chunks[1:]), tuple((found.shards or found.chunks)[1:]))
    asked = (wanted.shape, wanted.chunks, wanted.shards)
    if there != asked:
        raise UsageError(
            f"variable {name} of cube {path} has another layout (shape, chunks, shards)", expected=asked, found=there
        )
    packers = [[codec.to_dict() for codec in codecs] for codecs in (_packers(wanted.packing), found.filters)]
    if packers[0] != packers[1]:
        raise UsageError(
            f"variable {name} of cube {path} is packed in another way", expected=packers[0], found=packers[1]
        )
