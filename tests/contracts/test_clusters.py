"""What every cluster keeps to, whatever it is made of: a new one needs settings here, and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from blocks.clusters.aws.tags import as_dict
from blocks.clusters.protocol import Cluster, Place, build, clusters, from_file
from flows.runtime import connect, executor, open_cluster
from tasks.lake.errors import LakeError
from tests.clusters.aws import Aws
from tests.clusters.conftest import SMALL, emulated

ON_AWS = ("ec2", "ecs", "fargate")
SLOW = ("ec2", "ecs")
SETTINGS: dict[str, dict[str, Any]] = {
    **SMALL,
    "ecs": {k: v for k, v in SMALL["fargate"].items() if k != "type"} | {"type": "ecs", "cluster": "house"},
    "local": {"type": "local", "workers": 1, "tls": True},
    "existing": {"type": "existing"},
}
KINDS = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in clusters]


class Boom(Exception):
    """What goes wrong in the block."""


@contextmanager
def scheduler() -> Iterator[str]:
    """A scheduler with a worker that somebody else runs."""
    code = (
        "from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=1, threads_per_worker=2, host='127.0.0.1', dashboard_address=':0') as c:\n"
        "        print(c.scheduler_address, flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).resolve().parents[2],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n", timeout=30)


@contextmanager
def surroundings(kind: str) -> Iterator[tuple[dict[str, Any], Aws | None]]:
    """Settings of a cluster, and what they need to work."""
    if kind == "existing":
        with scheduler() as address:
            yield SETTINGS[kind] | {"address": address}, None
    elif kind in ON_AWS:
        with emulated() as aws:
            if kind == "ecs":
                aws.ecs_host("house")
            yield SETTINGS[kind], aws
    else:
        yield SETTINGS[kind], None


def test_every_cluster_is_covered():
    assert set(SETTINGS) == set(clusters)


def use(kind: str, place: Place, aws: Aws | None) -> NoReturn:
    """Everything that is done with an open cluster; raises `Boom` at the end."""
    assert place.address is not None
    assert place.address.startswith("tls://" if place.security else "tcp://")
    assert place.slots >= place.workers >= 1
    assert (place.security is None) == (kind == "existing")
    assert "key" not in repr(place).lower(), "the keys are in no log"
    with connect(place) as client:
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        assert client.dashboard_link == place.dashboard
    with open_cluster(place.address) as again:
        assert again is place, "phases are given the address, and use the same cluster"
    with executor(place, prefect=False) as running:
        assert running.usable() is None
    if aws is not None:
        calls = [c["tags"] for c in aws.run_task] + [
            i["TagSpecifications"][0]["Tags"] for i in aws.run_instances if i["TagSpecifications"]
        ]
        for tags in calls[-2:]:
            assert set(as_dict(tags)) == {"weatherlake:cluster", "weatherlake:flow-run", "weatherlake:expires"}
    raise Boom


@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_to_a_place_and_leaves_nothing(kind: str, tmp_path: Path):
    path = tmp_path / "cluster.yaml"
    with surroundings(kind) as (settings, aws):
        path.write_text(yaml.safe_dump(settings))
        from_file(path).check()
        assert aws is None or aws.machines == [], "a look starts nothing"
        with pytest.raises(Boom), open_cluster(str(path)) as place:
            use(kind, place, aws)
        if aws is not None:
            assert aws.wait_until_no_process(15)
            assert aws.left() == []
        if kind == "existing":
            with open_cluster(settings["address"]), open_cluster(settings["address"]):
                pass


@pytest.mark.slow
@pytest.mark.parametrize("role", ["scheduler", "worker"])
@pytest.mark.parametrize("kind", ON_AWS)
def test_a_start_that_fails_leaves_nothing(kind: str, role: str):
    with surroundings(kind) as (settings, aws):
        assert aws is not None
        aws.broken = role
        cluster: Cluster = build(settings | {"start_minutes": 0.2}, kind)
        with pytest.raises(LakeError), cluster.opened("run"):
            pytest.fail("it did not open")
        assert aws.machines
        assert aws.wait_until_no_process(15)
        assert aws.left() == []
