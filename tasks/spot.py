"""Workers whose machine is about to go: no further partition is begun there, what runs may end, the rest is given back.

EC2 says so two minutes ahead in its instance metadata, ECS (and Docker) with SIGTERM to the first process of the
container, which is Dask's nanny. Sources: EC2 user guide, "Spot Instance interruption notices"; ECS developer guide,
"Fargate Spot termination notices".
"""

import asyncio
import contextlib
import os
import signal
import time

import httpx
from distributed import Client, Nanny, NannyPlugin, Worker, WorkerPlugin
from distributed.core import Status
from distributed.protocol.pickle import dumps

from . import leases

GRACE = 90.0
"""Seconds that work which has begun is given to end."""

ENDPOINT = "http://169.254.169.254"
"""Where an EC2 instance finds its metadata, unless ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` says otherwise."""

_LOOK = 5.0
_POLL = 0.2
_TIMEOUT = 2.0
_MORE = 10.0
"""Seconds more until a worker that says nothing is ended."""

_TOKEN = 6 * 3600


def register(client: Client, grace: float = GRACE) -> None:
    """Have all workers of a cluster, also those that join later, leave in good order."""
    client.register_plugin(SpotNotice(grace))
    client.register_plugin(Terminated(grace))


class SpotNotice(WorkerPlugin):
    """Looks every few seconds whether the instance is about to be taken away; on EC2 only."""

    name = "weatherlake-spot"
    idempotent = True

    def __init__(self, grace: float = GRACE, look: float = _LOOK) -> None:
        self._grace = grace
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._leaving = False

    def setup(self, worker: Worker) -> None:
        """Begin to look."""
        self._task = asyncio.ensure_future(self._watch(worker))

    def teardown(self, worker: Worker) -> None:
        """Stop looking."""
        del worker
        # Once it leaves, this is part of the leaving itself.
        if self._task is not None and not self._leaving:
            self._task.cancel()

    async def _watch(self, worker: Worker) -> None:
        base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINT
        async with httpx.AsyncClient(base_url=base.rstrip("/"), timeout=_TIMEOUT, trust_env=False) as client:
            if not await _metadata(client):
                return
            while not (notice := await _notice(client)):
                await asyncio.sleep(self._look)
        self._leaving = True
        await drain(worker, f"the instance is about to go ({notice})", self._grace)
        await worker.close_gracefully(restart=False, reason="spot interruption")


class Terminated(NannyPlugin):
    """Has a nanny that is told to end (SIGTERM) let its worker finish what it has begun."""

    name = "weatherlake-terminated"
    idempotent = True

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._task: asyncio.Task[None] | None = None

    def setup(self, nanny: Nanny) -> None:
        """Take over the signal, where the nanny is the whole process."""
        # In a local cluster the nannies live in a thread of the client, whose signals are its own.
        with contextlib.suppress(ValueError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._told, nanny)

    def _told(self, nanny: Nanny) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._leave(nanny))

    async def _leave(self, nanny: Nanny) -> None:
        nanny.close_gracefully(reason="told to end")
        with contextlib.suppress(Exception):
            # A worker that does not answer any more cannot be drained; it is ended all the same.
            async with nanny.rpc(nanny.worker_address) as worker:
                asked = worker.run(function=dumps(_leave), args=dumps((self._grace,)), wait=True)
                await asyncio.wait_for(asked, self._grace + _MORE)
        await nanny.close(reason="told to end")


async def _leave(grace: float, dask_worker: Worker) -> None:
    """Runs in the worker of a nanny that was told to end."""
    await drain(dask_worker, "it was told to end", grace)


async def drain(worker: Worker, reason: str, grace: float = GRACE) -> None:
    """Begin nothing more in this worker, wait for what runs, and give back what does not end in time."""
    leases.leave()
    worker.status = Status.paused
    end = time.monotonic() + grace
    while time.monotonic() < end and not (leases.idle() and not worker.state.executing_count):
        await asyncio.sleep(_POLL)
    await asyncio.to_thread(leases.give_back, f"its worker left: {reason}")


async def _metadata(client: httpx.AsyncClient) -> bool:
    """Whether this is an EC2 instance with metadata."""
    try:
        return bool(await _token(client))
    except httpx.HTTPError:
        return False


async def _token(client: httpx.AsyncClient) -> str:
    lasting = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN)}
    return (await client.put("/latest/api/token", headers=lasting)).raise_for_status().text


async def _notice(client: httpx.AsyncClient) -> str | None:
    """What the instance is told of its end, None while there is none. Never raises: the next look may succeed."""
    try:
        known = {"X-aws-ec2-metadata-token": await _token(client)}
        answer = await client.get("/latest/meta-data/spot/instance-action", headers=known)
    except httpx.HTTPError:
        return None
    return answer.text.strip() if answer.status_code == httpx.codes.OK else None
