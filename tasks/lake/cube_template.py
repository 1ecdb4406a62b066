"""The static part of a cube: its arrays and coordinates, before any run is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from .errors import UsageError
from .partition import digest_json


@dataclass(frozen=True)
class ArrayTemplate:
    """A data variable of a cube, without its first dimension ``init_time``.

    ``chunks`` and ``shards`` count cells per dimension after ``init_time`` (which always has 1). ``packing`` is offset
    and step of 16-bit integers, in which the values are stored then; readers see them as ``dtype`` all the same.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    attributes: Mapping[str, Any]
    dtype: str = "float32"
    level: int = 1
    packing: tuple[float, float] | None = None

    def chunk_key(self, name: str, index: int, *at: int) -> str:
        """Store key of the shard of run ``index`` at shard numbers ``at``."""
        return f"{name}/c/" + "/".join(str(i) for i in (index, *at))


@dataclass(frozen=True)
class CubeTemplate:
    """The static part of a cube: everything that does not depend on the run.

    ``coordinates`` maps a name to (dimensions, values, CF attributes) for all but the run's own
    coordinates; ``lead_time`` is in hours. ``start`` and ``interval`` place a run along init_time.
    """

    start: datetime
    interval: timedelta
    lead_time: tuple[int, ...]
    coordinates: Mapping[str, tuple[tuple[str, ...], np.ndarray, Mapping[str, Any]]]
    arrays: Mapping[str, ArrayTemplate]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def index(self, run: datetime) -> int:
        """Place of a run along init_time: a pure function of the run. Raises ``UsageError``."""
        steps, rest = divmod(run - self.start, self.interval)
        if steps < 0 or rest:
            raise UsageError(
                f"run {run:%Y-%m-%dT%H} is none of this cube's",
                expected=f"{self.start:%Y-%m-%dT%H} plus a multiple of {self.interval}",
                found=f"{run:%Y-%m-%dT%H}",
            )
        return steps

    @property
    def digest(self) -> str:
        """Hash of what every variable of the cube shares: change it and it is another cube."""
        coordinates = {n: [list(d), v.tolist(), dict(a)] for n, (d, v, a) in self.coordinates.items()}
        return digest_json([self.start.isoformat(), self.interval.total_seconds(), self.lead_time, coordinates])
