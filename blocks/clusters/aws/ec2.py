"""What is mended of dask-cloudprovider 2025.9's EC2Cluster.

| as it comes | here |
|---|---|
| user data holds Dask's configuration with the TLS keys | a command that reads the keys with the machine's role |
| disks are not encrypted, instance metadata is open to anybody on the machine (IMDSv1) | encrypted, IMDSv2 only |
| a second disk beside the root of images whose root is not ``/dev/sda1`` | the root's own name |
| TLS settings, keys among them, stay in the Dask configuration of the client's process | taken back |
| prints what it does on standard output, which is ours | is quiet |
| waits for the scheduler in a call that blocks the event loop, for ever | asks in passing, and can be cancelled |
| spot capacity that is not there fails the start | workers fall back to the list price |
| closing an instance that never started raises ``TypeError`` | does nothing |
"""

import copy
from collections.abc import Sequence
from typing import Any

import dask
from botocore.exceptions import ClientError
from dask_cloudprovider.aws import ec2

from .nodes import Commands, answers
from .resources import code

CAPACITY = {
    "InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow", "UnfulfillableCapacity",
    "InsufficientHostCapacity", "InsufficientCapacity",
}  # fmt: skip
"""What EC2 says when there is no spot instance to be had."""


class MendedInstance(ec2.EC2Instance):
    """An instance that can be waited for and ended."""

    async def wait_for_scheduler(self) -> None:
        """Until the scheduler's port answers."""
        await answers(self.address)

    async def create_vm(self) -> Any:
        """Start it: a spot instance when that is wanted and to be had."""
        try:
            return await super().create_vm()
        except ClientError as error:
            if not self.spot or code(error) not in CAPACITY:
                raise
            self.spot = False
            return await super().create_vm()

    async def destroy_vm(self) -> None:
        """End it, if it ever began."""
        if self.instance is not None:
            await super().destroy_vm()


class Scheduler(MendedInstance, ec2.EC2Scheduler):
    """The scheduler, with a command of ours."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.command = " ".join(self.cluster.commands("scheduler", None, "scheduler"))


class Worker(MendedInstance, ec2.EC2Worker):
    """A worker, with a command of ours."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.command = " ".join(self.cluster.commands("worker", self.scheduler, self.name))


class MendedEc2Cluster(ec2.EC2Cluster):
    """EC2Cluster whose instances hold no secret and encrypt their disks."""

    def __init__(self, *, commands: Commands, root_device: str, tags: dict[str, str], **options: Any) -> None:
        self.commands = commands
        before = copy.deepcopy(dask.config.config)
        try:
            super().__init__(instance_tags=tags, volume_tags=tags, bootstrap=False, auto_shutdown=True, **options)
        finally:
            dask.config.config.clear()
            dask.config.config.update(before)
        self.quiet = True
        self.scheduler_class, self.worker_class = Scheduler, Worker

        def amend(params: dict[str, Any], **_context: Any) -> None:
            _safe(params, root_device, tags)

        self.boto_session.register("provide-client-params.ec2.RunInstances", amend)


def _safe(params: dict[str, Any], root_device: str, tags: dict[str, str]) -> None:
    for device in params["BlockDeviceMappings"]:
        device["DeviceName"] = root_device
        device.pop("VirtualName", None)
        device["Ebs"]["Encrypted"] = True
    params["MetadataOptions"] = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"}
    params["TagSpecifications"] = [{"ResourceType": kind, "Tags": as_tags(tags)} for kind in _TAGGED]


_TAGGED: Sequence[str] = ("instance", "volume", "network-interface")


def as_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 writes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
