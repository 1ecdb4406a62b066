"""The axis ``init_time`` of a cube, and the coordinates that say of each run what it is and how far it goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .cube_template import ArrayTemplate, CubeTemplate

RUN_AXIS = "init_time"
STATUS = {"absent": 0, "accepted": 1, "flagged": 2}
"""Values of the coordinate ``status`` along init_time."""

FIELD_STATUS = {
    "unknown": 0, "present": 1, "late": 2, "not_produced": 3, "missing": 4, "failed": 5, "corrupt": 6, "rejected": 7,
    "flagged": 8,
}  # fmt: skip
"""Values of the coordinates ``<variable>_status``: what became of each field of a run.

``late``: not there when the run was read, and not due yet; ``not_produced``: the model has no such field;
``missing``: the source should have it and does not; ``failed``: it could not be fetched; ``corrupt``: its message
could not be read; ``rejected``: taken out by validation; ``flagged``: there, with a doubt. Readers may use present
and flagged.
"""

FIELD_AXES = ("lead_time", "member", "level")
"""Dimensions of a status besides init_time, as far as its variable has them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ABSENT = int(np.iinfo("int64").min)
"""A length that is not known: NaT."""
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
        ABSENT,
        {"long_name": "lead time that a complete run reaches", "_FillValue": ABSENT, **_DURATION},
    ),
    "ingested_forecast_length": RunCoordinate(
        (RUN_AXIS,),
        "int64",
        ABSENT,
        {"long_name": "lead time up to which the run is complete here", "_FillValue": ABSENT, **_DURATION},
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
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Variable -> int8 [lead_time, member, level] (those it has): `FIELD_STATUS` of each field."""


def status_name(variable: str) -> str:
    """Name of the coordinate that holds the status of each field of a variable."""
    return f"{variable}_status"


def create_status(group: Any, variable: str, array: ArrayTemplate) -> None:
    """Make the coordinate that says of every field of a variable what became of it; a few bytes a run."""
    outer = {d: n for d, n in zip(array.dims, array.shape, strict=True) if d in FIELD_AXES}
    group.create_array(
        status_name(variable),
        shape=(0, *outer.values()),
        chunks=(1, *outer.values()),
        dtype="int8",
        fill_value=FIELD_STATUS["unknown"],
        dimension_names=[RUN_AXIS, *outer],
        attributes={
            "standard_name": "status_flag",
            "long_name": f"what became of each field of {array.attributes.get('long_name') or variable}",
            "flag_values": list(FIELD_STATUS.values()),
            "flag_meanings": " ".join(FIELD_STATUS),
        },
    )


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
    for name, values in entry.fields.items():
        if status_name(name) in group:
            group[status_name(name)][entry.index] = values
