"""What a partition may take: the share of the Dask worker that runs it, not that of the machine."""

import pytest
from distributed import Client, LocalCluster

from tasks.forecasts.worker_memory import PROCESS, machine, share

LIMIT = 3 * 10**9


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_of_a_dask_worker_has_its_share_of_the_limit(threads: int):
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=threads, processes=False, memory_limit=LIMIT, dashboard_address="127.0.0.1:0"
    )
    with cluster, Client(cluster) as client:
        found = client.submit(share, pure=False).result(timeout=30)
    assert found == LIMIT // threads - PROCESS
    assert share() != found, "outside a worker it is the machine's"


def test_a_small_worker_keeps_half_of_its_share():
    """What a process takes idle would leave nothing."""
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, memory_limit=8 * 10**8, dashboard_address="127.0.0.1:0"
    )
    with cluster, Client(cluster) as client:
        assert client.submit(share, pure=False).result(timeout=30) == 2 * 10**8


def test_without_a_limit_it_is_that_of_the_machine():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, memory_limit=0, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(share, pure=False).result(timeout=30) == share() <= machine()
