"""Clusters on EC2: an instance each for scheduler and workers."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.lake.errors import UsageError
from tasks.lake.prices import prices

from .aws.resources import ON_EC2
from .aws.settings import AwsCluster, Opening, Size
from .protocol import clusters

_LATEST = "/aws/service/ecs/optimized-ami/amazon-linux-2023{arm}/recommended/image_id"
"""Public parameter with AWS's own image that has Docker in it and is renewed by AWS."""

_NO_AGENT = "systemctl disable --now --no-block ecs"
"""The image's ECS agent has nothing to do here."""


@clusters.register("ec2")
class Ec2(AwsCluster):
    """Instances that run the image in Docker and end themselves when it ends."""

    type: Literal["ec2"] = Field("ec2", description="Kind of cluster.")
    image: str = Field(description="Container image with weatherlake in it, of the version that opens the cluster.")
    instance_type: str = Field("m7i.xlarge", description="Of the workers.")
    scheduler_instance_type: str = Field("m7i.large", description="Of the scheduler; always at the list price.")
    ami: str | None = Field(
        None,
        description="Machine image with Docker and cloud-init; by default AWS's Amazon Linux 2023 for containers, "
        "the newest.",
    )
    instance_profile: str | None = Field(
        None,
        description="Instance profile, name or ARN: its role is what scheduler and workers may do. Needed with tls.",
    )
    disk_gib: int = Field(50, ge=8, description="Of the root disk, which is encrypted.")
    key_name: str | None = Field(
        None, description="Key pair for SSH; none by default. The security group has to allow port 22."
    )
    bootstrap: tuple[str, ...] = Field(
        (),
        description="Commands before the container starts, such as the login to a registry. No secrets: they are in "
        "the user data, which every process on the machine can read.",
    )
    docker_args: str = Field("", description="Further arguments of docker run.")

    @model_validator(mode="after")
    def _with_a_role(self) -> "Ec2":
        if self.tls and self.instance_profile is None:
            raise ValueError("instance_profile is missing: with its role the machines read the keys of tls")
        return self

    @property
    def platform(self) -> str:
        """EC2."""
        return "ec2"

    def worker_size(self, session: Any) -> Size:
        """What EC2 says of the instance type."""
        found = session.client("ec2").describe_instance_types(InstanceTypes=[self.instance_type])["InstanceTypes"]
        if not found:
            raise UsageError(f"there is no instance type {self.instance_type} in {self.region}")
        vcpu, gib = found[0]["VCpuInfo"]["DefaultVCpus"], found[0]["MemoryInfo"]["SizeInMiB"] / 1024
        hours = prices().instance_hour
        price, scheduler = hours.get(self.instance_type), hours.get(self.scheduler_instance_type)
        if price is not None and self.spot:
            price *= prices().spot_share
        return Size(vcpu, gib, f"{vcpu} vCPU, {gib:g} GiB ({self.instance_type})", price, scheduler)

    def build(self, opening: Opening) -> Any:
        """The Dask cluster."""
        from .aws.ec2 import MendedEc2Cluster

        ami, root = self._machine_image(opening.session)
        profile = self.instance_profile
        # Whatever becomes of the container, the instance ends with the cluster's life.
        at_last = f"shutdown -h +{math.ceil(self.max_hours * 60) + 5}"
        first = [*([] if self.ami else [_NO_AGENT]), at_last, *self.bootstrap]
        return MendedEc2Cluster(
            commands=opening.commands, n_workers=self.workers, name=opening.name,
            region=self.region, ami=ami, root_device=root,
            scheduler_instance_type=self.scheduler_instance_type, worker_instance_type=self.instance_type,
            subnet_id=opening.subnets[0], security_groups=opening.security_groups, filesystem_size=self.disk_gib,
            key_name=self.key_name, docker_image=self.image, docker_args=self.docker_args, extra_bootstrap=first,
            iam_instance_profile=({"Arn" if profile.startswith("arn:") else "Name": profile} if profile else {}),
            use_private_ip=not self.public_addresses, spot=self.spot, tags=opening.tags, env_vars={},
            security=opening.security or False, worker_class="distributed.Nanny", asynchronous=True,
        )  # fmt: skip

    def leaves(self, cluster: str) -> tuple[Sequence[str], Sequence[str]]:
        """Instances, and no tasks."""
        del cluster
        return ON_EC2, ()

    def look(self, session: Any) -> None:
        """Whether the machine image and the scheduler's instance type are there."""
        self._machine_image(session)
        session.client("ec2").describe_instance_types(InstanceTypes=[self.scheduler_instance_type])

    def _machine_image(self, session: Any) -> tuple[str, str]:
        """Id and root device of the image."""
        ami = self.ami
        if ami is None:
            processors = session.client("ec2").describe_instance_types(InstanceTypes=[self.instance_type])
            arm = "arm64" in processors["InstanceTypes"][0]["ProcessorInfo"]["SupportedArchitectures"]
            name = _LATEST.format(arm="/arm64" if arm else "")
            ami = session.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
        found = session.client("ec2").describe_images(ImageIds=[ami])["Images"]
        if not found:
            raise UsageError(f"there is no machine image {ami} in {self.region}")
        return ami, found[0]["RootDeviceName"]
