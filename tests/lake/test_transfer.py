"""Copying between stores: what arrives, what is not copied again, and what is refused."""

import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.lake.errors import Changed, CorruptInput, NotFound, ResourceError, UsageError
from tasks.lake.meter import Meter
from tasks.lake.objects import Objects
from tasks.lake.receipts import Receipt, Receipts
from tasks.lake.shipment import refuse_same_place
from tasks.lake.transfer import PIECE, Item, digest_of, transfer

from ..servers import S3Server
from .s3_proxy import proxy

ROOT = Path(__file__).resolve().parents[2]


def fill(store: Objects, count: int = 20, large: int = 1) -> list[Item]:
    """Objects of many sizes: empty, small, exactly a piece, and of several pieces."""
    dice = random.Random(count)
    for n in range(count):
        store.put(f"raw/{n % 3}/o{n:03d}", dice.randbytes(997 * n))
    for n in range(large):
        store.put(f"raw/large-{n}", dice.randbytes(2 * PIECE + 12_345 + n))
    if large:
        store.put("raw/piece", dice.randbytes(PIECE))
    return [Item(m.key, m.size) for m in store.listing("raw")]


def receipts(target: Objects) -> Receipts:
    return Receipts(target, "transfers/test/receipts")


def assert_same(source: Objects, target: Objects, found: list[Receipt]) -> None:
    for receipt in found:
        data = target.get(receipt.key)
        assert data == source.get(receipt.key)
        assert receipt.sha256 == hashlib.sha256(data).hexdigest()
        assert receipt.bytes == len(data)


@pytest.fixture
def source(tmp_path: Path) -> Objects:
    return Objects(str(tmp_path / "source"))


def test_everything_arrives_and_nothing_is_copied_twice(source: Objects, store_url: str) -> None:
    items, target = fill(source), Objects(store_url)
    first = transfer(source, target, items, receipts(target))
    assert [r.key for r in first] == [i.key for i in items]
    assert {r.how for r in first} == {"copied", "copied in parts"}
    assert_same(source, target, first)
    written = {m.key: (m.etag, m.last_modified) for m in target.listing("raw")}
    # By the receipts, which another process reads; and without them, by looking at both ends.
    assert transfer(source, target, items, receipts(target)) == first
    receipts(target).forget()
    again = transfer(source, target, items, receipts(target))
    assert {r.how for r in again} == {"found there"}
    assert [r.sha256 for r in again] == [r.sha256 for r in first]
    assert {m.key: (m.etag, m.last_modified) for m in target.listing("raw")} == written


def test_between_buckets_of_one_service_the_server_copies(s3: S3Server) -> None:
    with proxy(s3.endpoint) as front:
        source, target = (Objects(s3.lake(name).replace(s3.endpoint, front.url)) for name in ("source", "other/place"))
        items = fill(source, 6)
        front.passed.clear()
        found = transfer(source, target, items, receipts(target))
        assert {r.how for r in found} == {"copied by the server, which took the digest"}
        # Not one object's bytes went through us: only receipts were read or written.
        assert not [p for m, p in front.passed if m == "GET" and "/raw/" in p and "prefix" not in p]
    assert_same(source, target, found)


def test_only_what_is_new_goes_over(source: Objects, store_url: str) -> None:
    items, target = fill(source, 5, 0), Objects(store_url)
    transfer(source, target, items, receipts(target))
    source.put("raw/new", b"new")
    meter = Meter()
    transfer(source, target, [*items, Item("raw/new", 3)], receipts(target), meter)
    assert (meter.moved, meter.kept) == (3, sum(i.bytes for i in items))


def test_what_is_damaged_at_the_target_is_copied_again(source: Objects, store_url: str) -> None:
    items, target = fill(source, 5, 0), Objects(store_url)
    transfer(source, target, items, receipts(target))
    target.put(items[3].key, b"x" * items[3].bytes)
    assert_same(source, target, transfer(source, target, items, receipts(target)))


