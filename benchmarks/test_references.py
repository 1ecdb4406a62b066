"""References of a full-size ensemble run - 85 steps x 51 members x 160 fields - against other ways of writing them.

Every measurement runs in a process of its own that was handed the same manifests, as step files on disk.
"""

import gc
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pyarrow as pa
import pytest

from tasks.forecasts import manifest
from tasks.forecasts.recipe import ForecastRecipe
from tasks.forecasts.references.kerchunk_parquet import tables, to_parquet
from tasks.forecasts.references.layout import ABSENT, RunReferences, collect
from tasks.forecasts.template import Learnt, Template

ROOT = Path(__file__).resolve().parents[1]
RUN = "2026-11-20T00"
STEPS = (*range(0, 145, 3), *range(150, 361, 6))
MEMBERS = tuple(range(51))
LEVELS = (1000, 925, 850, 700, 600, 500, 400, 300, 250, 200, 150, 100, 50)
LAYERED = ("t", "u", "v", "gh", "q", "r", "w", "d", "vo")
SURFACE = tuple(f"s{number:02d}" for number in range(43))
BUCKET = "s3://ecmwf-forecasts"
FIELDS = len(STEPS) * len(MEMBERS) * (len(LAYERED) * len(LEVELS) + len(SURFACE))
FEW = 4
"""Members that LazyReferenceMapper is given; its time for all of them is worked out from these."""


@lru_cache(maxsize=1)
def recipe() -> ForecastRecipe:
    """Every field of the run, as a recipe."""
    variables = [{"name": n, "param": n, "level_type": "isobaricInhPa", "levels": LEVELS} for n in LAYERED]
    variables += [{"name": n, "param": n, "level_type": "sfc"} for n in SURFACE]
    return ForecastRecipe.model_validate(
        {
            "name": "ens", "kind": "forecast", "source": {"type": "ecmwf", "stream": "enfo"},
            "runs": {"start": "2026-01-01T00:00:00Z", "every": 12},
            "select": {"variables": variables, "members": MEMBERS, "steps": STEPS},
        }
    )  # fmt: skip


@lru_cache(maxsize=1)
def template() -> Template:
    """Names and the 0.25-degree grid."""
    import eccodes

    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    try:
        keys = {
            "Ni": 1440, "Nj": 721, "latitudeOfFirstGridPointInDegrees": 90, "latitudeOfLastGridPointInDegrees": -90,
            "longitudeOfFirstGridPointInDegrees": 180, "longitudeOfLastGridPointInDegrees": 179.75,
            "iDirectionIncrementInDegrees": 0.25, "jDirectionIncrementInDegrees": 0.25,
        }  # fmt: skip
        for key, value in keys.items():
            eccodes.codes_set(handle, key, value)
        eccodes.codes_set_values(handle, np.zeros(721 * 1440))
        message = eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)
    learnt = {n: Learnt(n, n, n, "K", "isobaricInhPa", "instant", "grid_ccsds") for n in LAYERED}
    learnt |= {n: Learnt(n, n, n, "K", "surface", "instant", "grid_ccsds") for n in SURFACE}
    return Template(learnt, message)


def write_manifests(folder: Path) -> None:
    """A manifest a step, rows in no order, as ingest writes them."""
    fields = [(n, "isobaricInhPa", float(level)) for n in LAYERED for level in LEVELS]
    fields += [(n, "sfc", None) for n in SURFACE]
    assert len(fields) == 160
    count = len(fields) * len(MEMBERS)
    which, member = np.tile(np.arange(len(fields)), len(MEMBERS)), np.repeat(np.arange(len(MEMBERS)), len(fields))
    names = pa.array([f[0] for f in fields])
    for step in STEPS:
        rng = np.random.default_rng(step)
        order = rng.permutation(count)
        length = rng.integers(400_000, 900_000, count)
        offset = np.concatenate([[0], np.cumsum(length)[:-1]])
        code = pa.array(which[order])
        param = names.take(code)
        url = f"{BUCKET}/20261120/00z/ifs/0p25/enfo/20261120000000-{step}h-enfo-ef.grib2"
        changed = datetime(2026, 11, 20, 8, tzinfo=UTC)
        columns = {
            "variable": param, "param": param, "level_type": pa.array([f[1] for f in fields]).take(code),
            "level": pa.array([f[2] for f in fields], pa.float64()).take(code), "member": pa.array(member[order]),
            "lead_time": pa.array(np.full(count, step * 3600)), "window": pa.array(["instant"] * count),
            "window_start": pa.nulls(count, pa.int64()), "url": pa.array([url] * count), "offset": pa.array(offset),
            "length": pa.array(length), "sub": pa.array(np.zeros(count, np.int16)),
            "etag": pa.array([f'"{step:032x}"'] * count), "last_modified": pa.array([changed] * count),
        }  # fmt: skip
        table = pa.table({n: _as(c, manifest.MANIFEST.field(n).type) for n, c in columns.items()})
        (folder / f"step-{step:03d}.parquet").write_bytes(manifest.write(table.cast(manifest.MANIFEST)))


