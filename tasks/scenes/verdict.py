"""The verdict on a scene, on the scale of runs: accepted, flagged, quarantined or rejected."""

import html
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from msgspec import Struct

from .recipe import Checks


class State(StrEnum):
    """What becomes of a scene. Accepted and flagged scenes go on, the others do not."""

    ACCEPTED = "accepted"
    FLAGGED = "flagged"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


class Finding(Struct, frozen=True):
    """What one check says of one band: a score (1 is faultless) and a sentence; ``fatal``: it cannot be used."""

    check: str
    band: str
    score: float
    sentence: str
    fatal: bool = False

    @staticmethod
    def to_bytes(findings: Sequence["Finding"]) -> bytes:
        """Findings as JSON."""
        return msgspec.json.format(msgspec.json.encode(list(findings)), indent=1)

    @staticmethod
    def from_bytes(data: bytes) -> list["Finding"]:
        """Findings from `to_bytes`."""
        return msgspec.json.decode(data, type=list[Finding])


class Verdict(Struct, frozen=True):
    """State, score (that of the worst finding), the reasons (worst first) and every finding."""

    scene: str
    state: State
    score: float
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]

    def to_bytes(self) -> bytes:
        """The verdict as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def judge(scene: str, findings: Sequence[Finding], scale: Checks) -> Verdict:
    """Any fatal finding: rejected. Else by the smallest score: accepted, flagged, or quarantined below both limits.

    Nothing found at all is quarantined: nothing was checked.
    """
    # Every band of a level says the same of its coordinates.
    rows = tuple(sorted(set(findings), key=lambda f: (not f.fatal, f.score, f.band, f.check)))
    score = min((f.score for f in rows), default=0.0)
    reasons = tuple(f"{f.check} of /{f.band}: {f.sentence}" for f in rows if f.fatal or f.score < 1)
    if any(f.fatal for f in rows):
        state = State.REJECTED
    elif score >= scale.accept_above and rows:
        state = State.ACCEPTED
    else:
        state = State.FLAGGED if score >= scale.flag_above and rows else State.QUARANTINED
    return Verdict(scene, state, score, reasons or (() if rows else ("nothing was checked",)), rows)


def page(verdict: Verdict) -> bytes:
    """The verdict as an HTML page for people."""
    rows = "\n".join(
        f"<tr class={'bad' if f.score < 1 else 'good'}><td>{f.check}<td>/{html.escape(f.band)}<td>{f.score:.2f}"
        f"<td>{html.escape(f.sentence)}"
        for f in verdict.findings
    )
    reasons = "".join(f"<li>{html.escape(r)}" for r in verdict.reasons)
    return f"""<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(verdict.scene)}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd}}
.bad td{{background:#fbe9e7}}h1{{font-size:1.2rem;overflow-wrap:anywhere}}</style>
<h1>{html.escape(verdict.scene)}</h1>
<p><strong>{verdict.state}</strong>, score {verdict.score:.2f}</p><ul>{reasons}</ul>
<table><tr><th>check<th>band<th>score<th>what was found
{rows}
</table></html>
""".encode()
