"""Prefect blocks of weatherlake: ``prefect block register -m blocks`` makes them known to a server.

Each is loaded when it is asked for, so that importing a module of this package does not load Prefect.
"""

import importlib
from typing import Any

BLOCKS = {
    "LakeStorage": "storage",
    "EarthdataCredentials": "credentials",
    "KnmiCredentials": "credentials",
    "AppriseTarget": "notifications",
    "SnsTopic": "notifications",
    "LocalCluster": "cluster_blocks",
    "ExistingCluster": "cluster_blocks",
    "FargateCluster": "cluster_blocks",
    "EcsCluster": "cluster_blocks",
    "Ec2Cluster": "cluster_blocks",
}
"""Class of a block -> the module of this package that has it."""


def __dir__() -> list[str]:
    return sorted([*globals(), *BLOCKS])


def __getattr__(name: str) -> Any:
    if name not in BLOCKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{BLOCKS[name]}"), name)
