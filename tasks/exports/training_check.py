"""A model's output held against the statistics of the data it was trained on (exporter ``training``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..lake.errors import CorruptInput, NotFound, UsageError
from .moments import Moments

if TYPE_CHECKING:
    import xarray as xr

MARGIN = 0.1
"""Share of a channel's range by which values may lie outside it."""

SHIFT = 1.0
"""Standard deviations by which the mean may be off: one field of one season may well be."""

SPREAD = (0.25, 4.0)
"""Least and most that the standard deviation may be of that in training: below, fields were smoothed away."""

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of one channel of a model's output; ``problems`` is empty when nothing is."""

    channel: str
    units: str
    count: int
    missing: float
    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    problems: tuple[str, ...]

    @property
    def verdict(self) -> Literal["ok", "suspect"]:
        """In a word."""
        return "suspect" if self.problems else "ok"


def check(store: str | Path, output: str | Path, margin: float = MARGIN) -> list[Finding]:
    """Hold a model's output against a training store, channel by channel.

    ``output`` is NetCDF or Zarr, and has either ``data`` with a ``channel`` coordinate, as the store, or variables
    named as channels are (``t2m``, and ``t_850`` or ``t`` along ``level``); channels the model does not have are left
    out. Raises ``UsageError`` when either cannot be read or no channel is in both.
    """
    with _opened(store) as trained, _opened(output) as made:
        for name in ("mean", "standard_deviation", "minimum", "maximum", "count"):
            if name not in trained:
                raise UsageError(f"{store} is no training store: it has no {name!r}")
        known = [str(c) for c in trained["channel"].values]
        found = dict(_channels(made))
        common = [c for c in known if c in found]
        if not common:
            raise UsageError("the output has none of the channels", expected=", ".join(known), found=", ".join(found))
        shape = tuple(trained["data"].shape[-2:])
        return [_finding(c, known.index(c), found[c], trained, shape, margin) for c in common]


def _finding(
    channel: str, place: int, array: xr.DataArray, trained: xr.Dataset, shape: tuple[int, ...], margin: float
) -> Finding:
    values = {n: trained[n].values[place] for n in ("mean", "standard_deviation", "minimum", "maximum", "count")}
    size = trained["data"].size // len(trained["channel"])
    allowed = 1 - float(values["count"]) / size
    moments = Moments(1)
    infinite = 0
    for block in _blocks(array):
        endless = np.isinf(block)
        infinite += int(endless.sum())
        moments.add(np.where(endless, np.nan, block).reshape(1, 1, -1))
    found = {n: v[0] for n, v, _ in moments.arrays()}
    missing = 1 - float(found["count"] + infinite) / max(array.size, 1)
    problems = []
    if array.shape[-2:] != shape:
        problems.append(f"its fields are {_times(array.shape[-2:])}, those of the training data {_times(shape)}")
    if infinite:
        problems.append(f"{infinite} values are infinite")
    if missing > allowed + 1e-6:
        problems.append(f"{missing:.2%} of its values are missing, {allowed:.2%} in the training data")
    if found["count"]:
        problems += _against(found, values, margin)
    return Finding(
        channel=channel, units=str(trained["units"].values[place]), count=int(found["count"]), missing=missing,
        mean=float(found["mean"]), standard_deviation=float(found["standard_deviation"]),
        minimum=float(found["minimum"]), maximum=float(found["maximum"]), problems=tuple(problems),
    )  # fmt: skip


def _against(found: dict[str, float], known: dict[str, float], margin: float) -> Iterator[str]:
    room = margin * (known["maximum"] - known["minimum"])
    for name, beyond in (
        ("minimum", known["minimum"] - room - found["minimum"]),
        ("maximum", found["maximum"] - known["maximum"] - room),
    ):
        if beyond > 0:
            yield f"its {name} {found[name]:.6g} is out of range, {known[name]:.6g} in the training data"
    spread = known["standard_deviation"]
    if spread > 0:
        off = abs(found["mean"] - known["mean"]) / spread
        if off > SHIFT:
            yield f"its mean {found['mean']:.6g} is {off:.1f} standard deviations from {known['mean']:.6g}"
        ratio = found["standard_deviation"] / spread
        if not SPREAD[0] <= ratio <= SPREAD[1]:
            yield f"its standard deviation is {ratio:.2g} times that of the training data"


def _blocks(array: xr.DataArray) -> Iterator[np.ndarray]:
    """The values, some fields at a time."""
    if array.ndim < 3:
        yield np.asarray(array.values, dtype="float64")
        return
    for start in range(0, array.shape[0], _BLOCK):
        yield np.asarray(array[start : start + _BLOCK].values, dtype="float64")


def _channels(made: xr.Dataset) -> Iterator[tuple[str, xr.DataArray]]:
    if "data" in made and "channel" in made["data"].dims and "channel" in made.coords:
        for n, name in enumerate(made["channel"].values):
            yield str(name), made["data"].isel(channel=n)
        return
    for name, array in made.data_vars.items():
        if array.ndim < 2 or array.dtype.kind not in "fiu":
            continue
        if "level" in array.dims and "level" in array.coords:
            for n, level in enumerate(array["level"].values):
                yield f"{name}_{float(level):g}", array.isel(level=n)
        else:
            yield str(name), array


def _opened(place: str | Path) -> xr.Dataset:
    import xarray as xr

    path = Path(place)
    if not path.exists():
        raise NotFound(f"{place} is not there")
    try:
        if path.is_dir():
            return xr.open_zarr(path, chunks=None)
        return xr.open_dataset(path, decode_times=False, engine="netcdf4")
    except (OSError, ValueError, KeyError) as error:
        raise CorruptInput(f"{place} is neither Zarr nor NetCDF ({str(error).splitlines()[0]})") from None


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
