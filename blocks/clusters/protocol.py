"""What every cluster is: settings that open to a `Place` - an address and the security to reach it - and close again.

Nothing here imports Dask, Prefect or boto, so that `flows.runtime` can name a place without them.
"""

import os
import socket
from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.lake.errors import RecipeError, UsageError
from tasks.lake.registry import Plugin, Registry, sentence


@dataclass(frozen=True, slots=True)
class Place:
    """Where batches run: the address of a Dask scheduler, or None for threads of this process."""

    address: str | None
    slots: int
    """Batches at once."""
    description: str
    security: Any = field(default=None, repr=False, compare=False)
    """A ``distributed.Security`` with the keys to the scheduler; never leaves this process."""
    dashboard: str | None = None
    workers: int = 1
    worker_type: str = ""
    """What a worker is, in a few words: ``2 vCPU, 8 GiB``."""
    price_hour: float | None = 0.0
    """USD an hour for all of it, None when nobody knows."""


class Cluster(Plugin):
    """Settings of a cluster. What a user writes in a YAML file or saves as a Prefect block."""

    @abstractmethod
    def opened(self, flow_run: str) -> AbstractContextManager[Place]:
        """Open it, and close it at the end of the block, whatever happens in it.

        ``flow_run`` says who opens it; whatever is started carries it as a tag. Raises ``LakeError``: when opening
        fails, nothing of the cluster is left.
        """
        raise NotImplementedError

    @abstractmethod
    def check(self) -> None:
        """See, without starting anything, whether it could be opened. Raises ``LakeError``."""
        raise NotImplementedError


clusters: Registry[Cluster] = Registry("cluster", "blocks.clusters")


def from_file(path: Path) -> Cluster:
    """A cluster from a YAML file with its ``type`` and fields. Raises ``UsageError``."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"the cluster {path} cannot be read ({error.strerror})") from None
    except yaml.YAMLError:
        raise UsageError(f"{path} is no YAML") from None
    return build(document, str(path))


def build(document: Any, where: str) -> Cluster:
    """A cluster from a mapping with its ``type``. Raises ``UsageError``."""
    try:
        return clusters.build(document)
    except RecipeError as error:
        raise UsageError(f"{where}: {error}") from None
    except ValidationError as error:
        whole = [e["msg"].removeprefix("Value error, ") for e in error.errors() if not e["loc"]]
        raise UsageError(f"{where}: {'; '.join(whole)}" if whole else sentence(error, where)) from None


def owner() -> str:
    """Who opens a cluster outside a flow run: machine and process."""
    return f"{socket.gethostname()}:{os.getpid()}"
