"""All checks in one pass beside merely reading the same chunks, and peak memory as the number of steps grows."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from . import validate_pass

ROOT = Path(__file__).resolve().parents[1]
GRID = (721, 1440)
ROUNDS = 3


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Number of steps -> a cube on the quarter-degree grid."""
    made = {steps: tmp_path_factory.mktemp(f"steps-{steps}") for steps in (12, 24)}
    for steps, folder in made.items():
        validate_pass.write(folder, steps, GRID, 0)
    return made


def numbers(folder: Path, name: str, what: str) -> dict[str, float]:
    """The quickest of some rounds, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.validate_pass", str(folder), name, what]
    found = []
    for _ in range(ROUNDS):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(orjson.loads(done.stdout))
    return min(found, key=lambda n: n["seconds"])


@pytest.mark.parametrize("steps", [12, 24])
@pytest.mark.parametrize("name", list(validate_pass.KINDS))
def test_one_pass(benchmark, cubes: dict[int, Path], name: str, steps: int):
    """Wall and CPU seconds of the pass as multiples of those of merely reading; memory beyond the imports'."""
    rows: list[dict[str, object]] = []

    def once() -> None:
        read, check, whole = (numbers(cubes[steps], name, what) for what in ("read", "check", "whole"))
        size = 4 * GRID[0] * GRID[1]
        rows.append(
            {
                "variable": name, "fields": int(read["fields"]), "reading (s)": round(read["seconds"], 3),
                "all checks (s)": round(check["seconds"], 3),
                "x reading": round(check["seconds"] / read["seconds"], 2),
                "CPU x reading": round(check["cpu"] / read["cpu"], 2),
                "GB/s": round(read["fields"] * size / check["seconds"] / 1e9, 2),
                "peak (maps)": round(check["peak"] / size, 1),
                "peak, loaded whole (maps)": round(whole["peak"] / size, 1),
            }
        )  # fmt: skip

    benchmark.pedantic(once, rounds=1, iterations=1)
    benchmark.extra_info.update({"table": "validate", "rows": rows})
