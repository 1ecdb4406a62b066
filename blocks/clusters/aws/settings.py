"""What every cluster on AWS can be told, and how it is opened and closed."""

import contextlib
import math
import time
import uuid
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from pydantic import Field, field_validator, model_validator

from tasks.lake.errors import AccessError, LakeError, Unreachable, UsageError

from ..background import Background, background
from ..interrupts import shielded
from ..protocol import Cluster, Place
from . import groups, resources, tls
from .nodes import NodeCommands
from .tags import CLUSTER, Mark

_CLOSE = 20.0
"""Seconds for Dask's own way of closing; what it leaves is removed by its tags."""

_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7")
"""Addresses that nobody on the Internet has (RFC 1918, 6598, 4193)."""

_LATE = 3.0
"""Seconds in which AWS shows what it was asked for last."""

_OWN_TAGS = "weatherlake:"


@dataclass(frozen=True, slots=True)
class Opening:
    """What the opening of one cluster has to know."""

    session: Any
    mark: Mark
    tags: dict[str, str]
    commands: NodeCommands
    security: Any
    subnets: list[str]
    security_groups: list[str]

    @property
    def name(self) -> str:
        """How everything is called that has a name."""
        return f"{resources.PREFIX}{self.mark.cluster}"


class AwsCluster(Cluster):
    """Settings that clusters on AWS share. Nothing here is a credential: machines have roles."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="AWS region, such as eu-central-1.")
    workers: int = Field(2, ge=1, le=1000, description="How many; fixed for the life of the cluster.")
    threads: int | None = Field(
        None, ge=1, description="Batches that a worker works on at once; one a vCPU by default."
    )
    spot: bool = Field(False, description="Workers on spot capacity; at the list price where there is none.")
    image: str | None = Field(
        None, description="Container image with weatherlake in it, of the version that opens the cluster."
    )
    vpc: str | None = Field(None, description="VPC; the one of the subnets, or else the default one.")
    subnets: tuple[str, ...] = Field((), description="Subnets; those of the VPC when none is given.")
    security_groups: tuple[str, ...] = Field(
        (),
        description="Security groups of scheduler and workers. When none is given, one is made for the cluster and "
        "removed with it: it lets its members in, and `allow_from`.",
    )
    allow_from: tuple[str, ...] = Field(
        (),
        description="Who else may reach the scheduler (ports 8786 and 8787), by a security group that is made: "
        "ranges of addresses (10.0.0.0/16) or security groups (sg-...); the VPC's own range when nothing is given.",
    )
    allow_open_ports: bool = Field(
        False,
        description="UNSAFE: take ranges of public addresses in `allow_from`; strangers can then try the scheduler.",
    )
    public_addresses: bool = Field(
        False,
        description="UNSAFE: give the machines public addresses. Needed in subnets without a NAT or endpoints.",
    )
    tls: bool = Field(
        True,
        description="Encrypt, and let only the holder of the cluster's keys in. UNSAFE when off: whoever reaches "
        "the scheduler can run code with the machines' role.",
    )
    tags: dict[str, str] = Field({}, description="Further tags of everything that is started or made.")
    idle_minutes: float = Field(
        15, gt=0, le=1440, description="The scheduler ends the cluster after so long without work."
    )
    alone_minutes: float = Field(3, gt=0, le=1440, description="It ends it after so long without a client, too.")
    max_hours: float = Field(
        12, gt=0, le=168,
        description="Everything ends after so long, whatever it does, and the reaper removes what did not.",
    )  # fmt: skip
    start_minutes: float = Field(10, gt=0, le=60, description="Time that the start may take.")
    price_hour: float | None = Field(
        None, ge=0, description="USD an hour for one worker, for estimates; the list price by default."
    )

    @field_validator("tags")
    @classmethod
    def _not_ours(cls, tags: dict[str, str]) -> dict[str, str]:
        if taken := [k for k in tags if k.startswith((_OWN_TAGS, "aws:"))]:
            raise ValueError(f"tags that begin with weatherlake: or aws: are not yours to set: {', '.join(taken)}")
        return tags

    @model_validator(mode="after")
    def _closed(self) -> "AwsCluster":
        if self.allow_from and self.security_groups:
            raise ValueError("allow_from is for the security group that is made when security_groups are not given")
        for source in self.allow_from:
            if source.startswith("sg-"):
                continue
            try:
                network = ip_network(source)
            except ValueError:
                raise ValueError(f"allow_from: {source} is neither a range of addresses nor a security group") from None
            inside = any(
                network.network_address in p and network.broadcast_address in p for p in map(ip_network, _PRIVATE)
            )
            if not inside and not self.allow_open_ports:
                raise ValueError(f"allow_from: {source} has public addresses, which needs allow_open_ports: true")
        return self

    # -- what each kind of cluster says ----------------------------------------------------------------------

    @property
    @abstractmethod
    def platform(self) -> str:
        """Whom the machines ask for their address: ecs or ec2."""

    @abstractmethod
    def worker_size(self, session: Any) -> "Size":
        """What a worker has, and what it costs."""

    @abstractmethod
    def build(self, opening: Opening) -> Any:
        """Make what the cluster needs, and the Dask cluster, asynchronous and not started yet."""

    @abstractmethod
    def leaves(self, cluster: str) -> tuple[Sequence[str], Sequence[str]]:
        """Kinds of resources that the cluster of an id can leave, and the ECS clusters that its tasks are in."""

    @abstractmethod
    def look(self, session: Any) -> None:
        """See whether what the settings name is there. Raises ``UsageError``, ``ClientError``."""

    # -- opening and closing ---------------------------------------------------------------------------------

    @contextmanager
    def opened(self, flow_run: str) -> Iterator[Place]:
        """Start scheduler and workers, and end them, with everything that was made for them."""
        session = self.session()
        lifetime = timedelta(hours=self.max_hours)
        mark = Mark(uuid.uuid4().hex[:12], flow_run[:250], datetime.now(UTC) + lifetime)
        with background() as loop:
            running = _Running(loop)
            try:
                with typed(f"the cluster cannot be opened in {self.region}"):
                    place = self._open(session, mark, running)
                yield place
            finally:
                with shielded():
                    running.close()
                    self.sweep(session, mark.cluster)
                    if not running.whole:
                        # What was just being asked for when the start ended may have come since.
                        time.sleep(_LATE)
                        self.sweep(session, mark.cluster)

    def check(self) -> None:
        """Whether AWS lets us in, and what the settings name is there."""
        session = self.session()
        with typed(f"a cluster could not be opened in {self.region}"):
            self.worker_size(session)
            groups.network(session, self.vpc, self.subnets)
            self.look(session)

    def _open(self, session: Any, mark: Mark, running: "_Running") -> Place:
        # That starting machines takes longer than ten seconds surprises dask-cloudprovider only.
        warnings.filterwarnings("ignore", message="Creating your cluster is taking a surprisingly long time")
        tags = mark.tags(self.tags)
        size = self.worker_size(session)
        subnets, vpc = groups.network(session, self.vpc, self.subnets)
        security = parameter = None
        if self.tls:
            security, parameter = tls.keep(session, mark.cluster, tags)
        members = list(self.security_groups) or [groups.make(session, vpc, mark.cluster, self.allow_from, tags)]
        threads = self.threads or max(1, math.floor(size.vcpu))
        commands = NodeCommands(
            self.platform, self.region, self.idle_minutes * 60, self.alone_minutes * 60, self.start_minutes * 60,
            self.max_hours * 3600,
            threads, f"{math.floor(size.gib * 1024 * _FOR_WORK)}MiB", parameter,
        )  # fmt: skip
        opening = Opening(session, mark, tags, commands, security, subnets, members)
        address, dashboard, workers = running.start(lambda: self.build(opening), self.workers, self.start_minutes * 60)
        price = self.price_hour if self.price_hour is not None else size.price_hour
        total = None if price is None or size.scheduler_hour is None else price * workers + size.scheduler_hour
        what = f"{'spot ' if self.spot else ''}{self.type} workers with {size.words}"
        return Place(
            address, workers * threads, f"a Dask cluster of {workers} {what} in {self.region}", security, dashboard,
            workers, size.words, total,
        )  # fmt: skip

    def session(self) -> Any:
        """AWS, with the credentials of the machine or the environment. Raises ``UsageError``."""
        try:
            import boto3
            import dask_cloudprovider  # noqa: F401
        except ImportError:
            raise UsageError(f"a cluster of type {self.type} needs the extra 'aws'") from None
        return boto3.session.Session(region_name=self.region)

    def sweep(self, session: Any, cluster: str) -> None:
        """Remove whatever carries the cluster's tag. Raises ``LakeError`` when something is left."""

        def wanted(found: Mapping[str, str]) -> str | None:
            return "the cluster is closed" if found.get(CLUSTER) == cluster else None

        with typed(f"what the cluster {cluster} has left cannot be removed"):
            left = resources.remove(session, resources.find(session, wanted, *self.leaves(cluster)))
        if left:
            names = ", ".join(f"{r.kind} {r.identifier or '(any)'}: {r.problem}" for r in left)
            raise LakeError(f"the cluster is closed, but this of it is left to the reaper: {names}")


