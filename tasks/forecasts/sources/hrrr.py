"""NOAA HRRR over the contiguous United States: https://registry.opendata.aws/noaa-hrrr-pds/"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from .eras import Eras, Steps, every
from .noaa import SIX_HOURLY, Noaa
from .source import sources

_REST = tuple(h for h in range(24) if h not in SIX_HOURLY)
_TO_18 = every((0, 18, 1))

STEPS: Eras[dict[Sequence[int], Steps]] = Eras(
    {
        "2018-07-12T12": {SIX_HOURLY: every((0, 36, 1)), _REST: _TO_18},  # HRRR v3
        "2020-12-02T12": {SIX_HOURLY: every((0, 48, 1)), _REST: _TO_18},  # HRRR v4
    }
)


@sources.register("hrrr")
class Hrrr(Noaa):
    """NOAA's hourly 3 km model on a Lambert grid of 1059 x 1799, a single run every hour."""

    type: Literal["hrrr"] = "hrrr"
    product: Literal["sfc", "prs", "nat"] = Field(
        default="sfc", description="sfc: single levels; prs: pressure levels; nat: model levels."
    )
    mirrors: tuple[str, ...] = Field(
        default=(
            "s3://noaa-hrrr-bdp-pds?region=us-east-1&anonymous=true",
            "https://storage.googleapis.com/high-resolution-rapid-refresh",
        ),
        min_length=1,
        description="URLs, tried in this order.",
    )

    latencies: ClassVar = ((0, 0.85), (48, 1.85))

    def schedule(self) -> Eras[dict[Sequence[int], Steps]]:
        return STEPS

    def members(self, run: datetime) -> None:
        del run

    def keys(self, run: datetime, step: int) -> Sequence[tuple[str, int | None]]:
        return [(f"hrrr.{run:%Y%m%d}/conus/hrrr.t{run:%H}z.wrf{self.product}f{step:02d}.grib2", None)]
