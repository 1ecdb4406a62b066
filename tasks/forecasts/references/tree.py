"""The Zarr v2 tree of a reference file: its metadata, the keys of its chunks, the values that refer to messages.

Layout as published for the ECMWF ensemble: ``<var>/<stepType>/<typeOfLevel>/<var|coord>/<chunk>`` for Zarr, and
``step_<HHH>/<param>/<levtype>[/<level>]/<member>/0.0.0`` for those who look fields up by name.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..ecmwf_index import LEVEL_TYPES

_LEVTYPES = {ours: theirs for theirs, ours in LEVEL_TYPES.items()}
_TIME = {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"}
_INLINE = 1 << 16
"""Coordinates of more bytes are compressed before they are put inline."""

type Dimensioned = tuple[tuple[str, ...], np.ndarray, Mapping[str, Any]]
"""Dimensions, values and attributes."""


@dataclass(frozen=True)
class Leaf:
    """One data variable of the tree.

    ``name`` is the variable's, ``step_type`` and ``level_type`` ecCodes' words for its group. ``levels`` has one entry
    (None where there is no level) for a variable without level dimension. ``words`` are param and level type as the
    provider's index has them. ``dims`` and ``shape`` are those of a field.
    """

    name: str
    step_type: str
    level_type: str
    levels: tuple[float | None, ...]
    words: tuple[str, str]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any]

    @property
    def group(self) -> str:
        """Path of the group that holds the variable and its coordinates."""
        return f"{self.name}/{self.step_type}/{self.level_type}"

    @property
    def is_layered(self) -> bool:
        """Whether there is a level dimension."""
        return len(self.levels) > 1


class Tree:
    """The parts of a run's reference files that are the same for every member; `table` makes one of a member."""

    def __init__(
        self, run: datetime, lead_times: Sequence[int], leaves: Sequence[Leaf], grid: Mapping[str, Dimensioned],
        attributes: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.run = run
        self.lead_times = tuple(lead_times)
        self.leaves = tuple(leaves)
        self.grid = grid
        self.attributes = attributes
        self._keys, self._values = self._static()
        self._chunks, self._steps = self._names()

    def table(
        self, member: int | None, urls: Sequence[str], source: np.ndarray, offset: np.ndarray, length: np.ndarray
    ) -> pa.Table:
        """The reference file of one member: columns ``key`` (string) and ``value`` (binary).

        ``source`` (index in ``urls``, negative where there is no field), ``offset`` and ``length`` are 1-D: leaves in
        order, each (lead_time, level) in C order. ``member`` is None for a single run.
        """
        there = np.flatnonzero(source >= 0)
        messages = _messages(urls, source[there], offset[there], length[there])
        chunks, steps = self._chunks, self._steps
        if len(there) < len(source):
            chunks, steps = chunks.take(pa.array(there)), steps.take(pa.array(there))
        tail = "/0.0.0" if member is None else f"/{member_word(member)}/0.0.0"
        steps = pc.binary_join_element_wise(steps, tail, "")
        own_keys, own_values = self._of_member(member)
        return pa.table(
            {
                "key": pa.chunked_array([self._keys, own_keys, chunks, steps]),
                "value": pa.chunked_array([self._values, own_values, messages, messages]),
            }
        )

    def _static(self) -> tuple[pa.Array, pa.Array]:
        """Metadata of every group and array, and the coordinates, inline."""
        found: dict[str, bytes] = {".zgroup": _GROUP, ".zattrs": orjson.dumps(dict(self.attributes))}
        leads = np.asarray(self.lead_times, "int64")
        start = int(self.run.timestamp())
        steps = {
            "units": "hours", "standard_name": "forecast_period", "long_name": "time since forecast_reference_time",
            "dtype": "timedelta64[ns]",
        }  # fmt: skip
        times: dict[str, Dimensioned] = {
            "time": ((), np.array(start), {"standard_name": "forecast_reference_time", **_TIME}),
            "step": (("step",), leads, steps),
            "valid_time": (("step",), start + 3600 * leads, {"standard_name": "time", **_TIME}),
        }
        for leaf in self.leaves:
            parts = leaf.group.split("/")
            for depth in range(1, len(parts) + 1):
                found["/".join(parts[:depth]) + "/.zgroup"] = _GROUP
            coordinates = {**times, **self.grid, **_levels(leaf)}
            names = " ".join(n for n, (dims, _, _) in coordinates.items() if dims != (n,))
            found[f"{leaf.group}/.zattrs"] = orjson.dumps({"coordinates": f"{names} number"})
            for name, (dims, values, attributes) in coordinates.items():
                found |= _inline(f"{leaf.group}/{name}", dims, values, attributes)
            found |= self._data(leaf)
        return pa.array(found.keys(), pa.string()), pa.array(found.values(), pa.binary())

    def _data(self, leaf: Leaf) -> dict[str, bytes]:
        outer = [len(self.lead_times)] + ([len(leaf.levels)] if leaf.is_layered else [])
        names = ["step"] + ([leaf.level_type] if leaf.is_layered else [])
        path = f"{leaf.group}/{leaf.name}"
        array = {
            "zarr_format": 2, "shape": [*outer, *leaf.shape], "chunks": [*([1] * len(outer)), *leaf.shape],
            "dtype": "<f4", "fill_value": "NaN", "order": "C", "compressor": None,
            "filters": [{"id": "grib", "var": leaf.name, "dtype": "float32"}],
        }  # fmt: skip
        attributes = {**leaf.attributes, "_ARRAY_DIMENSIONS": [*names, *leaf.dims]}
        return {f"{path}/.zarray": orjson.dumps(array), f"{path}/.zattrs": orjson.dumps(attributes)}

    def _of_member(self, member: int | None) -> tuple[pa.Array, pa.Array]:
        found: dict[str, bytes] = {}
        if member is not None:
            attributes = {"standard_name": "realization", "long_name": "ensemble member (0 is the control)"}
            for group in dict.fromkeys(leaf.group for leaf in self.leaves):
                found |= _inline(f"{group}/number", (), np.array(member, "int64"), attributes)
        return pa.array(found.keys(), pa.string()), pa.array(found.values(), pa.binary())

    def _names(self) -> tuple[pa.Array, pa.Array]:
        """Keys of all chunks, and what stands before the member in the keys by step; both in the order of `table`."""
        chunks: list[str] = []
        steps: list[str] = []
        shared = _shared([leaf.words for leaf in self.leaves], [leaf.levels for leaf in self.leaves])
        for leaf, is_shared in zip(self.leaves, shared, strict=True):
            param, level_type = leaf.words
            # Fields that the index tells apart by their window only have the variable's name beside the param's.
            word = param.lower().replace(" ", "_") + (f":{leaf.name}" if is_shared else "")
            middle = f"{word}/{_LEVTYPES.get(level_type, level_type)}"
            rest = ".".join("0" * len(leaf.shape))
            tails = ["" if level is None else f"/{level:g}" for level in leaf.levels]
            path = f"{leaf.group}/{leaf.name}/"
            for number, hours in enumerate(self.lead_times):
                steps += [f"step_{hours:03d}/{middle}{tail}" for tail in tails]
                places = [f"{number}.{at}" for at in range(len(tails))] if leaf.is_layered else [str(number)]
                chunks += [f"{path}{place}.{rest}" for place in places]
        return pa.array(chunks, pa.string()), pa.array(steps, pa.string())


_GROUP = orjson.dumps({"zarr_format": 2})


def member_word(member: int) -> str:
    """A member in keys by step: ``control``, ``ens01`` ..."""
    return "control" if member == 0 else f"ens{member:02d}"


def _messages(urls: Sequence[str], source: np.ndarray, offset: np.ndarray, length: np.ndarray) -> pa.Array:
    """``["url",offset,length]`` for each field, without an object of Python for any."""
    heads = pa.array([f"[{orjson.dumps(url).decode()}," for url in urls], pa.string()).take(pa.array(source))
    numbers = [pa.array(values).cast(pa.string()) for values in (offset, length)]
    return pc.binary_join_element_wise(heads, numbers[0], ",", numbers[1], "]", "").cast(pa.binary())


def _shared(words: Sequence[tuple[str, str]], levels: Sequence[tuple[float | None, ...]]) -> list[bool]:
    """Whether another variable has the same param at the same level."""
    seen: dict[tuple[object, ...], set[int]] = {}
    for number, (word, own) in enumerate(zip(words, levels, strict=True)):
        for level in own:
            seen.setdefault((*word, level), set()).add(number)
    several = {number for users in seen.values() if len(users) > 1 for number in users}
    return [number in several for number in range(len(words))]


def _levels(leaf: Leaf) -> dict[str, Dimensioned]:
    if leaf.levels[0] is None:
        return {leaf.level_type: ((), np.array(0.0), {})}
    attributes: dict[str, Any] = {"long_name": leaf.level_type}
    if leaf.level_type == "isobaricInhPa":
        attributes = {"standard_name": "air_pressure", "long_name": "pressure", "units": "hPa", "positive": "down"}
    values = np.asarray(leaf.levels, "float64")
    return {
        leaf.level_type: ((leaf.level_type,), values, attributes) if leaf.is_layered else ((), values[0], attributes)
    }


def _inline(path: str, dims: tuple[str, ...], values: np.ndarray, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """An array whose only chunk is in the reference file itself."""
    data = values.tobytes()
    packed = len(data) > _INLINE
    array = {
        "zarr_format": 2, "shape": list(values.shape), "chunks": list(values.shape), "dtype": values.dtype.str,
        "fill_value": None, "order": "C", "filters": None,
        "compressor": {"id": "zlib", "level": 1} if packed else None,
    }  # fmt: skip
    chunk = ".".join("0" * values.ndim) or "0"
    content = base64.b64encode(zlib.compress(data, 1) if packed else data)
    return {
        f"{path}/.zarray": orjson.dumps(array),
        f"{path}/.zattrs": orjson.dumps({**attributes, "_ARRAY_DIMENSIONS": list(dims)}),
        f"{path}/{chunk}": b"base64:" + content,
    }


def run_attributes(run: datetime, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the whole file."""
    return {"Conventions": "CF-1.11", **attributes, "init_time": run.astimezone(UTC).isoformat()}