def _as(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values.dictionary_encode().cast(kind) if isinstance(kind, pa.DictionaryType) else values.cast(kind)


def manifests(folder: Path) -> Iterator[pa.Table]:
    """The step files, one by one."""
    for path in sorted(folder.glob("step-*.parquet")):
        yield manifest.read(path.read_bytes())


def as_arrays(folder: Path) -> RunReferences:
    """The manifests as ours are written from."""
    return collect(recipe(), RUN, manifests(folder))[0]


def persisted(run: RunReferences, out: Path) -> int:
    """51 files from arrays."""
    for name, table in tables(recipe(), template(), run, [o.url for o in run.objects]):
        (out / name).write_bytes(to_parquet(table))
    return run.source.size


def ours(folder: Path, out: Path) -> int:
    """What `references.write` does."""
    return persisted(as_arrays(folder), out)


def naive(folder: Path, out: Path) -> int:
    """A dict of references for every member, JSON for every value, a DataFrame, Parquet."""
    import pandas as pd

    stores: dict[int, dict[str, Any]] = {}
    leads = {hours: number for number, hours in enumerate(STEPS)}
    places = {float(level): number for number, level in enumerate(LEVELS)}
    for table in manifests(folder):
        # Only what is needed, and numbers for times: Python's own objects for those would take most of the time.
        needed = table.select(["variable", "param", "level", "member", "url", "offset", "length"])
        seconds = table["lead_time"].cast(pa.int64())
        for row in needed.append_column("seconds", seconds).to_pylist():
            member, hours = row["member"], row["seconds"] // 3600
            store = stores.setdefault(member, {})
            word = "control" if member == 0 else f"ens{member:02d}"
            reference = [row["url"], row["offset"], row["length"]]
            name, lead = row["variable"], leads[hours]
            if row["level"] is None:
                store[f"{name}/instant/surface/{name}/{lead}.0.0"] = reference
                store[f"step_{hours:03d}/{row['param']}/sfc/{word}/0.0.0"] = reference
            else:
                at = places[row["level"]]
                store[f"{name}/instant/isobaricInhPa/{name}/{lead}.{at}.0.0"] = reference
                store[f"step_{hours:03d}/{row['param']}/pl/{row['level']:g}/{word}/0.0.0"] = reference
    count = 0
    for member, store in stores.items():
        rows = [(key, json.dumps(value).encode()) for key, value in store.items()]
        pd.DataFrame(rows, columns=["key", "value"]).to_parquet(out / f"{member}.parquet")
        count += len(rows)
    return count


def lazy_mapper(run: RunReferences, out: Path) -> int:
    """fsspec's LazyReferenceMapper, a store a member, reference by reference."""
    from fsspec.implementations.reference import LazyReferenceMapper

    count = 0
    for member in range(FEW):
        mapper = LazyReferenceMapper.create(str(out / str(member)), engine="pyarrow")
        mapper[".zgroup"] = '{"zarr_format": 2}'
        for block in run.blocks:
            name = block.variable.name
            outer = [len(STEPS), len(block.levels)] if block.is_layered else [len(STEPS)]
            array = {"zarr_format": 2, "shape": [*outer, 721, 1440], "chunks": [*([1] * len(outer)), 721, 1440]}
            mapper[f"{name}/.zarray"] = json.dumps(array)
            source, offset, length = (run.cut(a, block)[member] for a in (run.source, run.offset, run.length))
            for at in np.ndindex(*outer):
                place = at if block.is_layered else (*at, 0)
                if source[place] == ABSENT:
                    continue
                reference = [run.objects[source[place]].url, int(offset[place]), int(length[place])]
                mapper[f"{name}/{'.'.join(map(str, at))}.0.0"] = reference
                count += 1
        mapper.flush()
    return count


def virtual(folder: Path, out: Path) -> int:
    """The Icechunk form, on a local folder."""
    from tasks.forecasts.references.icechunk_virtual import VirtualCube, write_virtual
    from tasks.forecasts.references.places import Container, Place
    from tasks.lake.objects import Objects

    run, _ = collect(recipe(), RUN, manifests(folder))
    where = Container(f"{BUCKET}/", f"{BUCKET}?region=eu-central-1&anonymous=true")
    places = [Place(o.url, o.url, where, o.etag) for o in run.objects]
    write_virtual(VirtualCube(Objects(str(out)), "virtual.icechunk"), recipe(), template(), run, places)
    return run.source.size


WAYS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Path], int]]] = {
    "ours": (Path, ours), "naive": (Path, naive), "virtual": (Path, virtual), "persisted": (as_arrays, persisted),
    "lazy_mapper": (as_arrays, lazy_mapper),
}  # fmt: skip
"""What is there before the clock starts, made from the folder of the manifests, and what is measured."""


