"""What a run of a phase says: progress while it lasts, a report when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .cost import Cost
from .lake.errors import ExitCode
from .lake.partition import Outcome


@dataclass(frozen=True)
class Report:
    """What became of a phase. ``outputs`` are keys of the lake, whose URL ``lake`` is; ``notes`` what a person should
    know though nothing went wrong. ``performance`` is the key of Dask's performance report, where one was asked for."""

    recipe: str
    phase: str
    status: str
    exit_code: ExitCode
    partitions: Mapping[str, int]
    outputs: tuple[str, ...]
    seconds: float
    problems: tuple[str, ...] = ()
    lake: str = ""
    scopes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    performance: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The report as the JSON object that ``--json`` prints; outputs are absolute URIs."""
        base = self.lake.split("?")[0].rstrip("/")
        usd = self.cost.usd
        return {
            "recipe": self.recipe,
            "phase": self.phase,
            "status": self.status,
            "exit_code": int(self.exit_code),
            "partitions": dict(self.partitions),
            "outputs": [f"{base}/{key}" for key in self.outputs],
            "seconds": round(self.seconds, 3),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "worker_hours": round(self.cost.worker_hours, 6),
            "bytes": self.cost.bytes,
            "usd": None if usd is None else round(usd, 6),
            "performance_report": f"{base}/{self.performance}" if self.performance else None,
        }


class Progress:
    """Told what happens while a phase runs; this one keeps quiet."""

    def started(self, phase: str, total: int, total_bytes: int) -> None:
        """Batches are about to be handed out."""

    def finished(self, outcome: Outcome) -> None:
        """A partition came to an end in this attempt."""

    def said(self, sentence: str) -> None:
        """Something a person should know now."""

    def ended(self) -> None:
        """The phase is over."""
