"""NOAA GFS: https://registry.opendata.aws/noaa-gfs-bdp-pds/"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from .eras import Eras, Steps, every
from .noaa import SIX_HOURLY, Noaa
from .source import sources

_START = "2021-01-01"

FOLDERS = Eras({_START: "", "2021-03-23": "atmos/"})
"""Folder below ``gfs.YYYYMMDD/HH/``."""

_BY_3 = every((0, 384, 3))

STEPS: dict[str, Eras[dict[Sequence[int], Steps]]] = {
    "0p25": Eras({_START: {SIX_HOURLY: every((0, 120, 1), (123, 384, 3))}}),
    "0p50": Eras({_START: {SIX_HOURLY: _BY_3}}),
    "1p00": Eras({_START: {SIX_HOURLY: _BY_3}}),
}


@sources.register("gfs")
class Gfs(Noaa):
    """NOAA's global model, a single run."""

    type: Literal["gfs"] = "gfs"
    resolution: Literal["0p25", "0p50", "1p00"] = "0p25"
    product: Literal["pgrb2", "pgrb2b"] = Field(
        default="pgrb2", description="pgrb2: the common fields; pgrb2b: less common fields and levels."
    )
    mirrors: tuple[str, ...] = Field(
        default=(
            "s3://noaa-gfs-bdp-pds?region=us-east-1&anonymous=true",
            "https://storage.googleapis.com/global-forecast-system",
        ),
        min_length=1,
        description="URLs, tried in this order.",
    )

    latencies: ClassVar = ((0, 3.5), (6, 3.6), (384, 5.6))

    def schedule(self) -> Eras[dict[Sequence[int], Steps]]:
        return STEPS[self.resolution]

    def members(self, run: datetime) -> None:
        del run

    def keys(self, run: datetime, step: int) -> Sequence[tuple[str, int | None]]:
        folder = f"gfs.{run:%Y%m%d}/{run:%H}/{FOLDERS.at(run, self._what)}"
        return [(f"{folder}gfs.t{run:%H}z.{self.product}.{self.resolution}.f{step:03d}", None)]
