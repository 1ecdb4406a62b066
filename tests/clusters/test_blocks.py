"""Clusters that are saved as Prefect blocks, and named by a run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.running import ROOT, environment, run

pytestmark = pytest.mark.slow

_SAVE = "from blocks.cluster_blocks import LocalCluster; LocalCluster(workers=1, threads=2).save('mine')"


def test_a_run_names_a_saved_cluster(tmp_path: Path):
    env = environment(PREFECT_HOME=str(tmp_path / "home"), PREFECT_SERVER_ANALYTICS_ENABLED="false")
    subprocess.run([sys.executable, "-W", "ignore", "-c", _SAVE], env=env, cwd=ROOT, check=True, timeout=120)
    arguments = ("demo", "--lake", tmp_path / "lake", "--json")
    ran = run("ingest", *arguments, "--cluster", "local-cluster/mine", env=env)
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["partitions"]["done"] == 9
    ran = run("refine", *arguments, "--cluster", "local-cluster/another", env=env)
    assert ran.code == 2, ran.out + ran.err
    assert "local-cluster/another" in ran.json["error"]
