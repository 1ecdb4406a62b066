"""Objects on a local folder, on S3 and over HTTP: content, conditional writes, typed errors."""

import multiprocessing
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lake import objects as objects_module
from tasks.lake.errors import (
    AccessError,
    ConflictError,
    CorruptInput,
    LakeError,
    NotFound,
    Overloaded,
    QuotaError,
    ResourceError,
    Unreachable,
    UsageError,
)
from tasks.lake.objects import Location, Objects, locate
from tests.servers import Archive, S3Server

INCREMENTS = 100


@pytest.fixture
def store(store_url: str) -> Objects:
    return Objects(store_url)


@pytest.fixture
def one_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores made from now on try again only once, so that what is dead is found dead soon."""
    monkeypatch.setitem(objects_module._RETRY, "max_retries", 1)


# -- content -------------------------------------------------------------------------------------------


def test_what_is_put_is_what_is_got(store: Objects) -> None:
    etag = store.put("a/b.bin", b"first")
    assert store.get("a/b.bin") == b"first"
    assert store.get_with_etag("a/b.bin") == (b"first", etag)
    second = store.put("a/b.bin", b"second")
    assert second != etag
    data, meta = store.get_with_meta("a/b.bin")
    assert (data, meta.key, meta.size, meta.etag) == (b"second", "a/b.bin", 6, second)
    assert meta == store.head("a/b.bin")
    assert meta.last_modified.utcoffset() is not None


def test_a_file_is_put_by_its_path(store: Objects, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    store.put("copy", tmp_path / "file")
    assert store.get("copy") == b"x" * 100_000


def test_what_is_not_there(store: Objects) -> None:
    for _ in range(2):  # before and after the store's folder exists
        with pytest.raises(NotFound, match="a/b is not there"):
            store.get("a/b")
        with pytest.raises(NotFound):
            store.get_range("a/b", 0, 1)
        assert store.head("a/b") is None
        assert store.listing() == []
        assert store.listing("a") == []
        store.delete("a/b")
        assert store.delete_all("a") == 0
        store.make()


def test_ranges(store: Objects) -> None:
    store.put("k", b"0123456789")
    assert store.get_range("k", 2, 3) == b"234"
    assert store.get_range("k", 0, 10) == b"0123456789"
    assert store.get_range("k", 5, 0) == b""
    with pytest.raises(CorruptInput, match=r"ends early: expected 5 bytes at 8, found 2 bytes"):
        store.get_range("k", 8, 5)
    with pytest.raises(CorruptInput, match="ends before"):
        store.get_range("k", 10, 1)


def test_listing_is_sorted_and_ends_at_segments(store: Objects) -> None:
    for key in ("b/2", "a/1", "ab/3", "a/deep/4", "top"):
        store.put(key, key.encode())
    store.replace("top", b"new", store.head("top").etag)  # type: ignore[union-attr]
    assert [m.key for m in store.listing()] == ["a/1", "a/deep/4", "ab/3", "b/2", "top"]
    assert [(m.key, m.size) for m in store.listing("a")] == [("a/1", 3), ("a/deep/4", 8)]
    assert store.listing("nowhere") == []
    assert store.delete_all("a") == 2
    assert [m.key for m in store.listing()] == ["ab/3", "b/2", "top"]


@pytest.mark.parametrize("key", ["x/2026-11-20T00:00Z", "x/%41 b", "x/a#b?c=d&e", "x/ü", "x/a+b@c"])
def test_keys_come_back_as_they_went_in(store: Objects, key: str) -> None:
    etag = store.put(key, b"1")
    assert [m.key for m in store.listing("x")] == [key]
    store.replace(key, b"2", etag)
    assert store.get(key) == b"2"


def test_many_at_once_keep_their_order(store: Objects) -> None:
    keys = [f"many/{i:02}" for i in range(20)]
    for key in keys:
        store.put(key, key.encode())
    assert [data for data, _ in store.get_many(keys[::-1])] == [k.encode() for k in keys[::-1]]
    with pytest.raises(NotFound):
        store.get_many([*keys, "many/no"])


def test_a_pickled_store_is_the_same_store(store: Objects) -> None:
    store.put("k", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again.url == store.url
    assert again.get("k") == b"1"


# -- conditional writes --------------------------------------------------------------------------------


def test_put_new_does_not_overwrite(store: Objects) -> None:
    assert store.put_new("k", b"1") == store.head("k").etag  # type: ignore[union-attr]
    with pytest.raises(ConflictError):
        store.put_new("k", b"2")
    assert store.get("k") == b"1"


def test_replace_only_what_was_read(store: Objects) -> None:
    first = store.put_new("k", b"1")
    second = store.replace("k", b"2", first)
    assert second == store.head("k").etag  # type: ignore[union-attr]
    with pytest.raises(ConflictError):
        store.replace("k", b"3", first)
    assert store.get("k") == b"2"
    store.delete("k")
    with pytest.raises((ConflictError, NotFound)):
        store.replace("k", b"3", second)
    assert store.head("k") is None


def test_no_version_on_disk_has_the_etag_of_an_earlier_one(tmp_path: Path) -> None:
    store = Objects(str(tmp_path))
    store.put("k", b"0")
    # A clock that stands still: without care the third version would have the inode, time and size of the first.
    ahead = 4_000_000_000
    os.utime(tmp_path / "k", (ahead, ahead))
    seen = [store.get_with_meta("k")[1]]
    for number in range(1, 6):
        etag = store.replace("k", b"%d" % number, seen[-1].etag)
        seen.append(store.get_with_meta("k")[1])
        assert etag == seen[-1].etag
        assert seen[-1].last_modified > seen[-2].last_modified
    etags = [meta.etag for meta in seen]
    assert len(set(etags)) == 6
    with pytest.raises(ConflictError):
        store.replace("k", b"x", etags[-3])


def _count_up(url: str, times: int) -> None:
    store = Objects(url)
    for _ in range(times):
        while True:
            data, etag = store.get_with_etag("counter")
            try:
                store.replace("counter", b"%06d" % (int(data) + 1), etag)
            except ConflictError:
                continue
            break


def test_two_processes_lose_no_increment(store: Objects) -> None:
    store.put("counter", b"%06d" % 0)
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_count_up, args=(store.url, INCREMENTS)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    assert int(store.get("counter")) == 2 * INCREMENTS


# -- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "file/below/it"])
def test_a_folder_cannot_be_where_a_file_is(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AccessError, match="is or lies below a file"):
        Objects(str(tmp_path / place)).put("k", b"1")


@pytest.mark.parametrize("place", ["/proc/nowhere", "/sys/kernel"])
def test_a_place_that_takes_no_files_refuses(place: str) -> None:
    if not Path(place).parent.is_dir():
        pytest.skip(f"no {Path(place).parent} here")
    with pytest.raises(AccessError) as caught:
        Objects(place).put("k", b"1")
    assert "\n" not in str(caught.value)


def test_no_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(AccessError):
        Objects(str(tmp_path)).put("k", b"1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], timeout=10, check=True)


def test_a_full_disk(small_disk: Path) -> None:
    store = Objects(str(small_disk))
    etag = store.put("small", b"1")
    for write in (
        lambda: store.put("large", b"x" * 200_000),
        lambda: store.put_new("large", b"x" * 200_000),
        lambda: store.replace("small", b"x" * 200_000, etag),
    ):
        with pytest.raises(ResourceError, match="No space left"):
            write()
    assert store.get("small") == b"1"
    assert [m.key for m in store.listing()] == ["small"]


def test_a_bucket_that_is_not_there(s3: S3Server) -> None:
    store = Objects(f"s3://nobody-made-this/x?endpoint={s3.endpoint}&region=us-east-1")
    with pytest.raises(NotFound):
        store.put("k", b"1")


@pytest.mark.usefixtures("one_retry", "s3")
@pytest.mark.parametrize("url", ["s3://b/x?endpoint=http://127.0.0.1:9&region=us-east-1", "http://127.0.0.1:9/x"])
def test_a_dead_server_is_unreachable(url: str) -> None:
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        Objects(url).get("k")
    assert "\n" not in str(caught.value)
    assert "testing" not in str(caught.value)


# -- HTTP ----------------------------------------------------------------------------------------------


@pytest.fixture
def archive(http_archive: Callable[..., Archive], tmp_path: Path) -> Archive:
    (tmp_path / "401").mkdir()
    (tmp_path / "401" / "429.idx").write_bytes(bytes(range(256)))
    return http_archive(tmp_path)


KEY = "401/429.idx"
"""A key full of numbers that could be taken for a status."""


@pytest.mark.usefixtures("one_retry")
def test_an_archive_is_read_over_http(archive: Archive) -> None:
    store = Objects(archive.url)
    data, meta = store.get_with_meta(KEY)
    assert data == bytes(range(256))
    assert meta.size == 256
    assert meta == store.head(KEY)
    assert store.get_range(KEY, 100, 3) == bytes([100, 101, 102])
    assert [(r.method, r.range, r.status) for r in archive.requests] == [
        ("GET", None, 200), ("HEAD", None, 200), ("GET", "bytes=100-102", 206),
    ]  # fmt: skip
    with pytest.raises(CorruptInput):
        store.get_range(KEY, 256, 3)
    with pytest.raises(NotFound):
        store.get("401/no")


@pytest.mark.usefixtures("one_retry")
@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (500, Unreachable),
        (503, Overloaded),
        (429, QuotaError),
        (401, AccessError),
        (403, AccessError),
        (404, NotFound),
    ],
)
def test_every_status_has_its_error(archive: Archive, status: int, wanted: type[LakeError]) -> None:
    archive.faults.error_rate, archive.faults.error_status = 1, status
    with pytest.raises(LakeError) as caught:
        Objects(archive.url).get(KEY)
    assert type(caught.value) is wanted
    assert KEY in str(caught.value)


@pytest.mark.usefixtures("one_retry")
def test_a_passing_fault_is_overcome(archive: Archive) -> None:
    archive.faults.fail_first = 1
    assert Objects(archive.url).get(KEY) == bytes(range(256))
    assert [r.status for r in archive.requests] == [503, 200]


@pytest.mark.usefixtures("one_retry")
def test_a_body_that_ends_early_is_not_taken_for_the_whole(archive: Archive) -> None:
    archive.faults.truncate = 100
    with pytest.raises(Unreachable):
        Objects(archive.url).get(KEY)


@pytest.mark.usefixtures("one_retry")
def test_a_server_that_knows_no_ranges_is_found_out(archive: Archive) -> None:
    archive.faults.ignore_range = True
    with pytest.raises(LakeError, match=r"[Rr]ange"):
        Objects(archive.url).get_range(KEY, 10, 5)


# -- URLs ----------------------------------------------------------------------------------------------


def test_urls(tmp_path: Path) -> None:
    assert locate("s3://b/p/q?region=x&endpoint=http://h:1") == Location(
        "s3", "b", "p/q", (("endpoint", "http://h:1"), ("region", "x"))
    )
    assert locate("s3://b").prefix == ""
    assert locate("https://h/a/b/") == Location("https", "h", "a/b")
    assert locate(str(tmp_path)).prefix == locate(tmp_path.as_uri()).prefix == str(tmp_path)
    assert locate("some/where").prefix == str(Path.cwd() / "some/where")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "s3://b/p?regoin=x",
            "unknown option regoin; known are: anonymous, credentials, endpoint, region, storage_class",
        ),
        ("s3:///p", "names no bucket"),
        ("gs://b/p", "not gs://"),
    ],
)
def test_urls_that_make_no_sense(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Objects(url)


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=("C",)), min_size=1, max_size=20))
def test_a_folder_and_its_url_are_the_same_place(name: str) -> None:
    if "://" in name or name in (".", "..") or name.startswith("~"):
        return
    store = Objects(f"/nowhere/{name}")
    assert locate(store.url) == store.location


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    store = Objects(str(tmp_path))
    store.put("a/b/0", b"whole")
    store.put("c/0", b"whole")
    for left in ("a/b/0#1", "a/b/1#2", "c/0#1"):
        (tmp_path / left).write_bytes(b"ha")
    assert store.sweep("a") == 2
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["0"]
    assert (tmp_path / "c" / "0#1").exists()
    assert store.get("a/b/0") == b"whole"
    assert store.sweep("nowhere") == 0
