"""NOAA GEFS, a file per member: https://registry.opendata.aws/noaa-gefs/"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from .eras import Eras, Steps, every
from .noaa import SIX_HOURLY, Noaa
from .source import sources

_START = "2020-09-23T12"
_TO_384 = every((0, 240, 3), (246, 384, 6))
_LONG: dict[Sequence[int], Steps] = {(0,): every((0, 240, 3), (246, 840, 6)), (6, 12, 18): _TO_384}

STEPS: dict[str, Eras[dict[Sequence[int], Steps]]] = {
    "pgrb2s": Eras({_START: {SIX_HOURLY: every((0, 240, 3))}}),
    "pgrb2a": Eras({_START: _LONG}),
    "pgrb2b": Eras({_START: _LONG}),
}
"""The run of 00 UTC goes on to day 35."""

FOLDERS = {"pgrb2s": ("pgrb2sp25", "0p25"), "pgrb2a": ("pgrb2ap5", "0p50"), "pgrb2b": ("pgrb2bp5", "0p50")}
"""Product -> its folder and the resolution in the names of its files."""

MEMBERS = tuple(range(31))


@sources.register("gefs")
class Gefs(Noaa):
    """NOAA's global ensemble: members 0 (the control) to 30."""

    type: Literal["gefs"] = "gefs"
    product: Literal["pgrb2s", "pgrb2a", "pgrb2b"] = Field(
        default="pgrb2s",
        description="pgrb2s: near the surface, 0.25 degrees, to 240 h; pgrb2a: common, pgrb2b: other fields, 0.5.",
    )
    mirrors: tuple[str, ...] = Field(
        default=(
            "s3://noaa-gefs-pds?region=us-east-1&anonymous=true",
            "https://storage.googleapis.com/gfs-ensemble-forecast-system",
        ),
        min_length=1,
        description="URLs, tried in this order.",
    )

    latencies: ClassVar = ((0, 4.0), (240, 5.7), (384, 7.0), (840, 24.0))

    def schedule(self) -> Eras[dict[Sequence[int], Steps]]:
        return STEPS[self.product]

    def members(self, run: datetime) -> tuple[int, ...]:
        del run
        return MEMBERS

    def keys(self, run: datetime, step: int) -> Sequence[tuple[str, int | None]]:
        folder, resolution = FOLDERS[self.product]
        keys = []
        for member in MEMBERS:
            name = f"ge{f'p{member:02d}' if member else 'c00'}.t{run:%H}z.{self.product}.{resolution}.f{step:03d}"
            keys.append((f"gefs.{run:%Y%m%d}/{run:%H}/atmos/{folder}/{name}", member))
        return keys
