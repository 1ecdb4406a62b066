"""Runs the commands as a user does: `python -m flows.X` in a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import xarray as xr

from tasks.lake import open_cube

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ("--no-prefect", "--cluster", "none")


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return orjson.loads(self.out)

    def counts(self, name: str) -> dict[str, int]:
        """One count (``done``, ``skipped``...) per phase of a pipeline's JSON."""
        return {p["phase"]: p["partitions"][name] for p in self.json["phases"]}


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: this one's, warnings as errors off (they are for the tests' own process)."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONWARNINGS", "PREFECT_"))} | more


def start(flow: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `python -m flows.<flow>` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"flows.{flow}", *map(str, arguments)],
        cwd=ROOT,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(flow: str, *arguments: object, env: dict[str, str] | None = None, timeout: float = 240) -> Ran:
    """Run `python -m flows.<flow>` to its end."""
    process = start(flow, *arguments, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"flows.{flow} {arguments} did not end in {timeout} s\n{out}\n{err}") from None
    return Ran(process.returncode, out, err)


def pipeline(recipe: object, lake: object, *arguments: object, env: dict[str, str] | None = None) -> Ran:
    """The pipeline without Prefect, in threads, as JSON."""
    return run("pipeline", recipe, "--lake", lake, "--json", *PLAIN, *arguments, env=env)


def assert_same_cubes(
    lake: object, other: object, recipe: str = "demo", zones: tuple[str, ...] = ("refined", "global-4")
) -> None:
    """Every value, coordinate and attribute of the published cubes is the same in both lakes."""
    for zone in zones:
        one, two = (open_cube(str(url), recipe, zone).load() for url in (lake, other))
        xr.testing.assert_identical(one, two)
