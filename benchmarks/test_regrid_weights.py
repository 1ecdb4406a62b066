"""Regridding weights: making them and applying them, beside CDO, xarray-regrid, xESMF and scipy's bare product.

Every weight generator runs in a process of its own, imports apart; its figures are wall time, CPU time and peak memory.
"""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.grids.apply import apply, lazily
from tasks.grids.grid import Grid, from_spec
from tasks.grids.named import from_name
from tasks.grids.request import Request
from tasks.grids.spec import GridSpec
from tasks.grids.weights import make

ROOT = Path(__file__).resolve().parents[1]
TABLE, APPLY = "regrid_weights", "regrid_apply"

PAIRS: dict[str, tuple[str, GridSpec]] = {
    "0.25 to 1 degree": ("r1440x721", GridSpec(name="one", spacing=1)),
    "HRRR to 0.1 degree": ("hrrr", GridSpec(name="tenth", spacing=0.1, bbox=(-135, 20, -60, 55))),
}
TOOLS = ("weatherlake", "CDO", "xarray-regrid", "xESMF")


def grids(pair: str) -> tuple[Grid, Grid]:
    """Source and target."""
    name, spec = PAIRS[pair]
    return from_name(name), from_spec(spec)


def lacks(tool: str, pair: str) -> str | None:
    """Why a tool cannot take part, or None."""
    if tool == "CDO" and shutil.which("cdo") is None:
        return "cdo is not installed"
    if tool == "xESMF" and importlib.util.find_spec("esmpy") is None:
        return "esmpy is not installed"
    if tool == "xarray-regrid":
        if importlib.util.find_spec("xarray_regrid") is None:
            return "xarray-regrid is not installed"
        if grids(pair)[0].kind != "rectilinear":
            return "xarray-regrid knows latitude-longitude grids only"
    return None


def dataset(grid: Grid, corners: bool) -> Any:
    """A grid as an xarray dataset with a field, and the corners of curvilinear cells where asked for."""
    import xarray as xr

    coords: dict[str, Any] = {}
    names = {"latitude": "lat", "longitude": "lon"}
    for name, (dims, values, attributes) in grid.coordinates().items():
        if name in names:
            coords[names[name]] = ([names.get(d, d) for d in dims], values, dict(attributes))
    dims = ["lat", "lon"] if grid.kind == "rectilinear" else ["y", "x"]
    data = {
        "f": (dims, np.zeros(grid.shape, np.float32), {"coordinates": "lat lon"} if grid.kind != "rectilinear" else {})
    }
    if corners and grid.kind != "rectilinear":
        vectors = grid.corners.reshape(*grid.shape, 4, 3)
        data["lat_b"] = ([*dims, "n"], np.degrees(np.arcsin(np.clip(vectors[..., 2], -1, 1))), {})
        data["lon_b"] = ([*dims, "n"], np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0])), {})
        for name in ("lat", "lon"):
            coords[name][2]["bounds"] = f"{name}_b"
    return xr.Dataset(data, coords)


def by_weatherlake(pair: str, method: str, folder: Path) -> Callable[[], object]:
    source, target = grids(pair)
    import scipy.sparse
    import scipy.spatial  # noqa: F401

    return lambda: make(source, target, method)


def by_cdo(pair: str, method: str, folder: Path) -> Callable[[], object]:
    source, target = grids(pair)
    made = dataset(source, corners=True)
    made.to_netcdf(folder / "source.nc", engine="netcdf4")
    step = target.longitude[1] - target.longitude[0]
    text = f"gridtype = lonlat\nxsize = {target.shape[1]}\nysize = {target.shape[0]}\nxfirst = {target.longitude[0]}\n"
    text += f"xinc = {step}\nyfirst = {target.latitude[0]}\nyinc = {-step}\n"
    (folder / "target.txt").write_text(text)
    verb = {"conservative": "gencon", "bilinear": "genbil"}[method]
    command = [
        "cdo",
        "-s",
        "-O",
        "-P",
        str(os.cpu_count()),
        f"{verb},target.txt",
        "-selname,f",
        "source.nc",
        "weights.nc",
    ]
    return lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True)


def by_xarray_regrid(pair: str, method: str, folder: Path) -> Callable[[], object]:
    import xarray_regrid  # noqa: F401

    source, target = (dataset(g, corners=False) for g in grids(pair))
    source, target = (d.sortby("lat").rename(lat="latitude", lon="longitude") for d in (source, target))
    # It has no weights to keep: this is one field, weights and all.
    if method == "conservative":
        return lambda: source.regrid.conservative(target, latitude_coord="latitude").compute()
    return lambda: source.regrid.linear(target).compute()


def by_xesmf(pair: str, method: str, folder: Path) -> Callable[[], object]:
    from tasks.grids import esmf

    source, target = grids(pair)
    return lambda: esmf.make(Request(source=source, target=target, method=method))


BY = {"weatherlake": by_weatherlake, "CDO": by_cdo, "xarray-regrid": by_xarray_regrid, "xESMF": by_xesmf}


