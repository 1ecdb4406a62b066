"""The verdict as a page a person reads: one HTML file without any outside resource, light or dark."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from .check import Action
from .verdict import Outcome, Row, State, Verdict

MEANING = {
    (State.ACCEPTED, Outcome.PUBLISH): "The run is published.",
    (State.FLAGGED, Outcome.PUBLISH): "The run is published, doubtful cells with a flag.",
    (State.QUARANTINED, Outcome.PUBLISH): "The run is published without its bad cells, which are kept apart.",
    (State.FLAGGED, Outcome.HOLD): "The run has doubtful cells and is held back until somebody decides.",
    (State.QUARANTINED, Outcome.HOLD): "The run has bad cells and is held back until somebody decides.",
    (State.REJECTED, Outcome.HOLD): "The run is unusable and is held back until somebody decides.",
    (State.REJECTED, Outcome.ROLL_BACK): "The run is unusable; its branch was dropped.",
}

FOLLOWS = {
    Action.ACCEPT: "nothing",
    Action.FLAG: "flagged",
    Action.QUARANTINE: "quarantined",
    Action.REJECT: "run rejected",
}

LISTED = 50
"""Quarantined cells that the page lists."""

CELL, ROW, LABEL, HEAD = 14, 20, 130, 26
"""Sizes of the completeness matrix in px: cell width at most, row height, space for names, for the header."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6672; --page: #fff; --card: #f4f6f8; --line: #d5dbe1;
  --good: #23804a; --warn: #a15c00; --bad: #bd2b2b; --full: #4fa777; --part: #e3a33b; --none: #cf4444; --off: #c9d0d8;
  --late: #5d8fc9; --doubt: #c9c13b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebef; --soft: #9aa5b1; --page: #14181d; --card: #1d232a;
  --line: #333c46; --good: #59c48a; --warn: #e8ab4d; --bad: #f07878; --full: #3d8a61; --part: #c08a30; --none: #c04a4a;
  --off: #3a434d; --late: #4878b0; --doubt: #a59d2a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1180px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 10px; }
.soft { color: var(--soft); } .num { font-variant-numeric: tabular-nums; text-align: right; }
.verdict { display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: center; padding: 16px 20px; margin: 16px 0;
  background: var(--card); border-left: 6px solid currentColor; border-radius: 6px; }