@pytest.mark.parametrize("size", [100, PIECE + 1])
def test_bytes_that_are_not_those_on_record_do_not_arrive(source: Objects, store_url: str, size: int) -> None:
    target = Objects(store_url)
    source.put("raw/rotten", b"r" * size)
    item = Item("raw/rotten", size, digest="sha256:" + hashlib.sha256(b"g" * size).hexdigest())
    with pytest.raises(CorruptInput, match="raw/rotten does not hold what is on record"):
        transfer(source, target, [item], receipts(target))
    assert target.listing("raw") == []
    if target.location.is_local:
        assert not [p for p in Path(target.location.prefix).rglob("*") if p.is_file()]


@pytest.mark.parametrize("size", [100, PIECE + 1])
def test_a_source_that_changed_meanwhile(source: Objects, store_url: str, size: int) -> None:
    target = Objects(store_url)
    source.put("raw/a", b"1" * size)
    meta = source.head("raw/a")
    assert meta is not None
    item = Item("raw/a", size, version=source.version(meta))
    time.sleep(0.01)
    source.put("raw/a", b"2" * size)
    with pytest.raises(Changed, match="raw/a changed at the source"):
        transfer(source, target, [item], receipts(target))
    assert target.listing("raw") == []
    source.delete("raw/a")
    with pytest.raises(NotFound):
        transfer(source, target, [item], receipts(target))


def test_a_large_object_that_changes_while_it_is_read(source: Objects, tmp_path: Path) -> None:
    target = Objects(str(tmp_path / "target"))
    source.put("raw/a", b"1" * (3 * PIECE))

    class Meddling(Meter):
        def copied(self, count: int, *, whole: bool = True) -> None:
            other = tmp_path / "other"
            other.write_bytes(b"2" * (3 * PIECE))
            other.replace(tmp_path / "source" / "raw" / "a")

    with pytest.raises(Changed, match="changed while it was read"):
        transfer(source, target, [Item("raw/a", 3 * PIECE)], receipts(target), Meddling())
    assert target.listing("raw") == []


@pytest.mark.parametrize("pair", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_a_target_inside_the_source(tmp_path: Path, pair: tuple[str, str]) -> None:
    one, two = (Objects(str(tmp_path / name)) for name in pair)
    with pytest.raises(UsageError, match="lie in one another"):
        refuse_same_place(one, two)
    refuse_same_place(Objects(str(tmp_path / "a")), Objects(str(tmp_path / "ab")))


def test_a_target_that_is_read_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written to"):
        refuse_same_place(Objects(str(tmp_path)), Objects("https://example.org/x"))


def test_small_objects_get_the_storage_class_they_are_given(source: Objects, s3: S3Server) -> None:
    import boto3

    target = Objects(s3.lake("classes"))
    source.put("raw/a", b"a")
    source.put("raw/b", b"b" * (PIECE + 1))
    items = [Item("raw/a", 1, storage_class="GLACIER_IR"), Item("raw/b", PIECE + 1, storage_class="STANDARD_IA")]
    transfer(source, target, items, receipts(target))
    client = boto3.client("s3", endpoint_url=s3.endpoint)
    found = client.list_objects_v2(Bucket=target.location.bucket, Prefix="classes/raw")["Contents"]
    assert {o["Key"]: o["StorageClass"] for o in found} == {
        "classes/raw/a": "GLACIER_IR", "classes/raw/b": "STANDARD_IA",
    }  # fmt: skip
    third = Objects(s3.lake("third"))
    transfer(target, third, [Item("raw/a", 1, storage_class="STANDARD_IA")], receipts(third))
    head = client.head_object(Bucket=third.location.bucket, Key="third/raw/a")
    assert head["StorageClass"] == "STANDARD_IA"


# -- how it goes ---------------------------------------------------------------------------------------------


def test_rate_and_end_are_told_from_what_went_over() -> None:
    now = 0.0
    said: list[str] = []
    meter = Meter("2026-11-20T00", said.append, runs_a_month=120, clock=lambda: now)
    meter.expect(100, 100 * 10**9)
    for _ in range(40):
        now += 1.0
        meter.copied(10**9)
    assert meter.rate == pytest.approx(1e9)
    assert meter.left == pytest.approx(60)
    # 120 runs of 100 GB at 1 GB/s are 12,000 s.
    assert meter.month == pytest.approx(12_000 / 3600)
    assert len(said) == 3
    assert said[-1] == (
        "2026-11-20T00: 35.00 of 100.00 GB, 1000 MB/s, done in 1 min 5 s, a month of such runs (12 TB) in 3.33 h"
    )


def test_the_rate_follows_the_network_and_forgets_what_was_there() -> None:
    now = 0.0
    meter = Meter(clock=lambda: now)
    meter.expect(3, 10_000)
    meter.skipped(5_000)
    assert meter.left is None
    for rate, seconds in ((100, 300), (10, 300)):
        for _ in range(seconds):
            now += 1.0
            meter.copied(rate)
    assert meter.rate == pytest.approx(10, rel=0.1)


# -- faults --------------------------------------------------------------------------------------------------


@pytest.mark.fault
def test_a_storm_of_503_at_the_target(source: Objects, s3: S3Server) -> None:
    with proxy(s3.endpoint) as front:
        target = Objects(s3.lake("storm").replace(s3.endpoint, front.url))
        items = fill(source, 12, 1)
        front.refuse, front.methods = 0.5, ("PUT", "POST")
        found = transfer(source, target, items, receipts(target))
        assert front.refused > 10
        front.refuse = 0.0
        assert_same(source, target, found)


@pytest.mark.fault
def test_a_full_disk_at_the_target(source: Objects, tmp_path: Path) -> None:
    items = fill(source, 8, 1)
    with small_disk(tmp_path / "small", "8m") as folder:
        target = Objects(str(folder / "arch"))
        with pytest.raises(ResourceError, match="No space left"):
            transfer(source, target, items, receipts(target))
        there = {m.key: m.size for m in target.listing("raw")}
        assert all(there[i.key] == i.bytes for i in items if i.key in there)
        assert "raw/large-0" not in there
        # Room is made: it goes on from there.
        subprocess.run(["mount", "-o", "remount,size=80m", str(folder)], check=True, timeout=10)
        assert_same(source, target, transfer(source, target, items, receipts(target)))
        assert not list(folder.rglob("*#*"))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of so many bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], timeout=10, check=True)


