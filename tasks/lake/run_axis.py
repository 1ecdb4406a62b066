"""The axis ``init_time`` of a cube, and the coordinates that say of each run what it is and how far it goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .cube_template import CubeTemplate

RUN_AXIS = "init_time"
STATUS = {"absent": 0, "accepted": 1, "flagged": 2}
"""Values of the coordinate ``status`` along init_time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSENT = np.iinfo("int64").min
_DURATION = {"units": "hours", "dtype": "timedelta64[ns]"}
_TIME = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "proleptic_gregorian"}


@dataclass(frozen=True, slots=True)
class RunCoordinate:
    """A coordinate along init_time: dimensions, dtype, fill value, CF attributes."""

    dims: tuple[str, ...]
    dtype: str
    fill: int
    attributes: Mapping[str, Any]


RUN_COORDINATES: Mapping[str, RunCoordinate] = {
    RUN_AXIS: RunCoordinate(
        (RUN_AXIS,),
        "int64",
        0,
        {"standard_name": "forecast_reference_time", "long_name": "initialisation time of the run", **_TIME},
    ),
    "valid_time": RunCoordinate(
        (RUN_AXIS, "lead_time"),
        "int64",
        0,
        {"standard_name": "time", "long_name": "time for which the forecast holds", **_TIME},
    ),
    "expected_forecast_length": RunCoordinate(
        (RUN_AXIS,),
        "int64",
        _ABSENT,
        {"long_name": "lead time that a complete run reaches", "_FillValue": _ABSENT, **_DURATION},
    ),
    "ingested_forecast_length": RunCoordinate(
        (RUN_AXIS,),
        "int64",
        _ABSENT,
        {"long_name": "lead time up to which the run is complete here", "_FillValue": _ABSENT, **_DURATION},
    ),
    "status": RunCoordinate(
        (RUN_AXIS,),
        "int8",
        0,
        {"long_name": "state of the run", "flag_values": list(STATUS.values()), "flag_meanings": " ".join(STATUS)},
    ),
}
"""What every cube has along init_time besides its data."""


@dataclass(frozen=True, slots=True)
class RunEntry:
    """What the coordinates of a cube say of one run."""

    index: int
    status: str
    expected_hours: int
    ingested_hours: int


def grow(group: Any, index: int) -> None:
    for _, array in group.arrays():
        names = array.metadata.dimension_names
        if names and names[0] == RUN_AXIS and array.shape[0] <= index:
            array.resize((index + 1, *array.shape[1:]))


def enter_run(group: Any, template: CubeTemplate, entry: RunEntry) -> None:
    count = group[RUN_AXIS].shape[0]
    first = (template.start - _EPOCH).total_seconds()
    inits = (first + template.interval.total_seconds() * np.arange(count)).astype("int64")
    leads = np.asarray(template.lead_time, dtype="int64") * 3600
    if not np.array_equal(group[RUN_AXIS][:], inits):
        group[RUN_AXIS][:] = inits
        group["valid_time"][:] = inits[:, None] + leads[None, :]
    group["expected_forecast_length"][entry.index] = entry.expected_hours
    group["ingested_forecast_length"][entry.index] = entry.ingested_hours
    group["status"][entry.index] = STATUS[entry.status]
