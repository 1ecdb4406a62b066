"""Everything on AWS that can belong to a cluster: finding it by its tags, and removing it."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from . import tags as marks
from .tags import as_dict
from .tls import FOLDER

Wanted = Callable[[Mapping[str, str]], str | None]
"""Tags of a resource -> why it is to be removed, or None."""

PREFIX = "weatherlake-"
"""How task definitions and everything else begin that has a name of our making."""

_ALIVE = ["pending", "running", "stopping", "stopped", "shutting-down"]
WAIT = 90.0
"""Seconds that machines are given to end before what they hold is removed."""
_POLL = 1.0


@dataclass(frozen=True, slots=True)
class Reaped:
    """A resource that was removed, or is to be."""

    kind: str
    identifier: str
    expires: datetime | None
    reason: str
    within: str | None = None
    """The ECS cluster that a task runs in."""
    problem: str | None = None
    """Why it could not be removed."""


ON_ECS = ("task", "task definition", "security group", "ECS cluster", "parameter")
ON_EC2 = ("instance", "security group", "parameter")
"""What a cluster can leave, by where it runs."""


def find(
    session: Any, wanted: Wanted, kinds: Collection[str] | None = None, within: Sequence[str] | None = None
) -> list[Reaped]:
    """What is wanted of a region's resources, in the order in which it has to be removed.

    Looks for some kinds, or all; for tasks in the ECS clusters ``within``, or all. A kind that cannot be looked
    through - we may not, or AWS does not answer - comes back as one entry without identifier, with its ``problem``.
    """
    from botocore.exceptions import ClientError

    found: list[Reaped] = []
    looks: tuple[tuple[str, Iterator[tuple[str, Mapping[str, str], str | None]]], ...] = (
        ("task", _tasks(session, within)),
        ("instance", _instances(session)),
        ("task definition", _task_definitions(session)),
        ("security group", _security_groups(session)),
        ("ECS cluster", _ecs_clusters(session)),
        ("parameter", _parameters(session)),
    )
    for kind, resources in looks:
        if kinds is not None and kind not in kinds:
            continue
        try:
            for identifier, tags, cluster in resources:
                if reason := wanted(tags):
                    found.append(Reaped(kind, identifier, marks.expires(tags), reason, cluster))
        except ClientError as error:
            found.append(Reaped(kind, "", None, "they cannot be looked through", problem=code(error)))
    return found


def remove(session: Any, found: Sequence[Reaped], wait: float = WAIT) -> list[Reaped]:
    """Remove resources; those that cannot be removed come back with their ``problem``. Nothing is raised."""
    from botocore.exceptions import BotoCoreError, ClientError

    left = [r for r in found if r.problem]
    found = [r for r in found if not r.problem]
    end = time.monotonic() + wait
    ended = [r for r in found if r.kind in ("task", "instance")]
    for resource in found:
        if resource.kind == "security group" and ended:
            # The interfaces of what was just ended still hold the group.
            _gone(session, ended, end)
            ended = []
        try:
            _remove(session, resource, end)
        except (ClientError, BotoCoreError) as error:
            left.append(replace(resource, problem=code(error)))
    return left


def _remove(session: Any, resource: Reaped, end: float) -> None:
    name = resource.identifier
    ecs, ec2 = session.client("ecs"), session.client("ec2")
    if resource.kind == "task":
        ecs.stop_task(cluster=resource.within, task=name, reason=resource.reason)
    elif resource.kind == "instance":
        ec2.terminate_instances(InstanceIds=[name])
    elif resource.kind == "task definition":
        ecs.deregister_task_definition(taskDefinition=name)
        ecs.delete_task_definitions(taskDefinitions=[name])
    elif resource.kind == "ECS cluster":
        _insist(lambda: ecs.delete_cluster(cluster=name), ("ClusterContainsTasksException",), end)
    elif resource.kind == "security group":
        _insist(lambda: ec2.delete_security_group(GroupId=name), ("DependencyViolation",), end)
    else:
        session.client("ssm").delete_parameter(Name=name)


def _insist(act: Callable[[], Any], passing: Sequence[str], end: float) -> None:
    """Try again as long as the refusal is one that passes. Raises ``ClientError``."""
    from botocore.exceptions import ClientError

    while True:
        try:
            act()
        except ClientError as error:
            if code(error) not in passing or time.monotonic() > end:
                raise
            time.sleep(_POLL)
        else:
            return


def _gone(session: Any, resources: Sequence[Reaped], end: float) -> None:
    """Wait until tasks and instances have ended, or the time is over."""
    from botocore.exceptions import BotoCoreError, ClientError

    names = {r.identifier for r in resources}
    within = list(dict.fromkeys(r.within for r in resources if r.within))
    while time.monotonic() < end:
        with contextlib.suppress(ClientError, BotoCoreError):
            alive = {name for name, *_ in _tasks(session, within)} | {name for name, *_ in _instances(session)}
            if not names & alive:
                return
        time.sleep(_POLL)


def _tasks(session: Any, within: Sequence[str] | None) -> Iterator[tuple[str, Mapping[str, str], str | None]]:
    ecs = session.client("ecs")
    if within is None:
        within = [arn for page in ecs.get_paginator("list_clusters").paginate() for arn in page["clusterArns"]]
    for cluster in within:
        with _absent("ClusterNotFoundException"):
            for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster):
                if page["taskArns"]:
                    described = ecs.describe_tasks(cluster=cluster, tasks=page["taskArns"], include=["TAGS"])
                    for task in described["tasks"]:
                        if task["lastStatus"] != "STOPPED":
                            yield task["taskArn"], as_dict(task.get("tags")), cluster


def _instances(session: Any) -> Iterator[tuple[str, Mapping[str, str], str | None]]:
    filters = [{"Name": "tag-key", "Values": [marks.EXPIRES]}, {"Name": "instance-state-name", "Values": _ALIVE}]
    for page in session.client("ec2").get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                yield instance["InstanceId"], as_dict(instance.get("Tags")), None


def _security_groups(session: Any) -> Iterator[tuple[str, Mapping[str, str], str | None]]:
    filters = [{"Name": "tag-key", "Values": [marks.EXPIRES]}]
    for page in session.client("ec2").get_paginator("describe_security_groups").paginate(Filters=filters):
        for group in page["SecurityGroups"]:
            yield group["GroupId"], as_dict(group.get("Tags")), None


def _task_definitions(session: Any) -> Iterator[tuple[str, Mapping[str, str], str | None]]:
    ecs = session.client("ecs")
    for page in ecs.get_paginator("list_task_definitions").paginate(status="ACTIVE"):
        for arn in page["taskDefinitionArns"]:
            if f"/{PREFIX}" in arn:
                described = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
                yield arn, as_dict(described.get("tags")), None


def _ecs_clusters(session: Any) -> Iterator[tuple[str, Mapping[str, str], str | None]]:
    ecs = session.client("ecs")
    for page in ecs.get_paginator("list_clusters").paginate():
        if page["clusterArns"]:
            described = ecs.describe_clusters(clusters=page["clusterArns"], include=["TAGS"])
            for cluster in described["clusters"]:
                if cluster["status"] != "INACTIVE":
                    yield cluster["clusterArn"], as_dict(cluster.get("tags")), None


def _parameters(session: Any) -> Iterator[tuple[str, Mapping[str, str], str | None]]:
    ssm = session.client("ssm")
    filters = [{"Key": "Name", "Option": "BeginsWith", "Values": [f"{FOLDER}/"]}]
    for page in ssm.get_paginator("describe_parameters").paginate(ParameterFilters=filters):
        for parameter in page["Parameters"]:
            name = parameter["Name"]
            listed = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)
            yield name, as_dict(listed.get("TagList")), None


@contextlib.contextmanager
def _absent(refusal: str) -> Iterator[None]:
    """What is not there has no resources."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if code(error) != refusal:
            raise


def is_refusal(error: BaseException) -> bool:
    """Whether AWS says that we may not."""
    return any(word in code(error) for word in ("AccessDenied", "Unauthorized"))


def code(error: BaseException) -> str:
    """The code of an error of AWS; the name of any other."""
    response = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") or type(error).__name__
