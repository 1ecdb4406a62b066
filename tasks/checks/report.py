"""The verdict as a page a person reads: one HTML file without any outside resource, light or dark."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from .verdict import Row, State, Verdict

MEANING = {
    State.ACCEPTED: "The run is published.",
    State.FLAGGED: "The run is published with a flag.",
    State.QUARANTINED: "The run is held back until somebody decides.",
    State.REJECTED: "The run is unusable and is not published.",
}

CELL, ROW, LABEL, HEAD = 14, 20, 130, 26
"""Sizes of the completeness matrix in px: cell width at most, row height, space for names, for the header."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6672; --page: #fff; --card: #f4f6f8; --line: #d5dbe1;
  --good: #23804a; --warn: #a15c00; --bad: #bd2b2b; --full: #4fa777; --part: #e3a33b; --none: #cf4444; --off: #c9d0d8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebef; --soft: #9aa5b1; --page: #14181d; --card: #1d232a;
  --line: #333c46; --good: #59c48a; --warn: #e8ab4d; --bad: #f07878; --full: #3d8a61; --part: #c08a30; --none: #c04a4a;
  --off: #3a434d; } }
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
.off { fill: var(--off); } .key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 8px; color: var(--soft); }
.key svg { display: inline-block; vertical-align: -1px; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 18px; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 4px; background: #fff; }
figcaption { font-size: 13px; margin-top: 4px; overflow-wrap: anywhere; }
summary { cursor: pointer; }
"""


@dataclass(frozen=True)
class Completeness:
    """What of a run is there: ``share`` float (variable, step), 0..1 of the expected fields, NaN for none expected.

    ``steps`` are lead times in hours.
    """

    variables: Sequence[str]
    steps: Sequence[int]
    share: np.ndarray


@dataclass(frozen=True)
class Map:
    """A picture of one variable: PNG bytes and a line of text."""

    variable: str
    caption: str
    png: bytes


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
    return (
        f'<div class="verdict {verdict.state}"><span class="state">{verdict.state}</span>'
        f'<span class="score">score {_score(verdict.score)}</span><p>{MEANING[verdict.state]}</p></div>'
    )


def _matrix(matrix: Completeness) -> str:
    """An SVG with a row for each variable and a cell for each step, and a line that says the numbers."""
    share = np.asarray(matrix.share, dtype="float64").reshape(len(matrix.variables), len(matrix.steps))
    if not share.size:
        return '<p class="soft">No field was expected.</p>'
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
            for at, count, kind, said in _runs(values)
        ]
        expected = values[np.isfinite(values)]
        mean = f"{100 * _floor(float(expected.mean())):.4g} %" if expected.size else "-"
        marks.append(f'<text x="{label + cell * len(matrix.steps) + 6:.1f}" y="{top + 14}">{mean}</text>')
    picture = (
        f'<svg viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img" '
        f'aria-label="Completeness by variable and step">{"".join(marks)}</svg>'
    )
    return f'<div class="scroll">{picture}</div>{_key()}'


def _key() -> str:
    kinds = {"full": "all fields", "part": "some are absent", "none": "none is there", "off": "none expected"}
    items = [
        f'<span><svg width="12" height="12"><rect class="{kind}" width="12" height="12"/></svg> {text}</span>'
        for kind, text in kinds.items()
    ]
    return f'<div class="key">{"".join(items)}<span>steps in hours</span></div>'


def _runs(values: np.ndarray) -> list[tuple[int, int, str, str]]:
    """Neighbouring cells of the same share as one: (first, count, class, words)."""
    out: list[tuple[int, int, str, str]] = []
    for at, value in enumerate(values.tolist()):
        kind, said = _kind(value)
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
        f'{" <strong>Fatal.</strong>" if row.fatal else ""}</td><td class="num">{row.faults}</td>'
        f'<td class="num">{_score(row.counted)}</td></tr>'
        for row in rows
    ]
    names = '<th>Variable</th><th>Check</th><th>Finding</th><th class="num">Fields</th><th class="num">Score</th>'
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _maps(maps: Sequence[Map]) -> str:
    if not maps:
        return ""
    figures = [
        f'<figure><img alt="Map of {escape(item.variable)}" src="data:image/png;base64,'
        f'{base64.b64encode(item.png).decode()}"><figcaption><strong>{escape(item.variable)}</strong> '
        f"{escape(item.caption)}</figcaption></figure>"
        for item in maps
    ]
    return f'<h2>Maps</h2><div class="maps">{"".join(figures)}</div>'
