"""Leases that are over: whoever held them is gone, and the ledger should say so."""

from typing import Any

from ..lake.ledger import lease_over, utcnow
from ..lake.partition import Status
from ..lake.phase import Context
from ..lake.recipe import PHASES
from .chore import Chore, counted

_WHY = "its lease ran out and nobody came back for it"


def leases(context: Context[Any], *, dry_run: bool) -> Chore:
    """Record as lost what is claimed by somebody whose lease is over, so that everybody sees it is free."""
    ledger, now = context.ledger, utcnow()
    rows = []
    for phase in PHASES:
        for key, record in ledger.read_all(phase).items():
            if record.status is not Status.RUNNING or not lease_over(record, now):
                continue
            if not dry_run:
                # Taken up by somebody else since: then it is left alone.
                after = ledger.mark_lost(phase, key, _WHY, flow_run_id=record.lineage.flow_run_id)
                if after is None or after.status is not Status.LOST:
                    continue
            rows.append((phase, key, record.started.isoformat(timespec="seconds"), record.lineage.host))
    verb = "would be freed" if dry_run else "freed"
    return Chore(
        "leases", f"{counted(len(rows), 'expired lease')} {verb}", ("phase", "partition", "started", "host"),
        tuple(rows), facts={"freed": len(rows)},
    )  # fmt: skip
