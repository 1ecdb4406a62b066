"""The tags that say whose a resource is and how long it may live."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

CLUSTER = "weatherlake:cluster"
FLOW_RUN = "weatherlake:flow-run"
EXPIRES = "weatherlake:expires"

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose a cluster is: in the tags of everything that is made for it."""

    cluster: str
    flow_run: str
    expires: datetime

    def tags(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """All tags, those of the user first: they cannot take ours away."""
        own = {CLUSTER: self.cluster, FLOW_RUN: self.flow_run, EXPIRES: self.expires.astimezone(UTC).strftime(_FORMAT)}
        return {**(more or {}), **own}


def expires(tags: Mapping[str, str]) -> datetime | None:
    """When a resource may be removed; None for one that is not ours, or whose tag somebody has spoilt."""
    try:
        return datetime.strptime(tags.get(EXPIRES, ""), _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def as_dict(tags: object) -> dict[str, str]:
    """Tags of any AWS service, which spell their keys in two ways."""
    found: dict[str, str] = {}
    for tag in tags if isinstance(tags, list) else ():
        lower = {k.lower(): v for k, v in tag.items()}
        found[lower["key"]] = lower["value"]
    return found
