"""Child processes: whatever happens in one is an exception here, and the next request finds a child that works."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tasks.lake import children, zygote
from tasks.lake.children import Crashed, Died, OutOfMemory, Pool, TimedOut
from tasks.lake.errors import LakeError

ROOT = Path(__file__).resolve().parents[2]
TARGET = "tests.surveys.hostile:answer"


class Limited(Pool):
    """A pool whose children may have 128 MiB unless a test says otherwise."""

    def run(self, request: bytes, seconds: float, memory: int = 128 * 2**20) -> bytes:
        return super().run(request, seconds, memory)


@pytest.fixture
def pool() -> Iterator[Limited]:
    made = Limited(TARGET)
    yield made
    made.close()


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_a_child_is_used_again(pool: Limited) -> None:
    assert pool.run(b"echo hello", 10) == b"hello"
    first = pool.run(b"pid", 10)
    assert pool.run(b"pid", 10) == first
    assert pool.threads == 1, "what is forked from must have one thread"


def test_a_child_is_replaced_after_so_many_requests(pool: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "REUSED", 2)
    pids = [pool.run(b"pid", 10) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_child_that_has_grown_is_replaced(pool: Limited) -> None:
    first = pool.run(b"pid", 10)
    assert pool.run(b"keep 40", 10) == b"40"
    assert pool.run(b"pid", 10) != first


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (b"wait 30", TimedOut, "not done after 0.5 s"),
        (b"hang 30", TimedOut, "not done after 0.5 s"),
        (b"eat-and-die 300", OutOfMemory, "more than 128 MiB of memory: terminate called"),
        (b"killed", OutOfMemory, "killed by the system"),
        (b"crash", Crashed, "ended by SIGSEGV"),
        (b"exit 3", Crashed, "exit code 3: nobody told me to go on"),
    ],
)
def test_each_end_is_told_from_the_others(pool: Limited, request_: bytes, error: type[Died], said: str) -> None:
    assert pool.run(b"echo a", 10) == b"a"
    with pytest.raises(error, match=said) as caught:
        pool.run(request_, 0.5 if error is TimedOut else 20)
    assert type(caught.value) is error
    assert pool.run(b"echo again", 10) == b"again"
    # Nothing is left behind: what is forked from, and one child.
    assert gone([p for p in below(os.getpid()) if p.status() == psutil.STATUS_ZOMBIE], 5)
    mine = [p for p in below(os.getpid()) if TARGET in " ".join(p.cmdline())]
    assert len(mine) == 2


def test_memory_that_may_be_had_is_had(pool: Limited) -> None:
    assert pool.run(b"eat 90", 20) == b"90"
    # Children with other limits are other children.
    assert pool.run(b"eat 300", 20, 400 * 2**20) == b"300"
    with pytest.raises(Died):
        pool.run(b"eat 300", 20)


def test_memory_is_refused_rather_than_given_and_taken(pool: Limited) -> None:
    # The function's own exception ends its child: the handler of checks catches it, this one does not.
    with pytest.raises(Died, match="MemoryError"):
        pool.run(b"eat 300", 20)


def test_children_work_side_by_side(pool: Limited) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: pool.run(f"wait {0.5 + i / 1000}".encode(), 20), range(8)))
    assert answers == [str(0.5 + i / 1000).encode() for i in range(8)]
    assert time.monotonic() - begun < 8 * 0.5 + 5


def test_children_see_no_secrets(pool: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    seen = pool.run(b"environment", 10)
    assert b"hunter2" not in seen
    assert b'"PATH"' in seen


def test_closing_ends_everything(pool: Limited) -> None:
    pool.run(b"echo a", 10)
    mine = [p for p in below(os.getpid()) if TARGET in " ".join(p.cmdline())]
    assert len(mine) == 2
    pool.close()
    assert gone(mine, 5)


def test_the_process_that_children_are_forked_from_is_started_again(pool: Limited) -> None:
    pool.run(b"echo a", 10)
    assert pool._zygote is not None
    pool._zygote.kill()
    pool._zygote.wait()
    # The child that waits still answers; ending it finds out, and the next one comes from a new process.
    assert pool.run(b"echo b", 10) == b"b"
    with pytest.raises(Crashed, match="exit code unknown"):
        pool.run(b"exit 1", 10)
    assert pool.run(b"echo c", 10) == b"c"


def test_a_function_that_cannot_be_imported() -> None:
    pool = Limited("tests.surveys.hostile:nothing")
    with pytest.raises(LakeError, match=r"no child process can be started \(AttributeError"):
        pool.run(b"echo", 10)
    pool.close()


_PARENT = """
import sys, threading
from tasks.lake import children, zygote
zygote.GRACE = 0.5
pool = children.Pool("tests.surveys.hostile:answer")
print(pool.run(b"pid", 10, 2**27).decode(), flush=True)
thread = threading.Thread(target=lambda: pool.run(b"hang 60", 2, 2**27))
thread.start()
print(pool.run(b"pid", 10, 2**27).decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.fault
def test_children_of_a_killed_worker_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that hangs in C: the kernel ends it once its time is over."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline().split()[0]) for _ in range(2)]
        assert pids[0] != pids[1]
        family = below(parent.pid)
        assert {*pids} < {p.pid for p in family}
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.communicate()
    assert gone(family, 2 + zygote.GRACE + 10)


def test_requests_of_many_threads_do_not_mix(pool: Limited) -> None:
    wrong: list[bytes] = []

    def ask(name: int) -> None:
        for i in range(50):
            word = f"{name}-{i}".encode()
            if pool.run(b"echo " + word, 10) != word:
                wrong.append(word)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
