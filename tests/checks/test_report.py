"""The page: whole, self-contained, escaped, and right in its numbers."""

import base64
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from tasks.checks.acceptance import CheckConfig
from tasks.checks.check import Cell, Finding
from tasks.checks.report import Completeness, Map, html, picture
from tasks.checks.verdict import Waiver, judge

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
CELLS = (Cell(6, 3),)
VOID = {"meta", "img", "rect", "br"}


class Page(HTMLParser):
    """Reads a page: elements with their attributes, text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID or (tag == "rect" and not (self.get_starttag_text() or "").endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {k.rstrip("_"): v for k, v in attributes.items()}
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def findings() -> list[Finding]:
    return [
        Finding("range", "10u", 0.889, "10u at +6 h, member 3: 14 values outside -120..120 m s-1, largest 400.", CELLS),
        Finding("present", "2t", 1.0, "2t: all 170 fields are there."),
    ]  # fmt: skip


def matrix() -> Completeness:
    share = np.ones((3, 5))
    share[0, 2], share[0, 3], share[2, 0], share[1, 4] = 0.99999, 0.0, np.nan, 0.5
    return Completeness(("2t", "10u", "mx2t3"), (0, 3, 6, 9, 12), share)


def test_the_page_says_verdict_reasons_and_completeness() -> None:
    page = Page(html(judge(findings(), CheckConfig()), matrix(), "ECMWF ensemble, 2026-11-20T00", subtitle="85 steps"))
    assert page.open == []
    assert "The run is published without its bad cells" in page.text
    assert "score 0.889" in page.text
    assert page.text.count("14 values outside -120..120 m s-1, largest 400.") == 3
    assert "2t +6 h: 99.9 % of the fields" in page.text, "what lacks a field never reads 100 %"
    assert "mx2t3 +0 h: no field expected" in page.text
    cells = [a for a in page.all("rect") if a["width"] != "12"]
    assert sorted(a["class"] for a in cells) == ["full", "full", "full", "full", "none", "off", "part", "part"]


def test_the_matrix_tells_late_from_missing_from_corrupt() -> None:
    counts = [[{"present": 4}, {"present": 3, "late": 1}, {"corrupt": 1, "present": 3}, {"flagged": 4}, {"missing": 4}]]
    share = np.array([[1.0, 0.75, 0.75, 1.0, 0.0]])
    matrix = Completeness(("2t",), (0, 3, 6, 9, 12), share, counts)
    page = Page(html(judge(findings(), CheckConfig()), matrix, "t"))
    cells = [a for a in page.all("rect") if a["class"] != "bar" and a["width"] != "12"]
    assert [a["class"] for a in cells] == ["full", "late", "bad", "doubt", "none"]
    for words in ("2t +3 h: 3 present, 1 late", "2t +6 h: 1 corrupt, 3 present", "2t +9 h: 4 flagged"):
        assert words in page.text
    svg = picture(matrix).decode()
    assert svg.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert Page(svg).open == []


def test_values_are_drawn_as_a_histogram() -> None:
    item = Map("2t", "+6 h", PNG, (1, 0, 4), (250.0, 260.0, 270.0, 280.5))
    page = Page(html(judge(findings(), CheckConfig()), matrix(), "t", maps=[item]))
    assert len(page.all("rect", class_="bar")) == 2, "no bar for nothing"
    assert "280.5" in page.text


def test_quarantined_and_released_cells_are_listed() -> None:
    waiver = Waiver(cell="10u/006-m03", by="Ada <a@b>", why="a real front", at=datetime(2026, 11, 20, tzinfo=UTC))
    text = html(judge(findings(), CheckConfig()), matrix(), "t")
    assert "<code>10u/006-m03</code>" in text
    released = html(judge(findings(), CheckConfig(), waivers=[waiver]), matrix(), "t")
    assert "<h2>Quarantine" not in released
    assert "by Ada &lt;a@b&gt;, 2026-11-20 00:00 UTC: a real front" in released


def test_the_page_needs_nothing_from_outside() -> None:
    text = html(judge(findings(), CheckConfig()), matrix(), "t", maps=[Map("2t", "+6 h", PNG)])
    page = Page(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert "http" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    (image,) = page.all("img")
    assert image["src"] is not None
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PNG


def test_everything_is_escaped() -> None:
    evil = '<script>alert("x")</script>'
    found = [Finding(evil, evil, 0.5, f"{evil}.")]
    share = Completeness((evil,), (0,), np.ones((1, 1)))
    text = html(judge(found, CheckConfig()), share, evil, subtitle=evil, maps=[Map(evil, evil, PNG)], attribution=evil)
    assert "<script" not in text
    assert Page(text).open == []


@pytest.mark.parametrize("steps", [0, 1, 85, 385])
def test_any_number_of_steps(steps: int) -> None:
    share = Completeness(("2t",), tuple(range(steps)), np.ones((1, steps)))
    page = Page(html(judge(findings(), CheckConfig()), share, "t"))
    assert page.open == []
    assert len([a for a in page.all("rect") if a["width"] != "12"]) == min(steps, 1)


def test_a_run_without_findings_or_faults() -> None:
    assert "Nothing was checked." in Page(html(judge([], CheckConfig()), matrix(), "t")).text
    fine = judge([Finding("range", "2t", 1.0, "2t: fine.")], CheckConfig())
    assert "None: no check found a fault (1 findings)." in Page(html(fine, matrix(), "t")).text
