"""Run the benchmarks and write their tables into docs/performance.md: ``python -m benchmarks [TOPIC ...]``.

A benchmark names its table (``benchmark.extra_info["table"]``) and hands over rows, column -> value
(``benchmark.extra_info["rows"]``); the table stands between two markers of the page with its name.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"


def topics() -> list[str]:
    """Names of the benchmarks: ``test_<topic>.py`` in this folder."""
    return sorted(p.stem.removeprefix("test_") for p in Path(__file__).parent.glob("test_*.py"))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table; numbers stand to the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numbers = {c for c in columns if all(isinstance(row.get(c, 0), int | float) for row in rows)}
    lines = [
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---:' if c in numbers else '---' for c in columns)} |",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(row.get(c, '')) for c in columns)} |" for row in rows)])


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def replaced(page: str, name: str, text: str) -> str:
    """The page with another table between the markers of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{PAGE.name} has no place for the table {name!r} ({begin} ... {end})")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run, then replace the tables of the page that were measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("topic", nargs="*", help=f"all when none is named: {', '.join(topics())}")
    chosen = parser.parse_args(argv).topic or topics()
    if unknown := sorted(set(chosen) - set(topics())):
        parser.error(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(topics())}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        files = [f"benchmarks/test_{topic}.py" for topic in chosen]
        alone = ("-q", "-n0", "--benchmark-enable", "--timeout=0")
        command = [sys.executable, "-m", "pytest", *files, *alone, f"--benchmark-json={out}"]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
        results = [b["extra_info"] for b in orjson.loads(out.read_bytes())["benchmarks"]]
    tables: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if "table" in result:
            tables.setdefault(result["table"], []).extend(result["rows"])
    page = PAGE.read_text()
    for name, rows in tables.items():
        page = replaced(page, name, table(rows))
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
