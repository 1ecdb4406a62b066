"""Time series at points as a table, a column a variable and level, a row a point, member and lead time; as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from .fields import utc_text

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Column:
    """One variable at one level: ``values`` are ``([member] lead_time point)``, ``attributes`` CF's."""

    name: str
    values: np.ndarray
    attributes: Mapping[str, Any]
    has_members: bool


@dataclass(frozen=True, eq=False)
class Table:
    """Series at points. The grid's own coordinates and the distance to it (km) are along the points, ``lead_time``
    (hours) and ``valid_time`` (UTC) along the lead times; ``members`` is None where no column has any."""

    names: Sequence[str]
    latitude: np.ndarray
    longitude: np.ndarray
    grid_latitude: np.ndarray
    grid_longitude: np.ndarray
    distance_km: np.ndarray
    lead_time: np.ndarray
    valid_time: np.ndarray
    init_time: np.datetime64
    members: np.ndarray | None
    columns: Sequence[Column]
    about: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Points, members (1 without any), lead times."""
        return len(self.names), 1 if self.members is None else len(self.members), len(self.lead_time)

    def values(self, column: Column) -> np.ndarray:
        """A column as (point, member, lead_time); one without members holds for each of them."""
        part = np.moveaxis(column.values, -1, 0)
        return np.broadcast_to(part if column.has_members else part[:, None, :], self.shape)


def columns(array: xr.DataArray, values: np.ndarray) -> Iterator[Column]:
    """A variable's columns, one a level (and any other axis): ``t_850``. ``values`` end with the point."""
    outer = [str(d) for d in array.dims[:-2] if d not in ("member", "lead_time")]
    for index in np.ndindex(*(array.sizes[d] for d in outer)):
        labels = [array[d].values[i] for d, i in zip(outer, index, strict=True)]
        parts = [str(array.name), *(f"{v:g}" if isinstance(v, (int, float, np.number)) else str(v) for v in labels)]
        about = dict(array.attrs)
        if labels and outer[-1] == "level":
            about["level"] = f"{parts[-1]} {array['level'].attrs.get('units', '')}".strip()
        yield Column("_".join(parts), values[index], about, "member" in array.dims)


def times(values: np.ndarray, zone: str) -> list[str]:
    """Times (UTC) as ISO 8601 text in a zone, with Z for UTC."""
    if zone == "UTC":
        return [utc_text(t) for t in values]
    there = ZoneInfo(zone)
    return [t.replace(tzinfo=UTC).astimezone(there).isoformat() for t in values.astype("datetime64[s]").tolist()]


def write_csv(path: Path, table: Table, zone: str) -> None:
    """Write a table as CSV, the units of a column in brackets, empty where missing."""
    import polars as pl

    found = _frame(table, {"valid_time": times(table.valid_time, zone)})
    units = {c.name: str(c.attributes["units"]) for c in table.columns if c.attributes.get("units")}
    names = {n: f"{n} [{u}]" for n, u in (units | {"lead_time": "h"}).items()}
    found.rename(names).with_columns(pl.selectors.float().fill_nan(None)).write_csv(path)


def write_parquet(path: Path, table: Table, zone: str) -> None:
    """Write a table as Parquet (zstd), null where missing; units and what the run says of itself are its metadata."""
    import polars as pl
    import pyarrow.parquet as pq

    stamps = pl.Series(table.valid_time.astype("datetime64[ms]")).dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    found = _frame(table, {"valid_time": stamps}).with_columns(pl.selectors.float().fill_nan(None)).to_arrow()
    units = {c.name: str(c.attributes["units"]) for c in table.columns if c.attributes.get("units")}
    about = {**table.about, "init_time": utc_text(table.init_time), "units": orjson.dumps(units | {"lead_time": "h"})}
    pq.write_table(found.replace_schema_metadata(about), path, compression="zstd")


def _frame(table: Table, stamps: Mapping[str, Any]) -> Any:
    """A row a point, member and lead time, in this order."""
    import polars as pl

    points, members, leads = table.shape
    place = {
        "point": list(table.names), "latitude": table.latitude, "longitude": table.longitude,
        "grid_latitude": table.grid_latitude, "grid_longitude": table.grid_longitude, "distance_km": table.distance_km,
    }  # fmt: skip
    each = np.repeat(np.arange(points), members * leads)
    when = np.tile(np.arange(leads), points * members)
    rows: dict[str, Any] = {n: pl.Series(v).gather(each) for n, v in place.items()}
    rows["lead_time"] = table.lead_time[when]
    rows |= {n: pl.Series(v).gather(when) for n, v in stamps.items()}
    if table.members is not None:
        rows["member"] = np.tile(np.repeat(table.members, leads), points)
    return pl.DataFrame(rows | {c.name: table.values(c).ravel() for c in table.columns})
