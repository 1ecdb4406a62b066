"""The usual ways from GRIB on S3 to Zarr, and the bare parts of the work; prints seconds, CPU and fields as JSON.

``python -m benchmarks.refine_usual WAY ENDPOINT BUCKET OUT`` with WAY one of `WAYS`; imports are not counted.
"""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson

import tasks  # noqa: F401  (loads PROJ before anything can load ecCodes)

from . import gfs_like, resident

SOME = 17
"""Steps that the slower ways are given."""
THREADS = 2


def files(steps: int) -> list[str]:
    """Names of the files of the first steps."""
    return [f"gfs.t00z.pgrb2.0p25.f{step:03d}" for step in gfs_like.FULL_STEPS[:steps]]


def options(endpoint: str) -> dict[str, object]:
    """Options of s3fs."""
    return {"anon": True, "endpoint_url": endpoint}


def cfgrib(endpoint: str, bucket: str, out: Path) -> int:
    """Files copied, opened with cfgrib, each variable written by xarray with Dask's threads."""
    import dask
    import s3fs
    import xarray as xr

    store = s3fs.S3FileSystem(**options(endpoint))
    here = out / "files"
    here.mkdir(parents=True)
    store.get([f"{bucket}/{name}" for name in files(SOME)], [str(here / name) for name in files(SOME)])
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        for variable in gfs_like.FULL:
            short_name, level = variable.short_name, variable.surface[1]
            keys: dict[str, object] = {"shortName": short_name}
            if variable.level_type == gfs_like.PRESSURE:
                keys |= {"typeOfLevel": "isobaricInhPa", "level": level // 100}
            found = xr.open_mfdataset(
                [str(here / name) for name in files(SOME)], engine="cfgrib", combine="nested", concat_dim="step",
                backend_kwargs={"filter_by_keys": keys}, chunks={}, coords="minimal", compat="override",
            )  # fmt: skip
            found.to_zarr(out / f"{variable.name}.zarr", mode="w", consolidated=False)
    return SOME * len(gfs_like.FULL)


def references(endpoint: str, bucket: str, out: Path) -> int:
    """A variable's messages as kerchunk references, read lazily and written by xarray with Dask's threads."""
    import dask
    import xarray as xr
    from kerchunk.utils import refs_as_store

    variable = gfs_like.FULL[1]
    number = gfs_like.FULL.index(variable)
    steps = gfs_like.FULL_STEPS
    shape = [len(steps), gfs_like.NY, gfs_like.NX]
    array = {
        "zarr_format": 2, "shape": shape, "chunks": [1, *shape[1:]], "dtype": "<f4", "fill_value": "NaN", "order": "C",
        "compressor": None, "filters": [{"id": "grib", "var": variable.name, "dtype": "float32"}],
    }  # fmt: skip
    found: dict[str, object] = {
        ".zgroup": '{"zarr_format": 2}',
        "v/.zarray": orjson.dumps(array).decode(),
        "v/.zattrs": '{"_ARRAY_DIMENSIONS": ["step", "latitude", "longitude"]}',
    }
    for place, name in enumerate(files(len(steps))):
        offsets = lengths_of(name, bucket, endpoint)
        found[f"v/{place}.0.0"] = [f"s3://{bucket}/{name}", offsets[number], offsets[number + 1] - offsets[number]]
    remote = {"remote_protocol": "s3", "remote_options": options(endpoint) | {"asynchronous": True}}
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        store = refs_as_store(found, **remote)
        data = xr.open_dataset(store, engine="zarr", consolidated=False, chunks={}, zarr_format=2)
        # What it was encoded with is GRIB, which nobody writes.
        data["v"].encoding.clear()
        data.to_zarr(out / "v.zarr", mode="w", consolidated=False)
    return len(steps)


def lengths_of(name: str, bucket: str, endpoint: str) -> list[int]:
    """Offsets of the messages of a file, and its size."""
    import urllib.request

    with urllib.request.urlopen(f"{endpoint}/{bucket}/{name}.idx") as answer:
        offsets = [int(line.split(":")[1]) for line in answer.read().decode().splitlines()]
    request = urllib.request.Request(f"{endpoint}/{bucket}/{name}", method="HEAD")
    with urllib.request.urlopen(request) as answer:
        return [*offsets, int(answer.headers["Content-Length"])]


def decode(endpoint: str, bucket: str, out: Path) -> int:
    """Nothing but ecCodes: every message of the run, from memory, in two threads."""
    import eccodes
    from gribapi.bindings import ffi, lib

    del out
    messages = held(endpoint, bucket)
    local = threading.local()

    def one(message: bytes) -> None:
        if not hasattr(local, "buffer"):
            local.buffer = np.empty(gfs_like.NY * gfs_like.NX)
        handle = eccodes.codes_new_from_message(message)
        length = ffi.new("size_t *", local.buffer.size)
        narrow = eccodes.codes_get(handle, "packingType") == gfs_like.CCSDS
        get, kind = (lib.grib_get_float_array, "float *") if narrow else (lib.grib_get_double_array, "double *")
        get(ffi.cast("grib_handle *", handle), b"values", ffi.cast(kind, local.buffer.ctypes.data), length)
        eccodes.codes_release(handle)

    one(messages[0])
    begin()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, messages))
    return len(messages)