def measure(way: str, folder: str, out: str) -> None:
    """One measurement, as a line of JSON: fields, CPU seconds, extra memory at its peak.

    Each way has had a run of one step before, so that what is imported, started or set up once does not count.
    """
    prepare, run = WAYS[way]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as scratch:
        shutil.copy(Path(folder) / "step-000.parquet", first)
        run(prepare(Path(first)), Path(scratch))
    gc.collect()
    pa.default_memory_pool().release_unused()
    state = prepare(Path(folder))
    process = psutil.Process()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, cpu = process.memory_info().rss, process.cpu_times()
    count = run(state, Path(out))
    after = process.cpu_times()
    used = after.user + after.system - cpu.user - cpu.system
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024
    print(orjson.dumps({"count": count, "cpu": used, "memory": peak - before}).decode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The step files of a run."""
    made = tmp_path_factory.mktemp("manifests")
    write_manifests(made)
    return made


def measured(way: str, folder: Path, out: Path) -> dict[str, float]:
    """Fields, CPU seconds and extra memory of one way, in a process of its own."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.test_references", way, str(folder), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout)


def test_references_of_a_whole_run(benchmark, folder: Path, tmp_path: Path):
    """Manifests to 51 reference files, and what the other ways take for the same fields."""
    pytest.importorskip("pandas", reason="the other ways need pandas")
    pytest.importorskip("kerchunk", reason="the other ways need kerchunk")
    ways: dict[str, dict[str, float]] = {}

    def once() -> None:
        for way in WAYS:
            ways[way] = measured(way, folder, tmp_path / way)

    benchmark.pedantic(once, rounds=1, iterations=1)
    mine, other, writing, lazy = (ways[way] for way in ("ours", "naive", "persisted", "lazy_mapper"))
    one_by_one = lazy["cpu"] * FIELDS / lazy["count"]
    rows = [
        ("manifests to 51 files", mine["cpu"], mine["memory"], 1.0),
        ("the same by rows, JSON and DataFrames", other["cpu"], other["memory"], other["cpu"] / mine["cpu"]),
        ("only writing the files, from arrays", writing["cpu"], writing["memory"], 1.0),
        ("only writing, by LazyReferenceMapper", one_by_one, "", one_by_one / writing["cpu"]),
        ("manifests to an Icechunk commit", ways["virtual"]["cpu"], ways["virtual"]["memory"], ""),
    ]
    benchmark.extra_info["table"] = "references"
    benchmark.extra_info["rows"] = [
        {"what": what, "CPU s": cpu, "extra memory (MB)": round(memory / 1e6) if memory else "", "times as long": ratio}
        for what, cpu, memory, ratio in rows
    ]


if __name__ == "__main__":
    measure(*sys.argv[1:])
