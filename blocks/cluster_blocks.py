"""Clusters as Prefect blocks: ``prefect block register -m blocks.cluster_blocks``, then saved in the UI or by code.

A run names a saved one as ``--cluster fargate-cluster/NAME``. What the fields are is said where the clusters are.
"""

from typing import Any, ClassVar

from prefect.blocks.core import Block

from tasks.lake.errors import UsageError, as_lake_error

from .clusters import ec2, existing, fargate, local
from .clusters.protocol import Cluster, build


class LocalCluster(local.Local, Block):
    """A Dask cluster on the machine of the run."""

    _block_type_name: ClassVar[str] = "Local cluster"
    _block_type_slug: ClassVar[str] = "local-cluster"


class ExistingCluster(existing.Existing, Block):
    """A Dask scheduler that somebody else runs."""

    _block_type_name: ClassVar[str] = "Existing cluster"
    _block_type_slug: ClassVar[str] = "existing-cluster"


class FargateCluster(fargate.Fargate, Block):
    """A Dask cluster on Fargate that lives as long as a run."""

    _block_type_name: ClassVar[str] = "Fargate cluster"
    _block_type_slug: ClassVar[str] = "fargate-cluster"


class EcsCluster(fargate.Ecs, Block):
    """A Dask cluster on the instances of an ECS cluster that lives as long as a run."""

    _block_type_name: ClassVar[str] = "ECS cluster"
    _block_type_slug: ClassVar[str] = "ecs-cluster"


class Ec2Cluster(ec2.Ec2, Block):
    """A Dask cluster on EC2 instances that lives as long as a run."""

    _block_type_name: ClassVar[str] = "EC2 cluster"
    _block_type_slug: ClassVar[str] = "ec2-cluster"


BLOCKS: tuple[Any, ...] = (LocalCluster, ExistingCluster, FargateCluster, EcsCluster, Ec2Cluster)


def saved(name: str) -> Cluster:
    """The cluster of a block, by ``SLUG/NAME``. Raises ``UsageError``."""
    slug = name.split("/")[0]
    known = {block._block_type_slug: block for block in BLOCKS}
    if slug not in known:
        raise UsageError(f"there is no cluster {name!r}", expected=f"one of {', '.join(known)}", found=slug)
    try:
        block = known[slug].load(name.split("/", 1)[1])
    except ValueError as error:
        raise UsageError(f"the block {name} cannot be loaded ({str(error).splitlines()[0]})") from None
    except Exception as error:
        raise as_lake_error(error, f"the block {name} cannot be loaded") from None
    cluster: type[Cluster] = known[slug].__mro__[1]
    return build({key: getattr(block, key) for key in cluster.model_fields}, name)
