"""The HTTP client for catalogues and APIs, against a server that misbehaves on purpose."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.lake import http
from tasks.lake.errors import AccessError, NotFound, QuotaError, TransientError, Unreachable, UsageError
from tasks.lake.http import Http, TokenBucket, error_of, retry_after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "collections").write_text('{"ok": true}')
    return tmp_path


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries that do not wait; what they would have waited."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", lambda seconds: waits.append(seconds))
    return waits


def test_an_answer(folder: Path, http_archive: Callable[..., Any]) -> None:
    with Http(http_archive(folder).url) as client:
        assert client.get("/collections").json() == {"ok": True}
        with pytest.raises(NotFound, match="no-such answered 404"):
            client.get("no-such")


def test_what_passes_is_tried_again(folder: Path, http_archive: Callable[..., Any], no_waiting: list[float]) -> None:
    served = http_archive(folder, fail_first=2)
    with Http(served.url) as client:
        assert client.get("collections").is_success
    assert len(served.requests) == 3
    assert len(no_waiting) >= 2


def test_what_stays_is_given_up(folder: Path, http_archive: Callable[..., Any]) -> None:
    served = http_archive(folder, error_rate=1.0)
    with Http(served.url, tries=3) as client, pytest.raises(TransientError, match="answered 503"):
        client.get("collections")
    assert len(served.requests) == 3


def test_a_quota_is_the_callers_business(folder: Path, http_archive: Callable[..., Any]) -> None:
    served = http_archive(folder, error_rate=1.0, error_status=429, retry_after=7)
    with Http(served.url) as client, pytest.raises(QuotaError) as caught:
        client.get("collections")
    assert caught.value.retry_after == 7
    assert len(served.requests) == 1


def test_nobody_there() -> None:
    with Http("http://127.0.0.1:9", tries=2) as client, pytest.raises(Unreachable, match="cannot be reached"):
        client.get("collections")


def test_a_key_is_in_no_error(folder: Path, http_archive: Callable[..., Any]) -> None:
    served = http_archive(folder, error_rate=1.0, error_status=403)
    with Http(served.url, headers={"Authorization": "planted-secret"}) as client:
        with pytest.raises(AccessError) as caught:
            client.get("collections")
        assert "planted-secret" not in f"{caught.value!r} {caught.value} {client!r}"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, UsageError), (401, AccessError), (403, AccessError), (404, NotFound), (410, NotFound), (413, UsageError),
     (429, QuotaError), (500, TransientError), (503, TransientError), (504, TransientError)],
)  # fmt: skip
def test_the_error_of_a_status(status: int, kind: type[Exception]) -> None:
    error = error_of(httpx.Response(status, text="what  went\nwrong"), "http://h/x")
    assert type(error) is kind
    assert str(error) == f"http://h/x answered {status}: what went wrong"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), (None, None)],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    response = httpx.Response(429, headers={"retry-after": value} if value else {})
    assert retry_after(response) == seconds


def test_a_bucket_lets_a_burst_through_and_then_its_rate(
    monkeypatch: pytest.MonkeyPatch, no_waiting: list[float]
) -> None:
    monkeypatch.setattr(http.time, "monotonic", lambda: 100.0)
    bucket = TokenBucket(rate=10, burst=3)
    for _ in range(5):
        bucket.take()
    assert no_waiting == pytest.approx([0.1, 0.2])
    with pytest.raises(UsageError, match="positive"):
        TokenBucket(0)


def test_threads_share_a_bucket(monkeypatch: pytest.MonkeyPatch, no_waiting: list[float]) -> None:
    monkeypatch.setattr(http.time, "monotonic", lambda: 100.0)
    bucket = TokenBucket(rate=1, burst=1)
    threads = [threading.Thread(target=bucket.take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(no_waiting) == pytest.approx([1, 2, 3, 4, 5, 6, 7])


class Heard:
    """A limit that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int | None, float | None] | str] = []

    def take(self) -> None:
        self.told.append("take")

    def answered(self, status: int | None, retry_after: float | None = None) -> None:
        self.told.append((status, retry_after))


def test_a_limit_hears_of_every_try(folder: Path, http_archive: Callable[..., Any]) -> None:
    limit = Heard()
    with Http(http_archive(folder, fail_first=1, retry_after=3).url, limit=limit) as client:
        client.get("collections")
    assert limit.told == ["take", (503, 3.0), "take", (200, None)]
    limit.told.clear()
    with Http("http://127.0.0.1:9", tries=2, limit=limit) as client, pytest.raises(Unreachable):
        client.get("collections")
    assert limit.told == ["take", (None, None)] * 2
