"""Run the benchmarks and write their tables into docs/performance.md: ``python -m benchmarks``."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- phases: begin -->", "<!-- phases: end -->"


def table(results: list[dict[str, Any]]) -> str:
    """Markdown of the phases: fields a second, MB a second, peak memory."""
    lines = [
        "| run | phase | partitions | seconds | CPU s | fields/s | MB/s in | peak memory (MB) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for n in results:
        fields = f"{n['fields'] / n['seconds']:.0f}" if n["fields"] else ""
        rate = f"{n['bytes'] / n['seconds'] / 1e6:.1f}" if n["bytes"] else ""
        lines.append(
            f"| {n['recipe']} | {n['phase']} | {n['partitions']} | {n['seconds']:.2f} | {n['cpu']:.2f} "
            f"| {fields} | {rate} | {n['peak'] / 1e6:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run, then replace what stands between the markers of the page."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = [sys.executable, "-m", "pytest", "benchmarks", "-q", f"--benchmark-json={out}"]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
        results = [b["extra_info"] for b in orjson.loads(out.read_bytes())["benchmarks"] if "phase" in b["extra_info"]]
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
