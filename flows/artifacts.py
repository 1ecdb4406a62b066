"""What Prefect's UI shows of a run: a progress artifact while a phase runs, tables and pictures when it is over.

Keys hold recipe and phase but no run, so that Prefect keeps a history of each.
"""

import base64
import time
from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from tasks.lake.errors import LakeError
from tasks.lake.lake import Lake
from tasks.lake.partition import Outcome, Status
from tasks.report import Progress, Report

from .show import took, watching

_EVERY = 2.0
_PICTURES = 4
_PICTURE = 400 * 2**10
"""Bytes of the largest picture that goes into Prefect's database; larger ones stay in the lake."""


def key(*parts: str) -> str:
    """A key of an artifact; Prefect's know no underscore."""
    return "-".join(parts).replace("_", "-").lower()


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
            said = f"{self._recipe} {phase}: {total} partition(s)"
            self._id = create_progress_artifact(0.0, key=key(self._recipe, phase, "progress"), description=said)
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
        key=key(report.recipe, report.phase, "report"),
        description=f"{_which(report)} {report.phase}: {report.status} in {report.seconds:.1f} s, "
        f"{took([report])}{problems}",
    )


def pictures(lake: Lake, report: Report) -> None:
    """The first pictures that a phase made, as artifacts that hold the bytes: the UI may not reach the lake."""
    # (Those of a verdict are made where the verdict is.)
    ours = () if report.phase == "validate" else report.outputs
    made = [uri for uri in ours if uri.endswith((".png", ".svg"))]
    for number, uri in enumerate(made[:_PICTURES], 1):
        try:
            meta = lake.objects.head(uri)
            if meta is None or meta.size > _PICTURE:
                continue
            data = base64.b64encode(lake.objects.get(uri)).decode()
        except LakeError:
            # Exporters may write elsewhere than into the lake, too.
            continue
        kind = "svg+xml" if uri.endswith(".svg") else "png"
        create_image_artifact(
            f"data:image/{kind};base64,{data}", key=key(report.recipe, report.phase, "picture", str(number)),
            description=uri,
        )  # fmt: skip


def summary(recipe: str, which: str, reports: Sequence[dict[str, Any]]) -> None:
    """What a pipeline did, as a page: a line a phase, and where the results are."""
    lines = [f"# {recipe} {which}", "", "| phase | status | done | skipped | seconds |", "|---|---|---:|---:|---:|"]
    for report in reports:
        counts = report["partitions"]
        row = (report["phase"], report["status"], counts["done"], counts["skipped"], round(report["seconds"], 1))
        lines.append("| " + " | ".join(map(str, row)) + " |")
    outputs = [
        uri for report in reports if report["phase"] in ("validate", "regrid", "export") for uri in report["outputs"]
    ]
    lines += ["", *(f"- `{uri}`" for uri in dict.fromkeys(outputs))]
    create_markdown_artifact("\n".join(lines), key=key(recipe, "pipeline"), description=f"{recipe} {which}")


def _which(report: Report) -> str:
    return f"{report.recipe} {', '.join(report.scopes[:3])}{', ...' if len(report.scopes) > 3 else ''}".strip()
