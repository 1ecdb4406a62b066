"""Scheduler and workers as separate hosts: each in a network namespace of its own, over TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from distributed import Client, Security

from flows.runtime import connect, open_cluster
from tests.flows.running import run

from .aws import Aws
from .conftest import SMALL, emulated
from .machines import Namespaces

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts() -> Iterator[Aws]:
    """An emulated AWS whose machines have nothing in common but a network."""
    if reason := Namespaces.lacking():
        pytest.skip(reason)
    with emulated(Namespaces()) as cloud:
        yield cloud


def addresses(dask_worker) -> list[str]:
    """Addresses of the interfaces that a worker sees."""
    import psutil

    del dask_worker
    return [a.address for found in psutil.net_if_addrs().values() for a in found if "." in a.address]


def test_workers_on_other_hosts_compute_over_tls(hosts: Aws, tmp_path: Path):
    path = tmp_path / "fargate.yaml"
    path.write_text(yaml.safe_dump(SMALL["fargate"] | {"workers": 2}))
    with open_cluster(str(path)) as place, connect(place) as client:
        seen = client.run(addresses)
        own = [m.address for m in hosts.machines]
        assert len(set(own)) == 3
        assert sorted(a for found in seen.values() for a in found if a != "127.0.0.1") == sorted(
            m.address for m in hosts.of_role("worker")
        )
        assert place.address == f"tls://{hosts.of_role('scheduler')[0].address}:8786"
        assert all(address.startswith("tls://") for address in seen)
        # Each computes, and hands what it has to the other.
        parts = [client.submit(range, 1000, workers=[w], pure=False, key=f"part-{w}") for w in seen]
        assert client.submit(lambda a, b: len(a) + len(b), *parts).result(timeout=30) == 2000
        for stranger in (None, Security.temporary()):
            with pytest.raises((OSError, TypeError, ValueError)):
                Client(place.address, security=stranger, timeout=3, set_as_default=False)
    assert hosts.wait_until_no_process(15)
    assert hosts.left() == []


def test_a_phase_runs_on_other_hosts(hosts: Aws, tmp_path: Path):
    path, lake = tmp_path / "fargate.yaml", tmp_path / "lake"
    path.write_text(yaml.safe_dump(SMALL["fargate"]))
    ran = run("ingest", "demo", "--lake", lake, "--cluster", path, "--no-prefect", "--json")
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["partitions"]["done"] == 9
    assert hosts.wait_until_no_process(15)
    assert hosts.left() == []
