"""Claims kept alive while their work goes on; work that hangs is ended, work whose worker must go is given back."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .lake.errors import LakeError
from .lake.ledger import LEASE, Claim, Ledger

_SLOWEST = 64 * 2**10
"""Bytes a second below which work is taken to hang."""

_open: set["Leases"] = set()
_open_lock = threading.Lock()
_leaving = threading.Event()


@dataclass
class _Kept:
    claim: Claim
    ends: float
    """When the work is taken to hang, on the monotonic clock."""


class Leases:
    """Keeps the claims of a batch alive from one thread while the work goes on.

    A partition that takes longer than ``hang`` seconds, and what its bytes take at the slowest, is taken to hang.
    Nothing ends a thread that waits inside a library, so ``end`` ends the process; before that, all that is claimed
    here is noted as lost, with the reason. Only a Dask worker that has a nanny is ended, unless ``end`` is given.
    """

    def __init__(
        self, ledger: Ledger, phase: str, hang: float = math.inf, end: Callable[[], None] | None = None
    ) -> None:
        self._ledger = ledger
        self._phase = phase
        self._hang = hang
        self._end = end or (end_worker if _has_nanny() else None)
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leases", daemon=True)

    def __enter__(self) -> "Leases":
        with _open_lock:
            _open.add(self)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with _open_lock:
            _open.discard(self)
        self._stop.set()
        self._thread.join()

    @contextlib.contextmanager
    def kept(self, claim: Claim, size: int = 0) -> Iterator[None]:
        """Renew a claim from time to time while the block runs; ``size`` is the bytes that it moves."""
        key = claim.record.partition
        with self._lock:
            self._kept[key] = _Kept(claim, time.monotonic() + self._hang + size / _SLOWEST)
        try:
            yield
        finally:
            with self._lock:
                self._kept.pop(key, None)

    def current(self, claim: Claim) -> Claim:
        """The claim as last renewed; it is not renewed any more after this call."""
        with self._lock:
            kept = self._kept.pop(claim.record.partition, None)
        return kept.claim if kept else claim

    def give_back(self, reason: str) -> None:
        """Note everything that is claimed here as lost, so that nobody waits for its leases to run out."""
        with self._lock:
            for key, kept in self._kept.items():
                with contextlib.suppress(LakeError):
                    mine = kept.claim.record.lineage.flow_run_id
                    self._ledger.mark_lost(self._phase, key, reason, flow_run_id=mine)
            self._kept.clear()

    def _watch(self) -> None:
        renew = LEASE.total_seconds() / 3
        look = min(renew, max(0.05, self._hang / 10))
        renewed = time.monotonic()
        while not self._stop.wait(look):
            now = time.monotonic()
            with self._lock:
                hanging = next((key for key, kept in self._kept.items() if now >= kept.ends), None)
            if hanging is not None and self._end is not None:
                self.give_back(f"{hanging} came to no end in {self._hang:.0f} s; its worker was ended")
                self._end()
            if now - renewed >= renew:
                renewed = now
                self._renew()

    def _renew(self) -> None:
        with self._lock:
            for key, kept in self._kept.items():
                # A claim that cannot be renewed is found out when its work is recorded.
                with contextlib.suppress(LakeError):
                    self._kept[key].claim = self._ledger.renew(self._phase, kept.claim)


def leave() -> None:
    """Have batches of this process begin no further partition: its machine is about to go."""
    _leaving.set()


def leaving() -> bool:
    """Whether this process is to begin nothing any more."""
    return _leaving.is_set()


def idle() -> bool:
    """Whether no batch is at work in this process."""
    with _open_lock:
        return not _open


def give_back(reason: str) -> None:
    """Give back what every batch of this process has claimed."""
    with _open_lock:
        batches = list(_open)
    for leases in batches:
        leases.give_back(reason)


def end_worker() -> None:
    """End this process at once, whatever its threads wait for; its nanny starts another."""
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _has_nanny() -> bool:
    """Whether this process is a Dask worker with a nanny, which starts another one."""
    module = sys.modules.get("distributed.worker")
    return module is not None and any(worker.nanny for worker in list(module.Worker._instances))
