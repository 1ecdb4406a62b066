"""The picture of a survey: how many collections have which result, and where they come from."""

import io
from collections.abc import Mapping
from typing import Any

from .reasons import COMPATIBLE

_GOOD, _BAD, _OPEN = "#2a7f62", "#b8bec9", "#d98c3f"
_CENTERS = 15


def chart(counts: Mapping[str, Any], title: str) -> bytes:
    """Bars by result and by data centre (compatible, incompatible, without verdict) as PNG."""
    from matplotlib.figure import Figure

    from .reasons import Reason

    by_result: dict[str, int] = counts["by_result"]
    centers = dict(list(counts["by_data_center"].items())[:_CENTERS])
    height = 1.6 + 0.28 * max(len(by_result), len(centers))
    figure = Figure(figsize=(12, height), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    names = list(by_result)[::-1]
    verdicts = {COMPATIBLE, *Reason}
    colours = [_GOOD if n == COMPATIBLE else _BAD if n in verdicts else _OPEN for n in names]
    bars = left.barh(names, [by_result[n] for n in names], color=colours)
    left.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    left.set_title("result", fontsize=10)
    left.margins(x=0.15)
    order = list(centers)[::-1]
    start = [0] * len(order)
    for label, colour, wanted in (
        ("compatible", _GOOD, lambda r: r == COMPATIBLE),
        ("incompatible", _BAD, lambda r: r != COMPATIBLE and r in verdicts),
        ("without verdict", _OPEN, lambda r: r not in verdicts),
    ):
        widths = [sum(n for r, n in centers[c].items() if wanted(r)) for c in order]
        if any(widths):
            right.barh(order, widths, left=start, color=colour, label=label)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    right.set_title(
        "data centre" if len(centers) == len(counts["by_data_center"]) else f"the {_CENTERS} largest data centres",
        fontsize=10,
    )
    right.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    for axis in (left, right):
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("collections", fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
