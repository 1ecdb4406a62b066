"""What the runner has to know of a Dask scheduler: whether it is there and has workers, and its performance report."""

import time
from typing import Any

from .lake.errors import LakeError, Unreachable

PATIENCE = 300.0
"""Seconds without any worker after which a cluster is given up: long enough for instances that replace others."""

_ANSWER = 10.0


class Scheduler:
    """A scheduler as a client of it sees it."""

    def __init__(self, client: Any, patience: float = PATIENCE) -> None:
        self._client = client
        self._patience = patience
        self._seen = time.monotonic()

    def usable(self) -> str | None:
        """None, or one sentence why no further batch can run: it is gone, or has been without workers for long."""
        if self._client.status not in ("running", "connecting"):
            return f"the Dask scheduler is gone ({self._client.status})"
        now = time.monotonic()
        if self._client.status == "connecting" or self._workers() != 0:
            self._seen = now
        elif now - self._seen > self._patience:
            return f"the Dask cluster has had no worker for {now - self._seen:.0f} s"
        return None

    def _workers(self) -> int | None:
        """How many workers there are, None when the scheduler does not say: then its client will find out."""
        try:
            ask = self._client.scheduler.identity
            return int(self._client.sync(ask, n_workers=0, callback_timeout=_ANSWER)["n_workers"])
        except Exception:
            # Whatever a broken connection raises here, the client's own status tells more.
            return None

    def watch(self) -> None:
        """Have it keep what tasks do from now on, for `report`."""
        self._client.get_task_stream(start=0, stop=0)

    def report(self, since: float, title: str) -> bytes:
        """Dask's performance report (HTML, all in one file) since a time (of `time.time`). Raises ``LakeError``."""
        ask = self._client.scheduler.performance_report
        try:
            page = self._client.sync(ask, start=since, last_count=0, code=title, mode="inline", callback_timeout=60)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"the scheduler gives no performance report ({type(error).__name__})") from None
        except ImportError as error:
            raise LakeError(f"a performance report needs bokeh where the scheduler runs ({error})") from None
        return str(page).encode()