.verdict p { margin: 0; color: var(--ink); } .state { font-size: 26px; font-weight: 650; }
.score { font-size: 20px; font-variant-numeric: tabular-nums; color: var(--ink); }
.accepted { color: var(--good); } .flagged { color: var(--warn); } .quarantined, .rejected { color: var(--bad); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; } th.num { text-align: right; }
td, th { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:nth-child(3) { min-width: 240px; overflow-wrap: anywhere; }
svg { display: block; } svg text { fill: var(--ink); font-size: 12px; }
svg .soft { fill: var(--soft); } .full { fill: var(--full); } .part { fill: var(--part); } .none { fill: var(--none); }
.off { fill: var(--off); } .late { fill: var(--late); } .bad { fill: var(--bad); } .doubt { fill: var(--doubt); }
.bar { fill: var(--soft); } code { overflow-wrap: anywhere; font-size: 13px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 8px; color: var(--soft); }
.key svg { display: inline-block; vertical-align: -1px; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 18px; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 4px; background: #fff; }
figcaption { font-size: 13px; margin-top: 4px; overflow-wrap: anywhere; }
summary { cursor: pointer; }
"""


PICTURE_STYLE = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1b1f24; } .soft { fill: #5b6672; }
.full { fill: #4fa777; } .part { fill: #e3a33b; } .none { fill: #cf4444; } .off { fill: #c9d0d8; }
.late { fill: #5d8fc9; } .bad { fill: #bd2b2b; } .doubt { fill: #c9c13b; }
"""


@dataclass(frozen=True)
class Completeness:
    """What of a run is there: ``share`` float (variable, step), 0..1 of the expected fields, NaN for none expected.

    ``steps`` are lead times in hours. ``counts`` says of each (variable, step) how many fields have which status,
    where that is known: ``{"present": 49, "corrupt": 2}``.
    """

    variables: Sequence[str]
    steps: Sequence[int]
    share: np.ndarray
    counts: Sequence[Sequence[Mapping[str, int]]] | None = None


@dataclass(frozen=True)
class Map:
    """A picture of one variable: PNG bytes and a line of text, and its values as a histogram: counts between edges."""

    variable: str
    caption: str
    png: bytes
    counts: Sequence[int] = ()
    edges: Sequence[float] = ()


def html(
    verdict: Verdict,
    matrix: Completeness,
    title: str,
    *,
    subtitle: str = "",
    maps: Sequence[Map] = (),
    attribution: str = "",
) -> str:
    """The page: verdict and score, completeness, reasons, maps, and what every check said.

    ``matrix.share`` has shape (variables, steps). Everything handed in is escaped.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft" style="margin:0">{escape(subtitle)}</p>' if subtitle else "",
        _verdict(verdict),
        "<h2>Completeness</h2>",
        _matrix(matrix),
        "<h2>Reasons</h2>",
        _reasons(verdict),
        _quarantined(verdict),
        _released(verdict),
        _maps(maps),
        _all(verdict),
        f'<p class="soft">{escape(attribution)}</p>' if attribution else "",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: {verdict.state}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _verdict(verdict: Verdict) -> str:
    meaning = MEANING[verdict.state, verdict.outcome]
    return (
        f'<div class="verdict {verdict.state}"><span class="state">{verdict.state}</span>'
        f'<span class="score">score {_score(verdict.score)}</span><p>{meaning}</p></div>'
    )


def picture(matrix: Completeness) -> bytes:
    """The completeness matrix as an SVG of its own, in light colours."""
    body = _svg(matrix) or '<svg viewBox="0 0 1 1">'
    head, _, rest = body.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{PICTURE_STYLE}</style>{rest}'.encode()


def _matrix(matrix: Completeness) -> str:
    """The matrix in a box that scrolls, and its key."""
    svg = _svg(matrix)
    return f'<div class="scroll">{svg}</div>{_key()}' if svg else '<p class="soft">No field was expected.</p>'


def _svg(matrix: Completeness) -> str:
    """An SVG with a row for each variable and a cell for each step, and a line that says the numbers."""
    share = np.asarray(matrix.share, dtype="float64").reshape(len(matrix.variables), len(matrix.steps))
    if not share.size:
        return ""
    longest = max(len(name) for name in matrix.variables)
    label = max(LABEL, min(260, 8 * longest + 12))
    cell = max(3.0, min(CELL, 930 / len(matrix.steps)))
    width, height = label + cell * len(matrix.steps) + 62, HEAD + ROW * len(matrix.variables)
    every = max(1, int(np.ceil(44 / cell)))
    marks = [
        f'<text class="soft" x="{label + cell * (i + 0.5):.1f}" y="16" text-anchor="middle">+{step}</text>'
        for i, step in enumerate(matrix.steps)
        if i % every == 0
    ]
    for row, (name, values) in enumerate(zip(matrix.variables, share, strict=True)):
        top = HEAD + ROW * row
        marks.append(f'<text x="{label - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>')
        marks += [
            f'<rect class="{kind}" x="{label + cell * at:.1f}" y="{top + 2}" width="{cell * count - 1:.1f}" '
            f'height="{ROW - 4}"><title>{escape(name)} {_steps(matrix.steps, at, count)}: {said}</title></rect>'
            for at, count, kind, said in _runs(values, matrix.counts[row] if matrix.counts is not None else None)
        ]
        expected = values[np.isfinite(values)]
        mean = f"{100 * _floor(float(expected.mean())):.4g} %" if expected.size else "-"
        marks.append(f'<text x="{label + cell * len(matrix.steps) + 6:.1f}" y="{top + 14}">{mean}</text>')
    return (
        f'<svg viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img" '
        f'aria-label="Completeness by variable and step">{"".join(marks)}</svg>'
    )


def _key() -> str:
    kinds = {
        "full": "all fields", "doubt": "some are flagged", "part": "some are absent", "none": "none is there",
        "late": "late", "bad": "some are corrupt or rejected", "off": "none expected",
    }  # fmt: skip
    items = [
        f'<span><svg width="12" height="12"><rect class="{kind}" width="12" height="12"/></svg> {text}</span>'
        for kind, text in kinds.items()
    ]
    return f'<div class="key">{"".join(items)}<span>steps in hours</span></div>'


def _runs(
    values: np.ndarray, counts: Sequence[Mapping[str, int]] | None = None
) -> list[tuple[int, int, str, str]]:  # fmt: skip
    """Neighbouring cells of the same share as one: (first, count, class, words)."""
    out: list[tuple[int, int, str, str]] = []
    for at, value in enumerate(values.tolist()):
        kind, said = _kind(value) if counts is None else _counted(value, counts[at])
        if out and out[-1][2:] == (kind, said):
            out[-1] = (out[-1][0], out[-1][1] + 1, kind, said)
        else:
            out.append((at, 1, kind, said))
    return out


def _kind(share: float) -> tuple[str, str]:
    if not np.isfinite(share):
        return "off", "no field expected"
    if share >= 1:
        return "full", "all fields"
    return ("part", f"{100 * _floor(share):.4g} % of the fields") if share > 0 else ("none", "no field")


def _counted(share: float, counts: Mapping[str, int]) -> tuple[str, str]:
    """Class and words of a cell by the statuses of its fields: the worst of them colours it."""
    kind, said = _kind(share)
    if kind == "off":
        return kind, said
    worst = next(
        (
            name
            for name, statuses in (("bad", ("corrupt", "rejected", "failed")), ("late", ("late",)))
            if any(counts.get(s) for s in statuses)
        ),
        "doubt" if kind == "full" and counts.get("flagged") else kind,
    )
    words = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items() if n)
    return worst, said if set(counts) == {"present"} else words


def _floor(share: float) -> float:
    """Rounded down to a tenth of a percent, so that what is not complete never reads 100 %."""
    return float(np.floor(share * 1000 + 1e-9) / 1000)


def _score(score: float) -> str:
    return f"{np.floor(score * 1000 + 1e-9) / 1000:.3f}"


def _steps(steps: Sequence[int], at: int, count: int) -> str:
    return f"+{steps[at]} h" if count == 1 else f"+{steps[at]} to +{steps[at + count - 1]} h"


def _reasons(verdict: Verdict) -> str:
    rows = [row for row in verdict.table if row.score < 1 or row.fatal]
    rows.sort(key=lambda row: (not row.fatal, row.counted, row.variable, row.check))
    if not verdict.table:
        return f"<p>{escape(' '.join(verdict.reasons))}</p>"
    if not rows:
        return f"<p>None: no check found a fault ({len(verdict.table)} findings).</p>"
    return _table(rows)


def _all(verdict: Verdict) -> str:
    if not verdict.table:
        return ""
    heading = f"What every check said ({len(verdict.table)})"
    return f"<h2>Checks</h2><details><summary>{heading}</summary>{_table(verdict.table)}</details>"


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"<tr><td>{escape(row.variable)}</td><td>{escape(row.check)}</td><td>{escape(row.sentence)}"
        f"{' <strong>Fatal.</strong>' if row.fatal else ''}"
        f"{f'<br><code>{escape(row.source)}</code>' if row.source else ''}</td>"
        f'<td>{FOLLOWS[row.action]}</td><td class="num">{row.faults}</td>'
        f'<td class="num">{_score(row.counted)}</td></tr>'
        for row in rows
    ]
    names = "".join(f"<th>{name}</th>" for name in ("Variable", "Check", "Finding", "What follows"))
    names += '<th class="num">Fields</th><th class="num">Score</th>'
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _quarantined(verdict: Verdict) -> str:
    if not verdict.quarantined:
        return ""
    lines = [
        f"<tr><td><code>{escape(spot.key)}</code></td><td>{escape(spot.check)}</td><td>{escape(spot.reason)}</td></tr>"
        for spot in verdict.quarantined[:LISTED]
    ]
    more = len(verdict.quarantined) - LISTED
    rest = f'<p class="soft">and {more} more</p>' if more > 0 else ""
    head = "<thead><tr><th>Cell</th><th>Check</th><th>Reason</th></tr></thead>"
    table = f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'
    return f"<h2>Quarantine ({len(verdict.quarantined)})</h2>{table}{rest}"


def _released(verdict: Verdict) -> str:
    if not verdict.released:
        return ""
    lines = [
        f"<li><code>{escape(w.cell)}</code> by {escape(w.by)}, {w.at:%Y-%m-%d %H:%M} UTC: {escape(w.why)}</li>"
        for w in verdict.released
    ]
    return f"<h2>Released</h2><ul>{''.join(lines)}</ul>"


def _histogram(item: Map) -> str:
    """The values of a variable as bars, with the ends of the axis below."""
    if not len(item.counts) or not max(item.counts):
        return ""
    width, height, top = 260, 56, max(item.counts)
    step = width / len(item.counts)
    bars = "".join(
        f'<rect class="bar" x="{step * i:.1f}" y="{height - height * n / top:.1f}" width="{max(step - 1, 1):.1f}" '
        f'height="{height * n / top:.1f}"/>'
        for i, n in enumerate(item.counts)
        if n
    )
    ends = (
        f'<text class="soft" x="0" y="{height + 13}">{item.edges[0]:.4g}</text>'
        f'<text class="soft" x="{width}" y="{height + 13}" text-anchor="end">{item.edges[-1]:.4g}</text>'
    )
    name = escape(item.variable)
    return (
        f'<svg viewBox="0 0 {width} {height + 16}" width="100%" role="img" aria-label="Histogram of {name}">'
        f"{bars}{ends}</svg>"
    )


def _maps(maps: Sequence[Map]) -> str:
    if not maps:
        return ""
    figures = [
        f"<figure>{_picture(item)}{_histogram(item)}<figcaption><strong>{escape(item.variable)}</strong> "
        f"{escape(item.caption)}</figcaption></figure>"
        for item in maps
    ]
    return f'<h2>Maps and values</h2><div class="maps">{"".join(figures)}</div>'


def _picture(item: Map) -> str:
    if not item.png:
        return ""
    source = base64.b64encode(item.png).decode()
    return f'<img alt="Map of {escape(item.variable)}" src="data:image/png;base64,{source}">'
