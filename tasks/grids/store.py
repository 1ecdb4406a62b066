"""Weights as an artefact of the lake: made once for each request, whoever asks, and read from there by all."""

import contextlib
import hashlib
import threading
import time
from concurrent.futures import Executor
from functools import lru_cache

from ..lake.errors import LakeError, as_lake_error
from ..lake.lake import Lake
from ..lake.ledger import LEASE, Busy, Claim, Ledger, LostClaim, lineage
from ..lake.partition import Output, Partition, Produced
from .request import Request
from .weights import Weights, answer, load_weights

LEDGER = "weights"
"""Name in the ledger under which the making of weights is recorded; weights belong to no recipe."""

_PHASE = "make"
_LOOK_AGAIN = 0.2
"""Seconds between looks while somebody else makes the weights."""


def ensure(lake: Lake, request: Request, pool: Executor | None = None) -> str:
    """The key of the request's weights in the lake; made and written unless they are there.

    Of any number of callers - threads, processes, machines - one makes them and the others wait: the work is claimed in
    the ledger, and taken over from one that is gone. Raises what `weights.make` raises.
    """
    key = request.key
    if lake.objects.head(key) is not None:
        return key
    ledger, work = lake.ledger(LEDGER), Partition(key=request.digest[:16], fingerprint=request.digest)
    while True:
        try:
            claim = ledger.claim(_PHASE, work, lineage())
        except Busy:
            time.sleep(_LOOK_AGAIN)
            if lake.objects.head(key) is not None:
                return key
            continue
        break
    with _Held(ledger, claim) as held:
        if lake.objects.head(key) is None:
            lake.objects.put(key, answer(request, pool).save())
        # What lies there is what is recorded, also when it was written between the look and the claim.
        data = lake.objects.get(key)
        held.done = Produced(outputs=(Output(key, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)),))
    return key


@lru_cache(maxsize=8)
def read(lake: str, key: str) -> Weights:
    """Weights by the lake's URL and their key. Kept, so that the fields of a worker share one copy; tasks carry the
    key, never the weights. Raises `NotFound`, `CorruptInput`."""
    return load_weights(Lake(lake).objects.get(key))


class _Held:
    """A claim that is renewed while the work goes on, and recorded as done or failed at its end."""

    def __init__(self, ledger: Ledger, claim: Claim) -> None:
        self.done: Produced | None = None
        self._ledger, self._claim = ledger, claim
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="weights-lease", daemon=True)

    def __enter__(self) -> "_Held":
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._over.set()
        self._thread.join()
        # Somebody may have taken over in the belief that we were gone: the same request gives the same weights.
        with contextlib.suppress(LostClaim):
            if error is not None:
                self._ledger.fail(_PHASE, self._claim, as_lake_error(error, "making weights"))
            elif self.done is not None:
                self._ledger.finish(_PHASE, self._claim, self.done)

    def _renew(self) -> None:
        while not self._over.wait(LEASE.total_seconds() / 4):
            try:
                self._claim = self._ledger.renew(_PHASE, self._claim)
            except LostClaim:
                return
            except LakeError:
                # Out of reach for now: the lease outlives three missed renewals.
                continue