def measured(tool: str, pair: str, method: str, folder: Path) -> dict[str, float]:
    """Wall s, CPU s and peak MB of one tool; the work is done in this process or by a child of it."""
    work = BY[tool](pair, method, folder)
    start, before = time.perf_counter(), _cpu()
    work()
    wall, cpu = time.perf_counter() - start, _cpu() - before
    who = resource.RUSAGE_CHILDREN if tool == "CDO" else resource.RUSAGE_SELF
    return {"wall": wall, "cpu": cpu, "peak": resource.getrusage(who).ru_maxrss / 1024}


def _cpu() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
@pytest.mark.parametrize("pair", PAIRS)
def test_making_weights(benchmark, pair: str, method: str, tmp_path: Path):
    """All tools one after the other, three times; the best of each."""
    tools = [tool for tool in TOOLS if lacks(tool, pair) is None]
    best: dict[str, dict[str, float]] = {}

    def once() -> None:
        for tool in tools:
            command = [sys.executable, "-m", "benchmarks.test_regrid_weights", tool, pair, method, str(tmp_path)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            numbers = json.loads(done.stdout)
            if tool not in best or numbers["wall"] < best[tool]["wall"]:
                best[tool] = numbers

    benchmark.pedantic(once, rounds=3 if pair.startswith("0.25") else 1, iterations=1)
    rows = [
        {
            "grids": pair,
            "method": method,
            "tool": tool,
            "wall s": round(best[tool]["wall"], 3),
            "CPU s": round(best[tool]["cpu"], 3),
            "peak memory (MB)": round(best[tool]["peak"]),
            "times weatherlake's wall": round(best[tool]["wall"] / best["weatherlake"]["wall"], 1),
        }
        if tool in tools
        else {"grids": pair, "method": method, "tool": tool, "wall s": lacks(tool, pair)}
        for tool in TOOLS
    ]
    columns = list(rows[0])
    benchmark.extra_info.update({"table": TABLE, "rows": [{c: row.get(c, "") for c in columns} for row in rows]})


@pytest.mark.parametrize(
    ("pair", "method"),
    [("0.25 to 1 degree", "conservative"), ("0.25 to 1 degree", "bilinear"), ("HRRR to 0.1 degree", "conservative")],
)
def test_applying_weights(benchmark, pair: str, method: str):
    """A float32 field at a time, against scipy's product of the same matrix and field; taken in turns, the best."""
    source, target = grids(pair)
    weights = make(source, target, method)
    field = np.random.default_rng(0).random(source.shape, dtype="float32") + 280
    gaps = np.where(np.random.default_rng(1).random(source.shape) < 0.01, np.float32(np.nan), field)
    out = np.empty(target.shape, np.float32)
    single, flat = weights.single, field.reshape(-1)
    ways: dict[str, Callable[[], object]] = {
        "scipy csr @ field": lambda: weights.matrix @ flat,
        "apply": lambda: apply(weights, field, out=out),
        "apply, skipna, no gaps": lambda: apply(weights, field, skipna=True, out=out),
        "apply, skipna, 1 % gaps": lambda: apply(weights, gaps, skipna=True, na_thres=0.5, out=out),
        "scipy csr @ field, float32": lambda: single @ flat,
        "apply, float32": lambda: apply(weights, field, out=out, precision="single"),
    }
    best = dict.fromkeys(ways, np.inf)

    def turns() -> None:
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)

    benchmark.pedantic(turns, rounds=40, iterations=1, warmup_rounds=2)
    rows = [
        {
            "grids": pair,
            "method": method,
            "way": name,
            "ms a field": round(1e3 * seconds, 2),
            "times scipy's": round(seconds / best["scipy csr @ field" + (", float32" if "float32" in name else "")], 2),
        }
        for name, seconds in best.items()
    ]
    benchmark.extra_info.update({"table": APPLY, "rows": rows})


def _field(block_info: Any = None) -> np.ndarray:
    number = block_info[None]["chunk-location"][0]
    shape = block_info[None]["chunk-shape"]
    return np.random.default_rng(number).random(shape, dtype="float32")


def test_on_dask(benchmark, tmp_path: Path):
    """48 HRRR fields on two processes, first run: workers read the weights too; and the size of what is sent."""
    import cloudpickle
    import dask.array as da
    from distributed import Client, LocalCluster

    from tasks.grids import store
    from tasks.lake.lake import Lake

    pair = "HRRR to 0.1 degree"
    source, target = grids(pair)
    lake = Lake(str(tmp_path / "lake"))
    lake.prepare()
    key = store.ensure(lake, Request(source=source, target=target, method="conservative"))
    fields = da.map_blocks(
        _field, chunks=((1,) * 48, *((n,) for n in source.shape)), dtype="float32", meta=np.empty((0, 0, 0), "float32")
    )
    made = lazily(fields, lake.url, key)
    graph = len(cloudpickle.dumps(made))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "tasks.grids.store", fromlist=["store"])

        def first() -> None:
            made.sum().compute()

        benchmark.pedantic(first, rounds=1, iterations=1)
        seconds = benchmark.stats.stats.min
    row = {
        "grids": pair,
        "method": "conservative",
        "way": f"48 fields on 2 Dask processes, {graph / 1e6:.3f} MB of graph",
        "ms a field": round(1e3 * seconds / 48, 2),
        "times scipy's": "",
    }
    benchmark.extra_info.update({"table": APPLY, "rows": [row]})


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))))
