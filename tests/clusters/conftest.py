"""The emulated AWS, and clusters that are small enough for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .aws import AMI, PROFILE, REGION, ROLE, Aws
from .machines import Network

SMALL: dict[str, dict[str, Any]] = {
    "fargate": {
        "type": "fargate", "region": REGION, "workers": 1, "cpu": 1024, "memory": 2048, "scheduler_memory": 2048,
        "image": "weatherlake:test", "execution_role": ROLE, "task_role": ROLE, "start_minutes": 2,
    },
    "ec2": {
        "type": "ec2", "region": REGION, "workers": 1, "ami": AMI, "image": "weatherlake:test",
        "instance_type": "m6i.large", "scheduler_instance_type": "m6i.large", "instance_profile": PROFILE,
        "start_minutes": 2,
    },
}  # fmt: skip
"""Settings of a cluster of each type that starts machines, with one worker."""


@contextmanager
def emulated(network: Network | None = None) -> Iterator[Aws]:
    """The emulated AWS; this process and its children use it. Whatever is left in it is ended."""
    with Aws(network) as cloud, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
            patch.delenv(name, raising=False)
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        yield cloud


@pytest.fixture
def aws() -> Iterator[Aws]:
    """An emulated AWS of its own for a test."""
    with emulated() as cloud:
        yield cloud