def write(endpoint: str, bucket: str, out: Path) -> int:
    """Nothing but rounding, compressing and writing: a block a variable, as whole shards, in two threads."""
    import zarr
    from zarr.codecs import BloscCodec

    from tasks.forecasts import decode as decoding
    from tasks.forecasts.rounding import keep_bits

    messages = held(endpoint, bucket)
    count, shape = len(gfs_like.FULL_STEPS), (gfs_like.NY, gfs_like.NX)
    blocks = [np.empty((1, count, *shape), "float32") for _ in range(THREADS)]
    group = zarr.open_group(out / "write.zarr", mode="w")
    for variable in gfs_like.FULL:
        group.create_array(
            variable.name, shape=(1, count, *shape), chunks=(1, 1, *shape), shards=(1, count, *shape), dtype="float32",
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), fill_value=float("nan"),
        )  # fmt: skip
    seconds = []

    def one(number: int, block: np.ndarray) -> None:
        variable = gfs_like.FULL[number]
        keep_bits(block, variable.bits)
        with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}):
            zarr.open_group(out / "write.zarr")[variable.name][:] = block

    used = 0.0
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(gfs_like.FULL), THREADS):
            numbers = range(first, min(first + THREADS, len(gfs_like.FULL)))
            for number, block in zip(numbers, blocks, strict=False):
                for step in range(count):
                    decoding.decode(messages[step * len(gfs_like.FULL) + number], out=block[0, step])
            before, started = cpu(), time.perf_counter()
            list(pool.map(one, numbers, blocks))
            seconds.append(time.perf_counter() - started)
            used += cpu() - before
    global _seconds, _cpu
    _seconds, _cpu = sum(seconds), used
    return count * len(gfs_like.FULL)


def held(endpoint: str, bucket: str) -> list[bytes]:
    """Every message of the run, in memory, step by step."""
    import urllib.request

    found = []
    for name in files(len(gfs_like.FULL_STEPS)):
        with urllib.request.urlopen(f"{endpoint}/{bucket}/{name}") as answer:
            data = answer.read()
        offsets = lengths_of(name, bucket, endpoint)
        found += [data[a:b] for a, b in pairwise(offsets)]
    return found


WAYS: dict[str, Callable[[str, str, Path], int]] = {
    "cfgrib": cfgrib,
    "references": references,
    "decode": decode,
    "write": write,
}

_seconds: float | None = None
_cpu: float | None = None
_begun = (0.0, 0.0)


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def begin() -> None:
    """Let the clock begin."""
    global _begun
    _begun = (time.perf_counter(), cpu())


def main(way: str, endpoint: str, bucket: str, out: str) -> None:
    """Go one way."""
    os.environ.setdefault("AWS_REGION", "us-east-1")
    if way == "cfgrib":
        import cfgrib  # noqa: F401
        import s3fs
    if way == "references":
        import kerchunk.grib2  # noqa: F401  (its codec)
        import s3fs  # noqa: F401
    import dask.array
    import xarray  # noqa: F401
    import zarr  # noqa: F401

    del dask
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    resident.forget()
    begin()
    fields = WAYS[way](endpoint, bucket, folder)
    seconds = time.perf_counter() - _begun[0] if _seconds is None else _seconds
    used = cpu() - _begun[1] if _cpu is None else _cpu
    print(orjson.dumps({"seconds": seconds, "cpu": used, "fields": fields, "peak": resident.most()}).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
