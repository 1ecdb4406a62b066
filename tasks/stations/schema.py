"""The silver table: which columns it has, in what units, and how each is combined over a longer interval."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

type Operator = Literal["mean", "sum", "min", "max", "direction", "last"]
"""How values of a column become one of a longer interval; ``direction`` is that of the mean wind vector."""

GOOD, NOT_EVALUATED, SUSPECT, FAIL, MISSING = 1, 2, 3, 4, 9
"""QARTOD flags (IOOS, Manual for Real-Time Quality Control, 2020: primary level flags)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A measured quantity of the silver table. Every value stands for the interval that ends at ``timestamp``."""

    name: str
    units: str
    operator: Operator
    description: str


COLUMNS: tuple[Column, ...] = (
    Column("temperature", "degC", "mean", "air temperature at 1.5 m"),
    Column("temperature_minimum_10cm", "degC", "min", "lowest air temperature at 10 cm"),
    Column("dew_point", "degC", "mean", "dew point temperature at 1.5 m"),
    Column("humidity", "%", "mean", "relative humidity at 1.5 m"),
    Column("pressure", "hPa", "mean", "air pressure at mean sea level"),
    Column("wind_direction", "degree", "direction", "direction the wind comes from; null in a calm or when variable"),
    Column("wind_speed", "m s-1", "mean", "mean wind speed of the interval at 10 m"),
    Column("wind_speed_10min", "m s-1", "last", "mean wind speed of the interval's last 10 minutes at 10 m"),
    Column("wind_gust", "m s-1", "max", "highest gust at 10 m"),
    Column("precipitation", "mm", "sum", "precipitation"),
    Column("precipitation_duration", "h", "sum", "duration of precipitation"),
    Column("sunshine_duration", "h", "sum", "duration of sunshine"),
    Column("radiation", "J cm-2", "sum", "global radiation"),
    Column("visibility", "code", "last", "horizontal visibility, code of the provider"),
    Column("cloud_cover", "octa", "mean", "cloud cover; 9: sky not visible"),
    Column("weather_code", "code", "last", "present weather, code of the provider"),
)

NAMES: tuple[str, ...] = tuple(c.name for c in COLUMNS)
OPERATORS: dict[str, Operator] = {c.name: c.operator for c in COLUMNS}
UNITS: dict[str, str] = {c.name: c.units for c in COLUMNS}


def silver_schema() -> "dict[str, pl.DataType | type[pl.DataType]]":
    """Column -> polars type of the silver table, in its order. One row per (timestamp, station), sorted by both."""
    import polars as pl

    return {
        "timestamp": pl.Datetime("us", "UTC"),
        "station_id": pl.String,
        "latitude": pl.Float64,
        "longitude": pl.Float64,
        "height": pl.Float64,
        **dict.fromkeys(NAMES, pl.Float64),
        "quality_score": pl.Float32,
        "quality_flags": pl.Struct(dict.fromkeys(NAMES, pl.UInt8)),
    }
