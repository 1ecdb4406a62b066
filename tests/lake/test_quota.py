"""The quota in the lake: never more than the provider permits, shared fairly, and nothing that a dead holder keeps."""

import heapq
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.lake.errors import CorruptInput, QuotaError, UsageError
from tasks.lake.objects import Objects
from tasks.lake.quota import Quota
from tasks.lake.rate import Adaptive, Rate

HOUR = Rate(1000, 3600)
SECOND = Rate(200, 1)


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def quota(where: Path | str, clock: Clock, *rates: Rate, **options) -> Quota:
    return Quota(Objects(str(where)), "knmi", rates, clock=clock, sleep=clock.sleep, **options)


def most(spent: list[float], seconds: float) -> int:
    """The largest number of events in any stretch of ``seconds``."""
    first, largest = 0, 0
    for last, at in enumerate(spent):
        while at - spent[first] >= seconds:
            first += 1
        largest = max(largest, last - first + 1)
    return largest


def test_never_more_than_the_limit_in_any_hour_and_hardly_less(tmp_path: Path) -> None:
    clock = Clock()
    bucket = quota(tmp_path, clock, HOUR, SECOND)
    spent = []
    for _ in range(4000):
        bucket.take()
        spent.append(clock.now)
        clock.now += 0.03
        bucket.answered(200)
    assert most(spent, 3600) <= 1000
    # The first thousand go at once; after that an hour each.
    assert spent[999] - spent[0] < 120
    hours = (spent[-1] - spent[0]) / 3600
    assert 4000 / (hours + 1) > 0.95 * 1000
    # A write in the lake serves many requests.
    assert bucket.writes < 4000 / 4


def test_a_second_is_a_pace(tmp_path: Path) -> None:
    clock = Clock()
    bucket = quota(tmp_path, clock, SECOND)
    spent = []
    for _ in range(600):
        bucket.take()
        spent.append(clock.now)
    assert most(spent, 1.0) <= 200
    assert spent[-1] - spent[0] == pytest.approx(600 / 190, rel=0.05)


def interleave(
    holders: list[Quota], clock: Clock, requests: int, seconds: Callable[[], float]
) -> list[tuple[float, int]]:
    """Take tokens from several holders as if each ran for itself: who comes next is who is free first."""
    turns = [(clock.now, number) for number in range(len(holders))]
    spent: list[tuple[float, int]] = []
    while len(spent) < requests:
        at, number = heapq.heappop(turns)
        clock.now = max(clock.now, at)
        holders[number].take()
        spent.append((clock.now, number))
        heapq.heappush(turns, (clock.now + seconds(), number))
    return sorted(spent)


def test_several_holders_share_one_bucket_evenly(tmp_path: Path) -> None:
    clock, dice = Clock(), random.Random(4)
    holders = [quota(tmp_path, clock, HOUR) for _ in range(4)]
    spent = interleave(holders, clock, 3000, lambda: dice.uniform(0.05, 0.3))
    # One thread plays all four, so a holder that waits delays the others: nothing here says how fast they are.
    assert most([at for at, _ in spent], 3600) <= 1000
    counts = Counter(number for _, number in spent)
    assert min(counts.values()) > 0.8 * max(counts.values()), counts


def test_what_a_dead_holder_took_comes_back(tmp_path: Path) -> None:
    clock = Clock()
    dead = quota(tmp_path, clock, Rate(10, 100), block=10)
    for _ in range(9):
        dead.take()
    del dead
    alive = quota(tmp_path, clock, Rate(10, 100))
    began = clock.now
    for _ in range(10):
        alive.take()
    assert 100 <= clock.now - began < 105
    clock.now += 200
    assert len(alive.state().holders) <= 2
    alive.take()
    assert len(alive.state().holders) == 1


def test_unspent_tokens_go_back(tmp_path: Path) -> None:
    clock = Clock()
    one = quota(tmp_path, clock, Rate(100, 1000))
    with one.used():
        for _ in range(5):
            one.take()
        assert sum(one.state().taken[Rate(100, 1000).name].values()) >= 5
    assert sum(one.state().taken[Rate(100, 1000).name].values()) == 5
    assert one.state().holders == {}


def test_tokens_held_for_too_long_go_back(tmp_path: Path) -> None:
    clock = Clock()
    slow = quota(tmp_path, clock, Rate(20, 1000))
    for _ in range(20):
        # Each is spent so late that the rest of its block has gone stale.
        slow.take()
        clock.now += 11
    assert clock.now - 1_700_000_000 < 240
    assert sum(slow.state().taken[Rate(20, 1000).name].values()) == 20


