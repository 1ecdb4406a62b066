"""What Prefect's UI shows of a phase: a progress artifact while it runs, a table when it is over."""

import time
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from tasks.lake.partition import Outcome, Status
from tasks.report import Progress, Report

from .show import watching

_EVERY = 2.0


class FlowProgress(Progress):
    """Progress as a Prefect artifact and log lines, and in the terminal when the run was started there."""

    def __init__(self, phase: str, recipe: str) -> None:
        self._phase = phase
        self._recipe = recipe
        self._id: Any = None
        self._total = self._seen = 0
        self._last = 0.0
        self._terminal = watching()
        self._log = get_run_logger()

    def started(self, phase: str, total: int, total_bytes: int) -> None:
        self._total = total
        self._log.info("%s of %s: %d partition(s) to do", phase, self._recipe, total)
        if total:
            self._id = create_progress_artifact(0.0, key=f"{phase}-progress", description=f"{self._recipe} {phase}")
        self._terminal.started(phase, total, total_bytes)

    def finished(self, outcome: Outcome) -> None:
        self._seen += 1
        if outcome.status is not Status.DONE:
            self._log.warning("%s: %s", outcome.status, outcome.message or outcome.key)
        now = time.monotonic()
        if self._id is not None and (now - self._last > _EVERY or self._seen >= self._total):
            self._last = now
            update_progress_artifact(self._id, min(100.0, 100.0 * self._seen / max(1, self._total)))
        self._terminal.finished(outcome)

    def said(self, sentence: str) -> None:
        self._log.info("%s", sentence)
        self._terminal.said(sentence)

    def ended(self) -> None:
        self._terminal.ended()


def table(report: Report) -> None:
    """The report of a phase as a table artifact."""
    rows = [{"what": k, "partitions": v} for k, v in report.partitions.items()]
    problems = "".join(f"\n- {p}" for p in report.problems)
    create_table_artifact(
        table=rows,
        key=f"{report.phase}-report",
        description=f"{report.recipe} {report.phase}: {report.status} in {report.seconds:.1f} s{problems}",
    )
