"""One pass over a variable of a cube in a process of its own: prints what it took as one JSON object.

``python -m benchmarks.validate_pass LAKE VARIABLE read|check|whole``: merely read every field, run all checks beside
that, or load the variable whole (what validation did before) and run the checks on it.
"""

import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tasks.checks.acceptance import CheckConfig
from tasks.checks.check import Subject
from tasks.checks.inspection import inspect
from tasks.checks.statistics import Statistics
from tasks.checks.verdict import suite
from tasks.forecasts.rounding import keep_bits
from tasks.forecasts.subjects import StoredValues
from tasks.lake.cube_template import ArrayTemplate, CubeTemplate
from tasks.lake.cubes import Cube
from tasks.lake.fork import fast_codecs
from tasks.lake.objects import Objects
from tasks.lake.run_axis import RunEntry

from . import resident

RUN = "2026-11-20T00"
MEMBERS = 2
KINDS = {"t2m": ("K", 7, "instant"), "tp": ("m", 7, "accum")}


def write(folder: Path, steps: int, shape: tuple[int, int], chunk: int) -> None:
    """A cube with the two variables for some steps; ``chunk`` is the side of a chunk, 0 for whole maps."""
    rows, columns = shape
    start = datetime(2026, 11, 20, tzinfo=UTC)
    leads = tuple(range(0, 3 * steps, 3))
    side = [min(chunk, n) if chunk else n for n in shape]
    shards = [-(-n // c) * c for n, c in zip(shape, side, strict=True)]
    arrays = {
        name: ArrayTemplate(
            ("lead_time", "member", "latitude", "longitude"), (steps, MEMBERS, rows, columns), (1, 1, *side),
            (steps, 1, *shards), {"units": units, "long_name": name},
        )
        for name, (units, _, _) in KINDS.items()
    }  # fmt: skip
    coordinates: dict[str, Any] = {
        "lead_time": (("lead_time",), np.array(leads), {"units": "hours", "dtype": "timedelta64[ns]"}),
        "member": (("member",), np.arange(MEMBERS), {}),
        "latitude": (("latitude",), np.linspace(90, -90, rows), {"units": "degrees_north"}),
        "longitude": (("longitude",), np.arange(columns) * 360.0 / columns - 180, {"units": "degrees_east"}),
    }
    template = CubeTemplate(start, timedelta(hours=12), leads, coordinates, arrays)
    cube = Cube(Objects(str(folder)), "cube.icechunk")
    cube.ensure(template)
    cube.begin(RUN, 0)
    forks = []
    for name in KINDS:
        for member in range(MEMBERS):
            with cube.fork(RUN) as fork:
                fork.group[name][0, :, member] = np.stack(list(_fields(name, steps, member, shape)))
            forks.append(fork.data)
    cube.assemble(RUN, forks, template, RunEntry(0, "absent", leads[-1], leads[-1]), {})


def _fields(name: str, steps: int, member: int, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Weather-like maps: waves, and noise as a model's fine structure."""
    rng = np.random.default_rng(member)
    y, x = np.linspace(-1.5, 1.5, shape[0])[:, None], np.linspace(0, 6.28, shape[1])[None, :]
    total = np.zeros(shape, "float32")
    for step in range(steps):
        sky = sum(np.sin(k * x + 0.1 * step * k + member) * np.cos(k * y) for k in range(1, 12))
        values = (sky + 0.05 * rng.standard_normal(shape)).astype("float32")
        if name == "tp":
            total = total + np.maximum(values, 0) * np.float32(1e-3) * (step > 0)
            values = total.copy()
        else:
            values = values + np.float32(270) + np.float32(20) * np.cos(y).astype("float32")
        keep_bits(values, KINDS[name][1])
        yield values


def subject(folder: Path, name: str, whole: bool) -> Subject:
    """The variable as validation sees it; ``whole``: loaded at once."""
    cube = Cube(Objects(str(folder)), "cube.icechunk")
    with fast_codecs():
        group = cube.group(f"run/{RUN}")
    steps = group[name].shape[1]
    values: Any = StoredValues(group[name], 0, range(steps))
    if whole:
        values = np.asarray(group[name][0])[:, :, None]
    units, _, window = KINDS[name]
    return Subject(
        name=name, units=units, window=window, values=values, present=np.ones((steps, MEMBERS, 1), bool),
        lead_time=3 * np.arange(steps), member=np.arange(MEMBERS), level=None,
        latitude=np.asarray(group["latitude"][...]), longitude=np.asarray(group["longitude"][...]),
    )  # fmt: skip


def main(folder: str, name: str, what: str) -> None:
    """Run the pass and print seconds, CPU seconds and peak memory beyond what the imports took."""
    checks = suite(CheckConfig())
    # Warm: the codecs, and one small look.
    begun_with = resource.getrusage(resource.RUSAGE_SELF)
    held = resident.now()
    resident.forget()
    begun = time.perf_counter()
    thing = subject(Path(folder), name, what == "whole")
    fields = int(thing.present.sum())
    if what == "read":
        for member in range(MEMBERS):
            for step in range(len(thing.lead_time)):
                thing.values[step, member, 0]
    else:
        findings = inspect([thing], checks, [[Statistics(thing)]])
        assert all(f.score == 1 for f in findings), [f.sentence for f in findings if f.score < 1]
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - begun_with.ru_utime - begun_with.ru_stime
    peak = resident.most() - held
    print(orjson.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "fields": fields}).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
