"""A reader beside a flow that publishes and rolls back and is killed at random points."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks.lake import open_cube
from tasks.lake.errors import UsageError
from tasks.lake.run_axis import FIELD_STATUS

from ..forecasts.small_archive import RUN, STEPS, Run
from .publishing import place
from .running import ROOT, environment

CYCLES = 20


class Reader(threading.Thread):
    """Polls ``main`` and looks at every run that it shows: whole, accepted, with the values of its source."""

    def __init__(self, lake: Path, expected: dict[np.datetime64, np.ndarray]) -> None:
        super().__init__(name="reader")
        self.lake = lake
        self.expected = expected
        self.over = threading.Event()
        self.polls = 0
        self.seen: set[np.datetime64] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            self.look()
            time.sleep(0.1)

    def look(self) -> None:
        """One poll: all runs by their coordinates, those not seen before and the newest by their values."""
        try:
            cube = open_cube(str(self.lake), "small")
        except UsageError:
            return
        self.polls += 1
        times = cube["init_time"].values
        for number, init in enumerate(times):
            if init not in self.expected:
                self.wrong.append(f"a rejected run is there: {init}")
                continue
            if init in self.seen and number < len(times) - 1:
                continue
            self.seen.add(init)
            one = cube.isel(init_time=number).load()
            for name in ("t2m", "tp"):
                if not np.isfinite(one[name].values).all():
                    self.wrong.append(f"{init} lacks values of {name}")
                if not (one[f"{name}_status"].values == FIELD_STATUS["present"]).all():
                    self.wrong.append(f"{init} has another status of {name}")
            if not np.allclose(one["t2m"].values, self.expected[init], atol=0.01):
                self.wrong.append(f"{init} has other values")
            if one["ingested_forecast_length"].values != np.timedelta64(STEPS[-1], "h"):
                self.wrong.append(f"{init} is not whole by its coordinate")


def runs(archive: Path) -> dict[np.datetime64, np.ndarray]:
    """Twenty runs, every other one with its temperature in Celsius; the values of the good ones by init_time."""
    expected = {}
    for number in range(CYCLES):
        init = RUN + number * timedelta(hours=12)
        run = Run(init, seed=number)
        values = np.array([[run[f"t2m/{step:03d}-m{m:02d}"].values for m in (0, 1)] for step in STEPS])
        if number % 2:
            for message in run.of("t2m"):
                message.values = message.values - 273.15
        else:
            expected[np.datetime64(init.replace(tzinfo=None), "ns")] = values
        run.write(archive)
    return expected


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_a_reader_never_sees_a_half_run_nor_a_rejected_one(tmp_path: Path) -> None:
    lake, archive = tmp_path / "lake", tmp_path / "archive"
    expected = runs(archive)
    reader = Reader(lake, expected)
    reader.start()
    kills = done = 0
    try:
        while done < CYCLES:
            command = [sys.executable, "-m", "tests.flows.publishing", str(lake), str(archive), str(CYCLES)]
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            # Some runs further than before, and then at any moment.
            for _ in range(done + random.randint(1, 4)):
                line = process.stdout.readline()
                done = max(done, int(line) + 1) if line else done
            if done < CYCLES:
                time.sleep(random.uniform(0, 1.2))
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            _, err = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), err
    finally:
        reader.over.set()
        reader.join()
    reader.look()
    assert reader.wrong == []
    assert reader.seen == set(expected), "every good run was seen in the end"
    assert kills >= 4
    assert reader.polls > CYCLES
    held = place(lake, archive).lake.ledger("small").read_all("validate")
    rejected = [r for k, r in held.items() if k.endswith("/settle") and r.held]
    assert len(rejected) == CYCLES // 2
    assert all("rolled back, rejected" in str(r.held) for r in rejected)
