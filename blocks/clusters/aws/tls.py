"""Keys of a cluster: made by the one who opens it, kept in the parameter store as long as the cluster lives."""

from collections.abc import Mapping
from typing import Any

import orjson

FOLDER = "/weatherlake/clusters"
"""Where the parameters lie; the role of the machines may read what is below it."""


def name_of(cluster_id: str) -> str:
    """The parameter of a cluster."""
    return f"{FOLDER}/{cluster_id}/tls"


def keep(session: Any, cluster_id: str, tags: Mapping[str, str]) -> tuple[Any, str]:
    """Make a key and a self-signed certificate, and keep both in the store, encrypted.

    Returns the ``distributed.Security`` and the parameter's name. One pair serves client, scheduler and workers:
    who has it may do everything on this cluster, and nothing on any other.
    """
    from distributed import Security

    security: Any = Security.temporary()
    parameter = name_of(cluster_id)
    value = orjson.dumps({"key": security.tls_client_key, "certificate": security.tls_client_cert}).decode()
    session.client("ssm").put_parameter(
        Name=parameter, Value=value, Type="SecureString", Description="Keys of a Dask cluster of weatherlake",
        Tags=[{"Key": k, "Value": v} for k, v in tags.items()],
    )  # fmt: skip
    return security, parameter
