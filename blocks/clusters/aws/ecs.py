"""What is mended of dask-cloudprovider 2025.9's ECSCluster.

| as it comes | here |
|---|---|
| asks for the task's state again and again without a pause | a pause, doubled from half a second to five |
| tries for a minute whatever ECS says, a wrong subnet too | what cannot pass is raised at once |
| takes a task that is ``ACTIVATING`` for a failed one | waits |
| a task that fails to start says nothing of the reason | ECS's reason is in the error |
| takes the scheduler of a container that has just begun for ready | waits until its port answers |
| spot capacity that is not there fails the start | workers fall back to the list price |
| ``--memory-limit 0GB`` for workers below 1 GiB, which is no limit | the limit in MiB |
| warns of missing TLS whenever there is TLS | says nothing |
| makes roles even when task definitions are given | none are asked for |
| needs ``ec2:DescribeNetworkInterfaces`` for the address | ECS says the address itself |
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError
from dask_cloudprovider.aws import ecs
from dask_cloudprovider.aws.helper import dict_to_aws
from distributed import Status
from distributed.deploy.spec import SpecCluster

from tasks.lake.errors import LakeError, TransientError

from .nodes import Commands, answers
from .resources import code

_PASSING = ("ThrottlingException", "ServerException", "ServiceUnavailableException", "BlockedException")
_NO_ROOM = "Capacity is unavailable"
_STARTING = ("PROVISIONING", "PENDING", "ACTIVATING")
_GIVEN = "given by the task definition"


class MendedTask(ecs.Task):
    """A task that starts as ECS would have it."""

    RETRY = 60.0
    """Seconds for which what may pass is tried again."""

    async def start(self) -> None:
        """Start, and wait until it runs. Raises ``LakeError`` with what ECS says."""
        try:
            self.task = await self._begin()
        except TransientError:
            if self._fargate_capacity_provider != "FARGATE_SPOT":
                raise
            self._fargate_capacity_provider = "FARGATE"
            self.task = await self._begin()
        self.task_arn = self.task["taskArn"]
        pause = 0.5
        while self.task["lastStatus"] in _STARTING:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            await self._update_task()
        if self.task["lastStatus"] != "RUNNING":
            raise LakeError(f"the {self.task_type} did not start: {_reason(self.task)}")
        details = [d for a in self.task["attachments"] for d in a["details"]]
        self.private_ip = next(d["value"] for d in details if d["name"] == "privateIPv4Address")
        if self._use_public_ip:
            self.public_ip = await self._public_address(details)
        self.status = Status.running

    async def _begin(self) -> Any:
        end = time.monotonic() + self.RETRY
        pause = 1.0
        while True:
            try:
                async with self._client("ecs") as client:
                    response = await client.run_task(**self._request())
                if response["tasks"]:
                    return response["tasks"][0]
                reason = "; ".join(f["reason"] for f in response["failures"]) or "no reason given"
            except ClientError as error:
                reason, message = code(error), error.response.get("Error", {}).get("Message", "")
                server = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
                if reason not in _PASSING and not server and _NO_ROOM not in message:
                    raise LakeError(f"ECS does not start the {self.task_type} ({reason}: {message})") from None
            else:
                if not reason.startswith(("RESOURCE:", "AGENT", _NO_ROOM)):
                    raise LakeError(f"ECS does not start the {self.task_type} ({reason})")
            if time.monotonic() + pause > end:
                raise TransientError(f"ECS has no room for the {self.task_type} ({reason})")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)

    def _request(self) -> dict[str, Any]:
        container = {"name": f"dask-{self.task_type}", **self._overrides}
        network = {
            "subnets": self._vpc_subnets, "securityGroups": self._security_groups,
            "assignPublicIp": "ENABLED" if self._use_public_ip else "DISABLED",
        }  # fmt: skip
        request = {
            "cluster": self.cluster_arn, "taskDefinition": self.task_definition_arn, "count": 1,
            "overrides": {"containerOverrides": [container]}, "tags": dict_to_aws(self.tags),
            "networkConfiguration": {"awsvpcConfiguration": network}, **(self.task_kwargs or {}),
        }  # fmt: skip
        if self.fargate and self._fargate_capacity_provider == "FARGATE_SPOT":
            request["capacityProviderStrategy"] = [{"capacityProvider": "FARGATE_SPOT"}]
        elif self.fargate:
            # Not by its provider, which an ECS cluster need not have.
            request["launchType"] = "FARGATE"
        return request

    async def _public_address(self, details: Sequence[dict[str, str]]) -> str:
        interface = next(d["value"] for d in details if d["name"] == "networkInterfaceId")
        async with self._client("ec2") as client:
            found = await client.describe_network_interfaces(NetworkInterfaceIds=[interface])
        return found["NetworkInterfaces"][0]["Association"]["PublicIp"]


class Scheduler(MendedTask, ecs.Scheduler):
    """The scheduler, with a command of ours."""

    def __init__(self, *, commands: Commands, **options: Any) -> None:
        super().__init__(**options)
        self._overrides = {"command": commands("scheduler", None, "scheduler")}

    async def start(self) -> None:
        """Start, and wait until it answers: a container that runs has Python to load yet."""
        await super().start()
        await answers(self.external_address or self.address)


class Worker(MendedTask, ecs.Worker):
    """A worker, with a command of ours."""

    def __init__(self, scheduler: str, *, commands: Commands, **options: Any) -> None:
        super().__init__(scheduler, **options)
        self._overrides = {"command": commands("worker", self.scheduler, str(self.name))}


class _Classes(SpecCluster):
    """Stands between ECSCluster and SpecCluster, where the specifications are made and not yet used."""

    commands: Commands
    scheduler_spec: Any
    new_spec: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    async def _start(self) -> None:
        for spec, cls in ((self.scheduler_spec, Scheduler), (self.new_spec, Worker)):
            spec["cls"] = cls
            spec["options"] |= {"commands": self.commands}
        await super()._start()


class MendedEcsCluster(ecs.ECSCluster, _Classes):
    """ECSCluster for which everything is made beforehand: it starts tasks and stops them, and nothing else."""

    def __init__(self, *, commands: Commands, tags: dict[str, str], **options: Any) -> None:
        self.commands = commands
        super().__init__(
            skip_cleanup=True, execution_role_arn=_GIVEN, task_role_arn=_GIVEN, cloudwatch_logs_group=_GIVEN,
            cloudwatch_logs_stream_prefix=_GIVEN, vpc=_GIVEN, environment={}, tags=tags, **options,
        )  # fmt: skip

    @property
    def tags(self) -> dict[str, str]:
        """Ours alone: with the library's own, its users' `_cleanup_stale_resources` would take our tasks for theirs."""
        return dict(self._tags)

    def _check_scheduler_tls_config(self) -> None:
        """The check compares types with names of types, and warns always."""


def _reason(task: dict[str, Any]) -> str:
    said = [task.get("stoppedReason"), *(c.get("reason") for c in task.get("containers", ()))]
    return "; ".join(dict.fromkeys(s for s in said if s)) or f"it is {task['lastStatus']}"