def test_retry_after_pauses_everybody(tmp_path: Path) -> None:
    clock = Clock()
    one, two = (quota(tmp_path, clock, HOUR) for _ in range(2))
    one.take()
    two.take()
    began = clock.now
    one.answered(429, retry_after=700)
    late = quota(tmp_path, clock, HOUR)
    late.take()
    assert clock.now - began >= 700
    two.take()
    assert clock.now - began < 720


def test_refusals_without_a_word_pause_longer_each_time(tmp_path: Path) -> None:
    clock = Clock()
    bucket = quota(tmp_path, clock, HOUR)
    waits = []
    for _ in range(4):
        bucket.take()
        clock.now += 2
        began = clock.now
        bucket.answered(429)
        bucket.take()
        waits.append(clock.now - began)
    assert waits == pytest.approx([1, 2, 4, 8], abs=0.5)
    bucket.answered(200)
    bucket.take()
    clock.now += 100
    bucket.take()
    bucket.answered(429)
    began = clock.now
    bucket.take()
    assert clock.now - began < 2


def test_an_adaptive_rate_halves_and_grows_slowly(tmp_path: Path) -> None:
    clock = Clock()
    bucket = quota(tmp_path, clock, adaptive=Adaptive(start=40, highest=40))
    for _ in range(3):
        # Those that were under way together are refused together: that is one refusal.
        bucket.take()
        bucket.answered(503)
    assert bucket.state().rate == 20
    began = clock.now
    for _ in range(200):
        bucket.take()
        bucket.answered(200)
    # The pace is kept: 20 a second at first, and 1 % of the highest more each second.
    assert 7 < clock.now - began < 10.5
    assert 22 < (bucket.state().rate or 0) < 26
    clock.now += 5
    bucket.answered(429, retry_after=3)
    assert (bucket.state().rate or 0) < 13
    for _ in range(3000):
        bucket.take()
        bucket.answered(200)
    assert bucket.state().rate == 40


def test_impatience_is_a_quota_error(tmp_path: Path) -> None:
    clock = Clock()
    bucket = quota(tmp_path, clock, Rate(3, 1000), patience=300)
    for _ in range(3):
        bucket.take()
    with pytest.raises(QuotaError, match=r"quota knmi is used up; the next request may go in 10\d\d s") as caught:
        bucket.take()
    assert 1000 <= (caught.value.retry_after or 0) <= 1030
    clock.now += caught.value.retry_after or 0
    bucket.take()


def test_numbers_are_left_for_others(tmp_path: Path) -> None:
    clock = Clock()
    quota(tmp_path, clock, HOUR).note("points", 300_000.0)
    assert quota(tmp_path, clock, HOUR).noted("points") == 300_000
    assert quota(tmp_path, clock, HOUR).noted("concurrency") is None


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both above 0"):
        Rate(0, 1)
    with pytest.raises(UsageError, match="between its bounds"):
        Adaptive(start=5, highest=4)
    with pytest.raises(UsageError, match="neither"):
        Quota(Objects(str(tmp_path)), "x")
    Objects(str(tmp_path)).put("quotas/knmi.json", b"{")
    with pytest.raises(CorruptInput, match=r"quotas/knmi\.json cannot be read"):
        quota(tmp_path, Clock(), HOUR).take()


def test_threads_of_several_holders_on_a_real_store(store_url: str) -> None:
    """All at once, on a folder and on S3: the tokens handed out are those of one bucket."""
    rate = Rate(40, 3600)
    holders = [Quota(Objects(store_url), "knmi", [rate], patience=1) for _ in range(3)]
    taken: list[int] = []
    together = threading.Barrier(6)

    def work(number: int) -> None:
        together.wait()
        while True:
            try:
                holders[number].take()
            except QuotaError:
                return
            taken.append(number)
            time.sleep(0.02)

    threads = [threading.Thread(target=work, args=(n % 3,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40
    assert min(Counter(taken).values()) >= 5, Counter(taken)


@pytest.mark.fault
def test_a_killed_process_blocks_nobody(tmp_path: Path) -> None:
    code = (
        "import sys; from tasks.lake.objects import Objects; from tasks.lake.quota import Quota\n"
        "from tasks.lake.rate import Rate\n"
        "quota = Quota(Objects(sys.argv[1]), 'knmi', [Rate(2000, 10)])\n"
        "while True: quota.take(); print('x', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    bucket = Quota(Objects(str(tmp_path)), "knmi", [Rate(2000, 10)])
    began = time.monotonic()
    for _ in range(100):
        bucket.take()
    assert time.monotonic() - began < 5
    assert sum(bucket.state().taken["2000/10s"].values()) >= 120
