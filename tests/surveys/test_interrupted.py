"""Ten thousand collections, interrupted ten times at random: no item lost, none done twice, one verdict each."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest

from tasks.lake.lake import Lake
from tasks.lake.partition import Status
from tests.servers import archive

from .cmr_server import cmr, many

pytest.importorskip("rio_tiler", reason="needs the extra 'surveys'")

from . import granules

ROOT = Path(__file__).resolve().parents[2]
COUNT = 10_800


def result_of(concept: str) -> str:
    """What a collection comes to, by its number."""
    number = int(concept[1:].partition("-")[0])
    if number % 100 == 0:
        return "compatible"
    if number % 100 == 50:
        return "no_xy_dimensions"
    return "no_granule_found" if number % 10 == 3 else "unsupported_format"


def workers(flow: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Dask's worker processes below a flow: what its nannies started, and has children of its own or none."""
    found = []
    for process in psutil.Process(flow.pid).children(recursive=True):
        try:
            if "multiprocessing.spawn" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.fault
@pytest.mark.slow
def test_interrupted_ten_times(tmp_path: Path) -> None:
    dice = random.Random(20261121)
    granules.grid(tmp_path / "grid.nc")
    granules.swath(tmp_path / "swath.nc")
    lake = Lake(str(tmp_path / "lake"))
    collections = many(COUNT)
    expected = {c: result_of(c) for c in collections}
    for concept, reason in expected.items():
        if reason == "no_granule_found":
            collections[concept] = 0
    with archive(tmp_path) as files:
        by_result = {"compatible": f"{files.url}/grid.nc", "no_xy_dimensions": f"{files.url}/swath.nc"}

        def links(concept: str, index: int) -> list[dict[str, str]]:
            url = by_result.get(expected[concept], f"https://data.example/{concept}.{index}.zip")
            return [{"URL": url, "Type": "GET DATA"}]

        with cmr(collections, links) as catalogue:
            command = [
                sys.executable, "-W", "ignore", "-m", "flows.pipeline", "cmr-collections", "--no-prefect", "--json",
                "--lake", str(tmp_path / "lake"), "--set", f"catalogue.url={catalogue.url}",
                "--set", "catalogue.rate=100000", "--set", "catalogue.page_size=2000",
            ]  # fmt: skip

            def start(*more: str) -> subprocess.Popen[bytes]:
                return subprocess.Popen([*command, *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

            killed = 0
            # Workers of one flow, then the flow itself.
            flow = start("--cluster", "local")
            grown = _progress(lake)
            for _ in range(3):
                grown(flow)
                time.sleep(dice.uniform(0, 1))
                if found := workers(flow):
                    dice.choice(found).send_signal(signal.SIGKILL)
                    killed += 1
            for number in range(7):
                if number:
                    flow = start("--cluster", "none")
                grown(flow)
                time.sleep(dice.uniform(0, 2))
                if flow.poll() is None:
                    os.kill(flow.pid, signal.SIGKILL)
                    killed += 1
                flow.communicate()
            assert killed == 10
            last = start("--cluster", "none")
            said = orjson.loads(last.communicate()[0])
            assert (last.returncode, said["status"]) == (0, "done"), said
            listed = Counter(a.query["collection_concept_id"][0] for a in catalogue.asked if "granules" in a.path)

    rows = orjson.loads(lake.objects.get("exports/cmr-collections/first/survey.json"))["rows"]
    found = {r["collection_concept_id"]: r["incompatible_reason"] or "compatible" for r in rows}
    assert len(rows) == COUNT
    assert found == expected
    lost = 0
    for phase in ("ingest", "refine", "validate"):
        records = lake.ledger("cmr-collections").read_all(phase, "first")
        items = [r for r in records.values() if not r.partition.endswith("/settle")]
        assert len(items) == COUNT
        assert {r.status for r in items} == {Status.DONE}
        for record in items:
            # Every attempt left a trace, and none came after one that was done.
            assert record.attempt == len(record.history) + 1
            assert {a.status for a in record.history} <= {Status.LOST}
            lost += len(record.history)
    assert lost > 0, "the interruptions hit somebody at work"
    # One request for each sample, and another where an attempt was lost.
    ingested = lake.ledger("cmr-collections").read_all("ingest", "first")
    assert all(listed[c] <= ingested[f"first/{c}"].attempt for c in expected)


def _progress(lake: Lake) -> Callable[[subprocess.Popen[bytes]], None]:
    """Wait until more partitions have been claimed than when this was called last (or the flow is over)."""
    before = 0

    def count() -> int:
        base = Path(lake.objects.location.prefix, "ledger", "cmr-collections")
        return sum(len(os.listdir(base / phase / "first")) for phase in os.listdir(base)) if base.exists() else 0

    def wait(flow: subprocess.Popen[bytes]) -> None:
        nonlocal before
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and flow.poll() is None:
            if (now := count()) > before:
                before = now
                return
            time.sleep(0.05)

    return wait
