"""Clusters on ECS: `fargate`, on machines that AWS keeps, and `ecs`, on the instances of an ECS cluster."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.lake.errors import UsageError
from tasks.lake.prices import prices

from .aws.resources import ON_ECS, PREFIX
from .aws.settings import AwsCluster, Opening, Size
from .protocol import clusters

_SIZES = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
    16384: tuple(range(32768, 122881, 8192)),
}
"""CPU units of a Fargate task -> the MiB it may have (ECS developer guide, Fargate task definition parameters)."""


class EcsCluster(AwsCluster):
    """Scheduler and workers as ECS tasks, a container each."""

    cpu: int = Field(2048, ge=256, description="CPU units of a worker; 1024 are a vCPU.")
    memory: int = Field(8192, ge=512, description="MiB of a worker.")
    scheduler_cpu: int = Field(1024, ge=256, description="CPU units of the scheduler.")
    scheduler_memory: int = Field(4096, ge=512, description="MiB of the scheduler.")
    architecture: Literal["X86_64", "ARM64"] = Field("X86_64", description="Of the image.")
    scheduler_task_definition: str | None = Field(
        None,
        description="Task definition whose container is called dask-scheduler; its sizes and image count. Given ones "
        "spare RegisterTaskDefinition, which ECS throttles.",
    )
    worker_task_definition: str | None = Field(
        None, description="Task definition whose container is called dask-worker."
    )
    execution_role: str | None = Field(
        None, description="ARN of the role with which ECS pulls the image and writes logs."
    )
    task_role: str | None = Field(None, description="ARN of the role that scheduler and workers have.")
    log_group: str = Field(
        "/weatherlake/clusters", description="Log group of CloudWatch; the streams bear the cluster's id."
    )

    @property
    def platform(self) -> str:
        """ECS."""
        return "ecs"

    @property
    def fargate(self) -> bool:
        """Whether AWS keeps the machines."""
        return self.type == "fargate"

    @model_validator(mode="after")
    def _defined(self) -> "EcsCluster":
        given = [d for d in (self.scheduler_task_definition, self.worker_task_definition) if d]
        if len(given) == 1:
            raise ValueError("scheduler_task_definition and worker_task_definition go together")
        if not given:
            for key in ("image", "execution_role", "task_role"):
                if getattr(self, key) is None:
                    raise ValueError(f"{key} is missing: it is needed where task definitions are not given")
        elif self.image or self.execution_role or self.task_role:
            raise ValueError("image and roles are those of the task definitions that are given")
        return self

    def worker_size(self, session: Any) -> Size:
        """By the fields, or the given task definitions."""
        worker, scheduler = (self.cpu, self.memory), (self.scheduler_cpu, self.scheduler_memory)
        if self.worker_task_definition and self.scheduler_task_definition:
            worker, scheduler = (
                _defined_size(session, d) for d in (self.worker_task_definition, self.scheduler_task_definition)
            )
        vcpu, gib = worker[0] / 1024, worker[1] / 1024
        share = prices().spot_share if self.spot else 1.0
        hours = [prices().fargate_hour(cpu / 1024, memory / 1024) for cpu, memory in (worker, scheduler)]
        price, scheduler_hour = (hours[0] * share, hours[1]) if self.fargate else (None, None)
        return Size(vcpu, gib, f"{vcpu:g} vCPU, {gib:g} GiB", price, scheduler_hour)

    def ecs_cluster(self, opening: Opening) -> str:
        """The ECS cluster in which the tasks run."""
        raise NotImplementedError

    def leaves(self, cluster: str) -> tuple[Sequence[str], Sequence[str]]:
        """Tasks, in the one ECS cluster."""
        return ON_ECS, (getattr(self, "cluster", None) or f"{PREFIX}{cluster}",)

    def look(self, session: Any) -> None:
        """Whether the ECS cluster is there, if one is named."""
        if name := getattr(self, "cluster", None):
            _there(session, name)

    def build(self, opening: Opening) -> Any:
        """Task definitions, unless given, and the Dask cluster."""
        from .aws.ecs import MendedEcsCluster

        within = self.ecs_cluster(opening)
        started = {"startedBy": opening.name, "enableECSManagedTags": True}
        return MendedEcsCluster(
            commands=opening.commands, cluster_arn=within, n_workers=self.workers, name=opening.name,
            fargate_scheduler=self.fargate, fargate_workers=self.fargate, fargate_spot=self.fargate and self.spot,
            fargate_use_private_ip=not self.public_addresses, region_name=self.region,
            scheduler_task_definition_arn=self._definition(opening, "scheduler"),
            worker_task_definition_arn=self._definition(opening, "worker"),
            scheduler_task_kwargs=dict(started), worker_task_kwargs=dict(started),
            subnets=opening.subnets, security_groups=opening.security_groups, tags=opening.tags,
            security=opening.security, asynchronous=True,
        )  # fmt: skip

    def _definition(self, opening: Opening, role: str) -> str:
        given = self.scheduler_task_definition if role == "scheduler" else self.worker_task_definition
        if given:
            return given
        scheduler = role == "scheduler"
        cpu, memory = (self.scheduler_cpu, self.scheduler_memory) if scheduler else (self.cpu, self.memory)
        logs = {
            "awslogs-group": self.log_group, "awslogs-region": self.region, "awslogs-create-group": "true",
            "awslogs-stream-prefix": opening.mark.cluster,
        }  # fmt: skip
        container = {
            "name": f"dask-{role}", "image": self.image, "essential": True, "cpu": cpu, "memory": memory,
            # Workers drain in this time (tasks/spot.py).
            "stopTimeout": 120,
            "logConfiguration": {"logDriver": "awslogs", "options": logs},
            "ulimits": [{"name": "nofile", "softLimit": 65535, "hardLimit": 65535}],
        }  # fmt: skip
        made = opening.session.client("ecs").register_task_definition(
            family=f"{opening.name}-{role}", networkMode="awsvpc", containerDefinitions=[container],
            requiresCompatibilities=["FARGATE" if self.fargate else "EC2"], cpu=str(cpu), memory=str(memory),
            runtimePlatform={"cpuArchitecture": self.architecture, "operatingSystemFamily": "LINUX"},
            executionRoleArn=self.execution_role, taskRoleArn=self.task_role,
            tags=[{"key": k, "value": v} for k, v in opening.tags.items()],
        )  # fmt: skip
        return made["taskDefinition"]["taskDefinitionArn"]


@clusters.register("fargate")
class Fargate(EcsCluster):
    """ECS tasks on Fargate."""

    type: Literal["fargate"] = Field("fargate", description="Kind of cluster.")
    cluster: str | None = Field(
        None, description="ECS cluster, name or ARN; one is made and removed again when none is given."
    )

    @model_validator(mode="after")
    def _sized(self) -> "Fargate":
        for cpu, memory in ((self.cpu, self.memory), (self.scheduler_cpu, self.scheduler_memory)):
            if cpu not in _SIZES:
                raise ValueError(f"Fargate has no tasks of {cpu} CPU units, but of {', '.join(map(str, _SIZES))}")
            if memory not in _SIZES[cpu]:
                sizes = _SIZES[cpu]
                raise ValueError(f"with {cpu} CPU units Fargate gives {sizes[0]} to {sizes[-1]} MiB, not {memory}")
        return self

    def ecs_cluster(self, opening: Opening) -> str:
        """The given one, or a new one."""
        if self.cluster:
            return _there(opening.session, self.cluster)
        made = opening.session.client("ecs").create_cluster(
            clusterName=opening.name, capacityProviders=["FARGATE", "FARGATE_SPOT"],
            tags=[{"key": k, "value": v} for k, v in opening.tags.items()],
        )  # fmt: skip
        return made["cluster"]["clusterArn"]


@clusters.register("ecs")
class Ecs(EcsCluster):
    """ECS tasks on the instances of an ECS cluster."""

    type: Literal["ecs"] = Field("ecs", description="Kind of cluster.")
    cluster: str = Field(description="ECS cluster with instances or a capacity provider, name or ARN.")

    @model_validator(mode="after")
    def _placed(self) -> "Ecs":
        if self.spot:
            raise ValueError("spot is up to the instances of the ECS cluster")
        if self.public_addresses:
            raise ValueError("tasks on instances get no public addresses")
        return self

    def ecs_cluster(self, opening: Opening) -> str:
        """The given one. Raises ``UsageError`` when it is not there."""
        return _there(opening.session, self.cluster)


def _there(session: Any, name: str) -> str:
    """ARN of an ECS cluster. Raises ``UsageError`` when it is not there."""
    found = session.client("ecs").describe_clusters(clusters=[name])["clusters"]
    if not found or found[0]["status"] != "ACTIVE":
        raise UsageError(f"there is no ECS cluster {name} in {session.region_name}")
    return found[0]["clusterArn"]


def _defined_size(session: Any, definition: str) -> tuple[int, int]:
    found = session.client("ecs").describe_task_definition(taskDefinition=definition)["taskDefinition"]
    containers = found["containerDefinitions"]
    cpu = int(found.get("cpu") or sum(c.get("cpu", 0) for c in containers))
    memory = int(found.get("memory") or sum(c.get("memory", 0) for c in containers))
    if not cpu or not memory:
        raise UsageError(f"the task definition {definition} says neither CPU nor memory")
    return cpu, memory