_COPY = """
import sys
from tests.lake.test_transfer import *
source, target = Objects(sys.argv[1]), Objects(sys.argv[2])
items = [Item(m.key, m.size) for m in source.listing("raw")]
print("go", flush=True)
transfer(source, target, items, receipts(target), at_once=2)
print("done", flush=True)
"""


@pytest.mark.fault
def test_killed_ten_times_it_goes_on_and_copies_nothing_twice(source: Objects, tmp_path: Path) -> None:
    items = fill(source, 300, 4)
    sizes = {i.key: i.bytes for i in items}
    target, dice = Objects(str(tmp_path / "target")), random.Random(3)
    root = Path(target.location.prefix)
    written: dict[Path, tuple[int, int]] = {}
    kills = 0
    for _ in range(40):
        killed = _copy_and_kill(source, target, dice.uniform(0.0, 0.12))
        kills += killed
        whole = [p for p in (root / "raw").rglob("*") if p.is_file() and "#" not in p.name]
        now = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in whole}
        # What was there before is the very file that it was, and whatever is there is whole.
        assert all(now[path] == stamp for path, stamp in written.items())
        assert all(p.stat().st_size == sizes[p.relative_to(root).as_posix()] for p in now)
        written = now
        if kills == 10:
            break
        if not killed:
            # It was quicker than the kill: there is something to copy again.
            for path in dice.sample(sorted(written), len(written) // 2):
                path.unlink()
                del written[path]
    assert kills == 10
    found = transfer(source, target, items, receipts(target))
    assert_same(source, target, found)
    assert all((p.stat().st_ino, p.stat().st_mtime_ns) == stamp for p, stamp in written.items())
    assert not list(root.rglob("*#*"))


def _copy_and_kill(source: Objects, target: Objects, seconds: float) -> bool:
    """Copy in another process and kill it so many seconds after it began; whether that came in time."""
    command = [sys.executable, "-c", _COPY, source.url, target.url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        process.wait(60)
        timer.cancel()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def test_digest_of_an_object(source: Objects) -> None:
    source.put("a", b"x" * (2 * PIECE + 1))
    meta = source.head("a")
    assert meta is not None
    assert digest_of(source, meta) == hashlib.sha256(b"x" * (2 * PIECE + 1)).hexdigest()
