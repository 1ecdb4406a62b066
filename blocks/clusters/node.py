"""A scheduler or a worker on a machine of its own: what containers and instances run.

``python -m blocks.clusters.node scheduler ...`` and ``... worker ADDRESS ...`` do what Dask's own commands do, and what
those cannot: keys come from the parameter store, read with the machine's role, so that neither user data nor
environment holds any; a scheduler ends itself when no client is there, and everything ends after its lifetime.
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
import orjson

PORT = 8786
DASHBOARD_PORT = 8787

_WATCH = 1.0
_GRACE = 60.0
"""Seconds beyond the lifetime after which a process that does not end is ended."""

_DEATH_TIMEOUT = 60
_METADATA_TIMEOUT = 5.0


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, written by `aws.commands`."""
    parser = argparse.ArgumentParser(prog="python -m blocks.clusters.node", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    scheduler = roles.add_parser("scheduler")
    scheduler.add_argument("--idle", type=float, required=True, help="seconds without work after which it ends")
    scheduler.add_argument("--alone", type=float, required=True, help="seconds without a client after which it ends")
    scheduler.add_argument("--start", type=float, required=True, help="seconds that the start may take")
    worker = roles.add_parser("worker")
    worker.add_argument("address", help="of the scheduler")
    worker.add_argument("--name", required=True)
    worker.add_argument("--threads", type=int, required=True)
    worker.add_argument("--memory", required=True, help="memory limit, such as 7372MiB")
    for made in (scheduler, worker):
        made.add_argument("--lifetime", type=float, required=True, help="seconds after which it ends, whatever it does")
        made.add_argument("--on", choices=["ecs", "ec2"], help="whom to ask for the own address; nobody by default")
        made.add_argument("--tls", metavar="PARAMETER", help="parameter of the store that holds key and certificate")
        made.add_argument("--region", help="of the parameter store")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to end, or until the time is over."""
    given = arguments(argv)
    _end_at_last(given.lifetime + _GRACE)
    asyncio.run(_serve(given))
    return 0


async def _serve(given: argparse.Namespace) -> None:
    import dask

    from .local import ALLOWED_FAILURES

    settings = {"distributed.scheduler.allowed-failures": ALLOWED_FAILURES, "distributed.comm.timeouts.connect": "30s"}
    security = keys_from_store(given.tls, given.region) if given.tls else None
    host = own_address(given.on) if given.on else None
    with dask.config.set(settings):
        run = _scheduler if given.role == "scheduler" else _worker
        await run(given, security, host)


async def _scheduler(given: argparse.Namespace, security: Any, host: str | None) -> None:
    from distributed import Scheduler

    protocol = "tls" if security else "tcp"
    async with Scheduler(
        host=host, port=PORT, protocol=protocol, security=security,
        dashboard_address=f"{host or ''}:{DASHBOARD_PORT}",
    ) as scheduler:  # fmt: skip
        ending = _on_signal(lambda: scheduler.close(reason="told to end"))
        watching = asyncio.create_task(_watch(scheduler, given))
        await scheduler.finished()
        watching.cancel()
        del ending


async def _watch(scheduler: Any, given: argparse.Namespace) -> None:
    """End the scheduler, and the workers with it, when no client was there for long, and at the end of its life.

    Neither that nor idleness counts before a client and a worker have come: until then the cluster is being started.
    """
    began = seen = time.monotonic()
    patience = given.start + given.alone
    while True:
        await asyncio.sleep(_WATCH)
        now = time.monotonic()
        if set(scheduler.clients) - {"fire-and-forget"}:
            seen = now
            if scheduler.workers and patience != given.alone:
                patience = given.alone
                scheduler.idle_timeout, scheduler.idle_since = given.idle, None
        if now - seen > patience:
            await scheduler.close(reason="no client")
        elif now - began > given.lifetime:
            await scheduler.close(reason="lifetime is over")
        else:
            continue
        return


async def _worker(given: argparse.Namespace, security: Any, host: str | None) -> None:
    from distributed import Nanny

    async with Nanny(
        given.address, security=security, host=host, name=given.name, nthreads=given.threads,
        memory_limit=given.memory, lifetime=given.lifetime, lifetime_restart=False, death_timeout=_DEATH_TIMEOUT,
    ) as nanny:  # fmt: skip
        ending = _on_signal(lambda: nanny.close(reason="told to end"))
        await nanny.finished()
        del ending


def _on_signal(end: Any) -> list[asyncio.Task[Any]]:
    """Have SIGTERM, which is how ECS and Docker announce the end, end the process in good order."""
    tasks: list[asyncio.Task[Any]] = []
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: tasks.append(asyncio.ensure_future(end())))
    return tasks


def keys_from_store(parameter: str, region: str | None) -> Any:
    """Security from the key and certificate that `aws.tls` keeps in the parameter store."""
    import boto3
    from distributed import Security

    store = boto3.client("ssm", region_name=region)
    value = orjson.loads(store.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
    key, certificate = value["key"], value["certificate"]
    roles = {f"tls_{role}_{part}": text for role in ("scheduler", "worker", "client")
             for part, text in (("key", key), ("cert", certificate))}  # fmt: skip
    return Security(require_encryption=True, tls_ca_file=certificate, **roles)


def own_address(platform: str) -> str:
    """The private address that the platform gave this machine, by its metadata service.

    Sources: ECS task metadata endpoint version 4; EC2 instance metadata service version 2.
    """
    if platform == "ecs":
        found = httpx.get(os.environ["ECS_CONTAINER_METADATA_URI_V4"], timeout=_METADATA_TIMEOUT).raise_for_status()
        return found.json()["Networks"][0]["IPv4Addresses"][0]
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
    with httpx.Client(base_url=base, timeout=_METADATA_TIMEOUT) as client:
        lasting = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = client.put("/latest/api/token", headers=lasting).raise_for_status().text
        known = {"X-aws-ec2-metadata-token": token}
        return client.get("/latest/meta-data/local-ipv4", headers=known).raise_for_status().text


def _end_at_last(seconds: float) -> None:
    """End this process by force after some seconds: a scheduler that hangs cannot end itself."""

    def end() -> None:
        sys.stderr.write("the lifetime is over\n")
        os._exit(3)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    raise SystemExit(main())
