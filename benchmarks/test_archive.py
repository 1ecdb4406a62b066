"""Archiving beside plain copies of the same objects: each object read once, its SHA-256 taken, a receipt kept."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import obstore
import pytest

from benchmarks import resident
from tasks.lake.objects import Objects
from tasks.lake.receipts import Receipts
from tasks.lake.transfer import AT_ONCE, PIECE, Item, transfer
from tests.servers import CREDENTIALS

TABLE = "archive"
SIZES = [4 * 2**20] * 16 + [12 * 2**20] * 12 + [96 * 2**20]
"""Shards of a coarse and of a fine cube, and raw messages of a step in one file: 0.3 GB."""

ROUNDS = 8
LINK = 10e9 / 8
"""Bytes a second of the link that the goal speaks of."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    folder = tmp_path_factory.mktemp("archive") / "source"
    store = Objects(str(folder))
    store.make()
    block = os.urandom(96 * 2**20)
    for number, size in enumerate(SIZES):
        store.put(f"raw/{number % 7}/o{number:04d}", block[number : number + size])
    yield store
    shutil.rmtree(folder)


@contextmanager
def localbucket(folder: Path) -> Iterator[str]:
    """An S3 server on loopback that keeps buckets as folders: its endpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    command = [sys.executable, "-m", "localbucket", "--host", "127.0.0.1", "--port", str(port), str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bench", method="PUT"), timeout=5):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield endpoint
    finally:
        server.kill()
        server.wait()


@pytest.fixture(params=["a folder", "S3 on loopback"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Callable[[], Objects]]]:
    """Name of a kind of target, and what makes an empty one."""
    if request.param == "a folder":
        yield request.param, lambda: fresh(tmp_path / "target", str(tmp_path / "target"))
        return
    if importlib.util.find_spec("localbucket") is None:
        pytest.skip("localbucket is not installed")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with localbucket(tmp_path / "s3") as endpoint:
        url = f"s3://bench/target?endpoint={endpoint}&region=us-east-1"
        yield request.param, lambda: fresh(tmp_path / "s3" / "bench" / "target", url)


def fresh(folder: Path, url: str) -> Objects:
    shutil.rmtree(folder, ignore_errors=True)
    store = Objects(url)
    store.make()
    return store


def archived(source: Objects, target: Objects) -> None:
    items = [Item(m.key, m.size) for m in source.listing("raw")]
    receipts = Receipts(target, "transfers/bench/receipts")
    transfer(source, target, items, receipts)


def plainly(source: Objects, target: Objects) -> None:
    """The same objects with as many threads and nothing but obstore: get and put."""
    with source.opened("") as one, target.opened("") as two:

        def copy(key: str) -> None:
            obstore.put(two, key, obstore.get(one, key).bytes(), chunk_size=PIECE)

        found = sorted(source.listing("raw"), key=lambda m: -m.size)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(copy, [m.key for m in found]))


def by_cp(source: Objects, target: Objects) -> None:
    place = Path(target.location.prefix)
    subprocess.run(["cp", "-r", Path(source.location.prefix) / "raw", place / "raw"], check=True)


def test_archive_beside_plain_copies(benchmark, source: Objects, place: tuple[str, Callable[[], Objects]]) -> None:
    name, empty = place
    ways: dict[str, Callable[[Objects, Objects], None]] = {"archive": archived, "plain parallel copy": plainly}
    if name == "a folder":
        ways["cp -r"] = by_cp
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    peak = 0

    def once() -> None:
        nonlocal peak
        for number in range(ROUNDS):
            # In turn, and each first as often: neighbours on the machine disturb all alike.
            order = list(ways) if number % 2 == 0 else list(ways)[::-1]
            for way in order:
                target = empty()
                before = resident.now()
                resident.forget()
                begun, used = time.perf_counter(), time.process_time()
                ways[way](source, target)
                seconds[way].append(time.perf_counter() - begun)
                processor[way].append(time.process_time() - used)
                if way == "archive":
                    peak = max(peak, resident.most() - before)

    benchmark.pedantic(once, rounds=1, iterations=1)
    total = sum(SIZES)
    rate = {way: total / min(times) for way, times in seconds.items()}
    rows = [
            {
                "to": name, "way": way, "MB/s": rate[way] / 1e6,
                "CPU s/GB": min(processor[way]) / total * 1e9 if way != "cp -r" else "",
                "of the plain copy": rate[way] / rate["plain parallel copy"],
                "peak MB": peak / 1e6 if way == "archive" else "",
                "TB in 3 h, at most 10 Gbit/s": min(rate[way], LINK) * 3 * 3600 / 1e12,
            }
        for way in ways
    ]  # fmt: skip
    benchmark.extra_info["table"] = TABLE
    benchmark.extra_info["rows"] = rows
