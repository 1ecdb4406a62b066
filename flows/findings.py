"""The verdict on a run as Prefect shows it: a page in Markdown, tables of findings and completeness, pictures."""

import base64
import contextlib
import io
from collections.abc import Mapping

import numpy as np
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from tasks.checks.verdict import Verdict
from tasks.lake.errors import NotFound
from tasks.lake.lake import Lake
from tasks.lake.run_axis import FIELD_STATUS

from .artifacts import key

_ROWS = 200


def artifacts(lake: Lake, recipe: str, scope: str, verdict: Verdict) -> None:
    """Make the artifacts of a run's verdict; keys are the same for every run, so Prefect keeps their history."""
    slug = key(recipe)
    base = f"{lake.url.split('?')[0].rstrip('/')}/verdicts/{recipe}/{scope}"
    page = markdown(verdict, recipe, scope, f"{base}/report.html")
    create_markdown_artifact(page, key=f"{slug}-verdict", description=f"{recipe} {scope}: {verdict.state}")
    rows = [
        {"variable": r.variable, "check": r.check, "score": round(r.counted, 4), "follows": str(r.action),
         "fields": r.faults, "finding": r.sentence}
        for r in sorted(verdict.table, key=lambda r: r.counted)[:_ROWS]
    ]  # fmt: skip
    create_table_artifact(rows, key=f"{slug}-findings", description=f"{recipe} {scope}: {verdict.state}")
    counts = completeness(lake, recipe, scope)
    if counts:
        table = [{"variable": name, **of} for name, of in counts.items()]
        create_table_artifact(table, key=f"{slug}-completeness", description=f"{recipe} {scope}: fields by status")
    with contextlib.suppress(NotFound):
        # The UI may not reach the lake, so the picture itself is what the artifact holds.
        picture = base64.b64encode(lake.objects.get(f"verdicts/{recipe}/{scope}/completeness.svg")).decode()
        url = f"data:image/svg+xml;base64,{picture}"
        create_image_artifact(url, key=f"{slug}-matrix", description=f"{recipe} {scope}: completeness")


def markdown(verdict: Verdict, recipe: str, scope: str, report: str) -> str:
    """The verdict as Markdown."""
    lines = [f"# {recipe} {scope}: {verdict.state}", "", f"Score {verdict.score:.3f}, so: {verdict.outcome}.", ""]
    lines += [f"- {reason}" for reason in verdict.reasons] or ["No check found a fault."]
    if verdict.quarantined:
        lines += ["", f"## Quarantine ({len(verdict.quarantined)})", ""]
        lines += [f"- `{spot.key}` {spot.check}" for spot in verdict.quarantined[:_ROWS]]
    if verdict.released:
        lines += ["", "## Released", ""]
        lines += [f"- `{w.cell}` by {w.by}: {w.why}" for w in verdict.released]
    return "\n".join([*lines, "", f"[Report]({report})"])


def completeness(lake: Lake, recipe: str, scope: str) -> Mapping[str, Mapping[str, int]]:
    """Variable -> status -> number of fields, of a run; empty when it was not validated."""
    try:
        data = lake.objects.get(f"verdicts/{recipe}/{scope}/status.npz")
    except NotFound:
        return {}
    names = {number: name for name, number in FIELD_STATUS.items()}
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        counted = {name: np.unique(found[name], return_counts=True) for name in found.files}
    return {
        variable: {names[int(n)]: int(c) for n, c in zip(numbers, counts, strict=True)}
        for variable, (numbers, counts) in counted.items()
    }
