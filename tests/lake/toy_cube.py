"""A cube of a few numbers: one variable, three lead times, five by eight cells."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from tasks.lake.cube_template import ArrayTemplate, CubeTemplate
from tasks.lake.cubes import Cube
from tasks.lake.run_axis import RunEntry

START = datetime(2026, 11, 20, tzinfo=UTC)
LEADS = np.array([0, 6, 12])
SHAPE = (3, 5, 8)
TEMPLATE = CubeTemplate(
    START,
    timedelta(hours=12),
    (0, 6, 12),
    {
        "lead_time": (("lead_time",), LEADS, {"units": "hours", "dtype": "timedelta64[ns]"}),
        "latitude": (("latitude",), np.linspace(90, -90, 5), {"units": "degrees_north"}),
        "longitude": (("longitude",), np.arange(8) * 45.0, {"units": "degrees_east"}),
    },
    {"t2m": ArrayTemplate(("lead_time", "latitude", "longitude"), SHAPE, (1, 5, 8), SHAPE, {"units": "K"})},
    {"title": "toy"},
)


def name(index: int) -> str:
    """The run at a place along init_time."""
    return f"{START + index * TEMPLATE.interval:%Y-%m-%dT%H}"


def chunk(index: int) -> str:
    """The store key of a run's only shard."""
    return TEMPLATE.arrays["t2m"].chunk_key("t2m", index, 0, 0, 0)


def field(value: float) -> np.ndarray:
    """Values [lead_time, latitude, longitude] that differ from cell to cell, around ``value``."""
    return value + np.arange(np.prod(SHAPE), dtype="float32").reshape(SHAPE) / 128


def write(cube: Cube, index: int, value: float | np.ndarray) -> bytes:
    """Write a run as a worker does; the fork."""
    cube.begin(name(index), index)
    with cube.fork(name(index)) as fork:
        fork.group["t2m"][index] = field(value) if isinstance(value, float) else value
    return fork.data


def publish(cube: Cube, index: int, fork: bytes, status: str = "accepted", hours: int = 12) -> str:
    """Publish a run; the snapshot."""
    return _enter(cube.publish, index, fork, status, hours)


def assemble(cube: Cube, index: int, fork: bytes, status: str = "accepted", hours: int = 12) -> str:
    """Make the branch of a run; the snapshot."""
    return _enter(cube.assemble, index, fork, status, hours)


def _enter(how: Callable[..., str], index: int, fork: bytes, status: str, hours: int) -> str:
    return how(name(index), [fork], TEMPLATE, RunEntry(index, status, 12, hours), {"run": name(index)})
