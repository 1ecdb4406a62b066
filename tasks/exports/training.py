"""Exporter ``training``: runs as a Zarr store for machine learning, with the statistics of every channel."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ..lake.errors import UsageError
from ..lake.fork import fast_codecs
from . import blocks, cf, plain_zarr
from .exporter import Source, exporters
from .fields import lead_hours, valid_times
from .moments import Moments
from .selecting import Spanning
from .selection import Selection

if TYPE_CHECKING:
    import xarray as xr
    import zarr

_SERIES = 512 * 2**20
"""Bytes held at once where the cube's chunks are series: the fewer blocks, the fewer times a chunk is decoded."""


@exporters.register("training")
class Training(Spanning):
    """Samples for machine learning: the array ``data`` of shape ``(sample, [member], channel, latitude, longitude)``
    (or ``y x``), float32, where a sample is one valid time of one run and a channel a variable (``t2m``) or a variable
    at a level (``t_850``).

    A chunk is one sample of one member with all its channels: a data loader reads one at random with one request.
    Beside it lie, along ``channel``, the statistics of all of ``data`` for normalisation - ``mean``,
    ``standard_deviation`` (of the population), ``minimum``, ``maximum``, ``count`` of the values that are not missing -
    and the ``units``; along ``sample`` lie ``time``, ``init_time`` and ``lead_time`` (hours). Everything is read once.
    Quickest from a zone whose chunks are maps, as the refined one.

    ``python -m flows.training STORE OUTPUT`` holds a model's output against these statistics.
    """

    type: Literal["training"] = "training"
    compression_level: int = Field(default=1, ge=1, le=22, description="zstd level.")

    def write(self, source: Source, folder: Path) -> list[Path]:
        selection = self.selected(source.runs())
        channels = list(channels_of(selection))
        first = channels[0].array
        if odd := [c.name for c in channels if c.array.dims != first.dims]:
            raise UsageError(
                f"channel {odd[0]} cannot stand beside {channels[0].name}",
                expected=first.dims,
                found=next(c.array.dims for c in channels if c.name == odd[0]),
            )
        store = folder / f"{self.name}.zarr"
        with fast_codecs():
            group, step = self._structure(store, selection, channels)
            moments = _fill(group, channels, step)
            for name, values, words in moments.arrays():
                plain_zarr.put(group, name, ("channel",), values, {"long_name": words})
        return plain_zarr.finished(store)

    def _structure(self, store: Path, selection: Selection, channels: list[Channel]) -> tuple[zarr.Group, int]:
        """The store with its coordinates and its empty array; how many lead times a shard has."""
        import zarr
        from zarr.codecs import BloscCodec

        array = channels[0].array
        runs, leads = array.sizes["init_time"], array.sizes["lead_time"]
        front = [array.sizes["member"]] if "member" in array.dims else []
        shape = (runs * leads, *front, len(channels), *array.shape[-2:])
        chunks = (1, *(1 for _ in front), len(channels), *array.shape[-2:])
        series = max(blocks.stored_chunks(c.array).get("lead_time", 1) for c in channels) > 1
        room = _SERIES if series else blocks.BLOCK
        fits = max(1, room // (4 * len(channels) * array.shape[-2] * array.shape[-1]))
        # Shards end with a run, so that each is written whole, by one call.
        step = max(n for n in range(1, min(fits, leads) + 1) if leads % n == 0)
        group = zarr.open_group(store, mode="w", zarr_format=3, attributes=cf.global_attributes(selection))
        group.create_array(
            "data", shape=shape, chunks=chunks, shards=(step, *chunks[1:]), dtype="float32", fill_value=float("nan"),
            dimension_names=["sample", *(["member"] if front else []), "channel", *map(str, array.dims[-2:])],
            attributes={"coordinates": "time init_time lead_time"}, config={"write_empty_chunks": True},
            compressors=BloscCodec(cname="zstd", clevel=self.compression_level, shuffle="bitshuffle"),
        )  # fmt: skip
        own = {str(d) for d in array.dims} - {"init_time", "lead_time"}
        for c in cf.coordinates(selection):
            if set(c.dims) <= own and c.name != "init_time":
                plain_zarr.put(group, c.name, c.dims, c.values, c.attributes)
        clock = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard"}
        starts = selection.run["init_time"].values.astype("datetime64[s]").astype("int64")
        along = {
            "time": (valid_times(selection.run).astype("int64").ravel(), {"standard_name": "time"} | clock),
            "init_time": (np.repeat(starts, leads), {"standard_name": "forecast_reference_time"} | clock),
            "lead_time": (np.tile(lead_hours(selection.run), runs), {"units": "hours"}),
        }
        for name, (values, words) in along.items():
            plain_zarr.put(group, name, ("sample",), values, words)
        for name, texts in (("channel", [c.name for c in channels]), ("units", [c.units for c in channels])):
            plain_zarr.put(group, name, ("channel",), np.array(texts), {})
        return group, step


@dataclass(frozen=True, eq=False)
class Channel:
    """A variable at one level: name, unit, and the fields (init_time, [member], lead_time, y, x), lazily."""

    name: str
    units: str
    array: xr.DataArray


def channels_of(selection: Selection) -> Iterator[Channel]:
    """The channels of a selection: a variable each, or one a level where it has several."""
    for array in selection.arrays:
        front = [d for d in array.dims if d not in ("lead_time", "level")][:-2]
        array = array.transpose(*front, "lead_time", ...)
        units = str(array.attrs.get("units", ""))
        if "level" in array.dims:
            for n, level in enumerate(array["level"].values):
                yield Channel(f"{array.name}_{float(level):g}", units, array.isel(level=n))
        else:
            yield Channel(str(array.name), units, array)


def _fill(group: zarr.Group, channels: list[Channel], step: int) -> Moments:
    """Write the samples, shard by shard; the statistics of what was written."""
    data: Any = group["data"]
    array = channels[0].array
    runs, leads = array.sizes["init_time"], array.sizes["lead_time"]
    members = [(n,) for n in range(array.sizes["member"])] if "member" in array.dims else [()]
    moments = Moments(len(channels))
    with ThreadPoolExecutor(blocks.AHEAD) as pool:
        for run in range(runs):
            for member in members:
                for start in range(0, leads, step):
                    at = (run, *member, slice(start, start + step))
                    values = np.stack(list(pool.map(lambda c, at=at: c.array[at].values, channels)), axis=1)
                    moments.add(values)
                    first = run * leads + start
                    data[(slice(first, first + step), *member)] = values
    return moments
