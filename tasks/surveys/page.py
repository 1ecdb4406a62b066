"""The summary of a survey as one HTML page that a person can read, pictures included."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .counting import result
from .probe import Row
from .reasons import COMPATIBLE, Reason

_EXAMPLES = 3
_LISTED = 30

MEANING: Mapping[str, str] = {
    COMPATIBLE: "a tile was made",
    Reason.UNSUPPORTED_FORMAT: "not TIFF, NetCDF, HDF5 or Zarr",
    Reason.CANT_OPEN_FILE: "the file cannot be opened, or is not what its name says",
    Reason.TILE_GENERATION_FAILED: "opened, but no tile could be made",
    Reason.NO_GRANULE_FOUND: "the collection has no granule",
    Reason.FAILED_TO_EXTRACT_URL: "the granule has no link to data",
    Reason.TIMEOUT: "the check took longer than it may",
    Reason.CANT_EXTRACT_VARIABLES: "the file holds no variables",
    Reason.GROUP_STRUCTURE: "variables are in groups only",
    Reason.NO_XY_DIMENSIONS: "no variable has horizontal dimensions with coordinates",
    Reason.FORBIDDEN: "access refused",
    Reason.GROUP_NOT_ALIGNED_WITH_PARENTS: "groups disagree with the groups above them",
    Reason.DECODE_ERROR: "values or times cannot be decoded",
    Reason.OUT_OF_MEMORY: "the check wanted more memory than it may have",
    Reason.CRASHED: "a library brought the check's process down",
    "never tried": "no check was begun",
    "waiting": "opened; the tile is still to be made",
    "running": "the check is under way",
    "lost": "the worker was lost during the check",
    "failed": "a failure that says nothing of the collection (network, quota)",
}
"""What each result means, in words."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2530;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}
.sub{color:#5b6675;margin-top:0}.cards{display:flex;gap:1rem;flex-wrap:wrap;margin:1.2rem 0}
.card{border:1px solid #dde2e9;border-radius:8px;padding:.6rem 1.1rem}.card b{display:block;font-size:1.5rem}
table{border-collapse:collapse;width:100%;font-size:.87rem}td,th{padding:.25rem .6rem;border-bottom:1px solid #e6eaf0;
text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-size:.85em}
td:last-child code{overflow-wrap:anywhere}td:first-child{white-space:nowrap}
img{max-width:100%}.tiles{display:flex;flex-wrap:wrap;gap:.8rem}
.tiles figure{margin:0;width:10rem;font-size:.75rem;overflow-wrap:anywhere}.tiles img{width:100%;background:#eef1f5;
border-radius:4px}
"""


def page(
    rows: Sequence[Row],
    counts: Mapping[str, Any],
    changed: Mapping[str, Any],
    picture: bytes,
    title: str,
    subtitle: str,
    tiles: Mapping[str, bytes],
) -> str:
    """The page. ``tiles`` holds some pictures by collection."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1><p class=sub>{escape(subtitle)}</p>",
        _cards(counts),
        f'<img alt="collections by result and by data centre" src="data:image/png;base64,{_base64(picture)}">',
        "<h2>Results</h2>",
        _results(rows, counts),
        "<h2>Formats</h2>",
        _breakdown("format", counts["by_format"]),
        "<h2>Data centres</h2>",
        _breakdown("data centre", counts["by_data_center"]),
        "<h2>Changes</h2>",
        _changes(changed),
    ]
    if tiles:
        parts += ["<h2>Some of the tiles</h2>", _gallery(rows, tiles)]
    return "\n".join(parts)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _cards(counts: Mapping[str, Any]) -> str:
    cells = [("collections", "collections"), ("compatible", "compatible"), ("incompatible", "incompatible")]
    if counts["without_verdict"]:
        cells.append(("without_verdict", "without a verdict"))
    return (
        f"<div class=cards>{''.join(f'<div class=card><b>{counts[k]:,}</b>{label}</div>' for k, label in cells)}</div>"
    )


def _results(rows: Sequence[Row], counts: Mapping[str, Any]) -> str:
    examples: dict[str, list[Row]] = {}
    for row in rows:
        some = examples.setdefault(result(row), [])
        if len(some) < _EXAMPLES:
            some.append(row)
    lines = []
    for name, count in counts["by_result"].items():
        shown = "<br>".join(_example(row) for row in examples[name])
        meaning = escape(MEANING.get(name, ""))
        lines.append(f"<tr><td><code>{escape(name)}</code><td class=n>{count:,}<td>{meaning}<td>{shown}")
    return f"<table><tr><th>result<th class=n>collections<th>meaning<th>such as{''.join(lines)}</table>"


def _example(row: Row) -> str:
    said = f": {escape(row.error_message[:160])}" if row.error_message else ""
    return f"<code>{escape(row.collection_concept_id)}</code>{said}"


def _breakdown(noun: str, table: Mapping[str, Mapping[str, int]]) -> str:
    lines = []
    for name, found in list(table.items())[:_LISTED]:
        total, good = sum(found.values()), found.get(COMPATIBLE, 0)
        others = ", ".join(f"{escape(k)} {v:,}" for k, v in found.items() if k != COMPATIBLE)
        lines.append(f"<tr><td>{escape(name)}<td class=n>{total:,}<td class=n>{good:,}<td>{others}")
    more = f"<p class=sub>and {len(table) - _LISTED} more in counts.json</p>" if len(table) > _LISTED else ""
    head = f"<tr><th>{noun}<th class=n>collections<th class=n>compatible<th>the others"
    return f"<table>{head}{''.join(lines)}</table>{more}"


def _changes(changed: Mapping[str, Any]) -> str:
    if changed["compared_with"] is None:
        return "<p>There is no earlier survey to compare with.</p>"
    lines = []
    for key, label in (
        ("added", "new collections"),
        ("removed", "collections that are gone"),
        ("now_compatible", "now compatible"),
        ("no_longer_compatible", "no longer compatible"),
        ("other_result", "another result"),
    ):
        found = changed[key]
        some = ", ".join(_change(c) for c in found[:10]) + (", ..." if len(found) > 10 else "")
        lines.append(f"<tr><td>{label}<td class=n>{len(found):,}<td>{some}")
    head = f"<p>Compared with survey <b>{escape(changed['compared_with'])}</b>; {changed['unchanged']:,} unchanged.</p>"
    return f"{head}<table>{''.join(lines)}</table>"


def _change(change: Any) -> str:
    if isinstance(change, str):
        return f"<code>{escape(change)}</code>"
    was = f" ({escape(' to '.join(change[k] for k in ('before', 'now') if k in change))})"
    return f"<code>{escape(change['collection'])}</code>{was}"


def _gallery(rows: Sequence[Row], tiles: Mapping[str, bytes]) -> str:
    named = {row.collection_concept_id: row for row in rows}
    figures = []
    for key, data in tiles.items():
        row = named[key]
        words = escape(f"{row.collection_short_name_and_version}, {row.variable}, tile {row.tile}")
        figures.append(
            f'<figure><img alt="" src="data:image/png;base64,{_base64(data)}"><figcaption>{words}</figcaption></figure>'
        )
    return f"<div class=tiles>{''.join(figures)}</div>"
