"""Small published cubes of any grid, in the layout that regridding writes: point-shaped chunks bound to shards."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import xarray as xr

from tasks.lake.cube_template import ArrayTemplate, CubeTemplate
from tasks.lake.cubes import Cube
from tasks.lake.lake import Lake
from tasks.lake.run_axis import RunEntry

from ..exports.runs import Kind, make_run

START = datetime(2026, 11, 20, tzinfo=UTC)
INTERVAL = timedelta(hours=12)


def name(index: int) -> str:
    """The run at a place along init_time."""
    return f"{START + index * INTERVAL:%Y-%m-%dT%H}"


def template(run: xr.Dataset, tile: int, block: int) -> CubeTemplate:
    """The structure for a run of `exports.runs.make_run`; levels have chunks of their own."""
    arrays, coordinates = {}, {}
    for key, array in run.data_vars.items():
        dims = [d for d in ("lead_time", "member", "level") if d in array.dims] + list(array.dims[-2:])
        shape = tuple(array.sizes[d] for d in dims)
        tiles = tuple(min(tile, n) for n in shape[-2:])
        chunks = (*(1 if d == "level" else n for d, n in zip(dims[:-2], shape[:-2], strict=True)), *tiles)
        shards = (*shape[:-2], *(t * block for t in tiles))
        arrays[str(key)] = ArrayTemplate(tuple(map(str, dims)), shape, chunks, shards, dict(array.attrs))
    for key, values in run.coords.items():
        if key not in ("init_time", "valid_time"):
            attrs: dict[str, Any] = dict(values.attrs)
            data = values.values
            if key == "lead_time":
                data, attrs = data / np.timedelta64(1, "h"), attrs | {"units": "hours", "dtype": "timedelta64[ns]"}
            coordinates[str(key)] = tuple(map(str, values.dims)), np.asarray(data), attrs
    leads = tuple(int(h) for h in run["lead_time"].values / np.timedelta64(1, "h"))
    return CubeTemplate(START, INTERVAL, leads, coordinates, arrays, dict(run.attrs))


def add(cube: Cube, structure: CubeTemplate, index: int, run: xr.Dataset, status: str = "accepted") -> str:
    """Write and publish a run; the snapshot."""
    cube.begin(name(index), index)
    with cube.fork(name(index)) as fork:
        for key, array in structure.arrays.items():
            fork.group[key][index] = run[key].transpose(*array.dims).values
    hours = structure.lead_time[-1]
    return cube.publish(
        name(index), [fork.data], structure, RunEntry(index, status, hours, hours), {"run": name(index)}
    )


def publish(
    lake: Lake, kind: Kind = "global", *, zone: str = "grid", recipe: str = "made", runs: Sequence[int] = (0,),
    tile: int = 8, block: int = 3, **made: Any,
) -> tuple[Cube, CubeTemplate]:  # fmt: skip
    """A lake with one cube under its pointer, and what it is made by. A run's values are those of `make_run`, plus
    its place along init_time."""
    lake.prepare()
    run = make_run(kind, **made)
    structure = template(run, tile, block)
    path = f"cubes/{recipe}/{zone}/{structure.digest[-12:]}.icechunk"
    cube = lake.cube(path)
    cube.ensure(structure)
    for index in runs:
        add(cube, structure, index, run + index)
    lake.objects.put(f"cubes/{recipe}/{zone}.json", orjson.dumps({"path": path}))
    return cube, structure