_FOR_WORK = 0.92
"""Share of a worker's memory that Dask gives to its process; the rest is for the nanny and the system."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a worker has."""

    vcpu: float
    gib: float
    words: str
    price_hour: float | None
    scheduler_hour: float | None


class _Running:
    """A Dask cluster that may have been started, or only half."""

    def __init__(self, loop: Background) -> None:
        self._loop = loop
        self._cluster: Any = None
        self.whole = False
        """Whether the start came to its end."""

    def start(self, build: Any, workers: int, timeout: float) -> tuple[str, str | None, int]:
        """Start it; address, dashboard and how many workers there are. Raises ``Unreachable``."""

        async def start() -> tuple[str, str | None, int]:
            from distributed import Client

            self._cluster = build()
            await self._cluster
            address = self._cluster.scheduler.external_address or self._cluster.scheduler_address
            options: dict[str, Any] = {"security": self._cluster.security, "set_as_default": False}
            # Asynchronous, its methods return what is to be awaited, whatever their annotations say.
            client: Any = Client(address, asynchronous=True, **options)
            async with client:
                await client.wait_for_workers(workers)
                self.whole = True
                return address, client.dashboard_link, workers

        try:
            return self._loop.run(start(), timeout)
        except RuntimeError as error:
            # Dask's own words around what went wrong.
            raise (error.__cause__ or error) from None
        except TimeoutError:
            raise Unreachable(
                f"the cluster did not start within {timeout / 60:g} minutes",
                expected=f"a scheduler and {workers} workers that answer", found="not all of them",
            ) from None  # fmt: skip

    def close(self) -> None:
        """Close it as Dask does; what that leaves is for the sweep."""
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        try:
            self._loop.run(cluster.close(), _CLOSE)
        except Exception:
            from distributed import Status

            # It is ours now: nothing more is expected of Dask.
            cluster.status = Status.closed


@contextlib.contextmanager
def typed(what: str) -> Iterator[None]:
    """Errors of AWS as typed ones, one sentence each."""
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

    try:
        yield
    except NoCredentialsError:
        raise AccessError(f"{what}: there are no credentials for AWS here") from None
    except EndpointConnectionError as error:
        raise Unreachable(f"{what}: {error}") from None
    except ClientError as error:
        reason, message = resources.code(error), error.response.get("Error", {}).get("Message", "")
        kind = AccessError if resources.is_refusal(error) else UsageError
        raise kind(f"{what} ({reason}: {message})") from None
    except BotoCoreError as error:
        raise LakeError(f"{what} ({type(error).__name__}: {error})") from None
