"""Killed anywhere and started again, a conversion gives the very same bytes; so it does on workers that die."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr

from tests.flows.running import ROOT, environment, start
from tests.flows.running import run as command

from . import eopf
from .converting import RECIPE, SMALL, files, store

ARGUMENTS = ["--no-prefect", *(f"--set={key}={value}" for key, value in SMALL.items())]


def tar(lake: Path) -> bytes:
    (found,) = lake.glob(f"exports/{RECIPE}/*/*.tar")
    return found.read_bytes()


@pytest.mark.fault
def test_thirty_kills(product: eopf.Product, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenes.killing", str(product.item), str(tmp_path), "30"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lakes = sorted(tmp_path.glob("killed-*"))
    assert len(lakes) == int(done.stdout)
    expected = files(store(tmp_path / "undisturbed"))
    for lake in lakes:
        assert files(store(lake)) == expected
        assert tar(lake) == tar(tmp_path / "undisturbed")
    root = zarr.open_group(store(lakes[-1]), mode="r")
    for group in (*eopf.REFLECTANCE, eopf.SCL):
        for name in (n for n in root[f"{group}/0"] if n not in ("x", "y", "spatial_ref")):
            np.testing.assert_array_equal(root[f"{group}/0/{name}"][:] == 0, product.raw(f"{group}/{name}") == 0)


@pytest.mark.slow
def test_two_dask_workers_give_the_same(product: eopf.Product, converted: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = command(
        "pipeline", RECIPE, "--item", product.item, "--lake", tmp_path / "lake", "--report-path", report, *ARGUMENTS
    )
    assert done.code == 0, done.err
    assert files(store(tmp_path / "lake")) == files(store(converted))
    assert "Dask Performance Report" in report.read_text()


@pytest.mark.fault
def test_a_worker_that_is_killed(product: eopf.Product, converted: Path, tmp_path: Path) -> None:
    process = start("pipeline", RECIPE, "--item", product.item, "--lake", tmp_path / "lake", *ARGUMENTS)
    try:
        # The first shard is there: the workers are at it.
        while process.poll() is None and not list((tmp_path / "lake").glob(f"ledger/{RECIPE}/refine/**/*.json")):
            time.sleep(0.01)
        workers = [
            p for p in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())
        ]
        os.kill(random.Random(3).choice(workers).pid, signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, out + err
    assert files(store(tmp_path / "lake")) == files(store(converted))
