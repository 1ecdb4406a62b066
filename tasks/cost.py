"""What a run of a phase took: hours of workers, bytes, and money as far as list prices tell."""

from collections.abc import Iterable
from dataclasses import dataclass

from .executor import Terms
from .lake.errors import LakeError
from .lake.lake import Lake
from .lake.partition import Outcome, Status
from .lake.prices import prices

LEDGER_WRITES = 2
"""Writes of a partition's record: claim and result."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Hours of workers (those that wait are paid for, too), bytes that partitions moved, and an estimate in USD by list
    prices: workers, and the ledger's requests to S3; None when nobody knows what the place costs."""

    worker_hours: float = 0.0
    bytes: int = 0
    usd: float | None = 0.0


def cost(terms: Terms, seconds: float, outcomes: Iterable[Outcome], lake: Lake) -> Cost:
    """The cost of a phase that took so many seconds."""
    worked = [o for o in outcomes if o.status is not Status.SKIPPED]
    hours = terms.workers * seconds / 3600
    usd = None
    if terms.price_hour is not None:
        usd = terms.price_hour * seconds / 3600
        if lake.objects.location.scheme == "s3":
            try:
                usd += LEDGER_WRITES * len(worked) / 1000 * prices().storage["STANDARD"].put_1000
            except (LakeError, KeyError):
                # A file of prices that cannot be read must not cost the report of a run that is over.
                usd = None
    return Cost(hours, sum(o.bytes for o in worked), usd)
