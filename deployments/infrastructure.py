"""Block types, the lake's block, work pools and concurrency limits on the Prefect server, as they are to be."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound
from prefect_aws import AwsCredentials

import blocks
from blocks.storage import LakeStorage
from flows.phase import limit_of
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError

from .change import Change

POOLS = Path(__file__).parent / "pools"
LAKE = "lake"
"""Name of the lake's block, which `prefect.yaml` gives to every flow."""

AT_ONCE = 2
"""Phases that read from one provider at once: a scheduled run and a backfill, say."""


def block_types(client: SyncPrefectClient, plan: bool) -> list[Change]:
    """Make every type of block known, as `prefect block register -m blocks` does."""
    changes = []
    # A lake's block holds one with AWS credentials, which the UI lets people make on the way.
    for cls in [AwsCredentials, *(member for _, member in inspect.getmembers(blocks))]:
        if not Block.is_block_class(cls):
            continue
        slug = cls.get_block_type_slug()
        known = _there(lambda: client.read_block_type_by_slug(slug))  # noqa: B023 (called at once)
        current = known and _there(lambda: client.read_block_schema_by_checksum(cls._calculate_schema_checksum()))  # noqa: B023
        if not current and not plan:
            cls.register_type_and_schema()
        changes.append(Change("block type", slug, "keep" if current else "update" if known else "create"))
    return changes


def _there(look: Callable[[], Any]) -> bool:
    """Whether the server has what is looked up."""
    try:
        look()
    except ObjectNotFound:
        return False
    return True


def lake_block(location: str | None, keys: str | None, options: Mapping[str, Any], plan: bool) -> Change:
    """The lake's block; one that is there stays as it is unless another location is given."""
    slug = LakeStorage.get_block_type_slug()
    name = f"{slug}/{LAKE}"
    kind: Any = LakeStorage
    before: Any = None
    with suppress(ValueError):
        before = kind.load(LAKE)
    if location is None:
        if before is not None:
            return Change("block", name, "keep")
        raise UsageError("there is no lake's block yet", expected="--lake /folder or --lake s3://bucket/prefix")
    credentials: Any = AwsCredentials.load(keys) if keys and not plan else None
    wanted = LakeStorage(location=location, credentials=credentials, **options)
    if before is not None and before.model_dump() == wanted.model_dump():
        return Change("block", name, "keep")
    if not plan:
        wanted.save(LAKE, overwrite=True)
    return Change("block", name, "update" if before else "create", location)


def template(kind: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The job template of a kind of work pool, with these values as defaults of its variables.

    Raises ``UsageError``.
    """
    path = POOLS / f"{kind}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in POOLS.glob("*.json")))
        raise UsageError("there is no such kind of work pool", expected=known, found=kind)
    made = orjson.loads(path.read_bytes())
    properties = made["variables"]["properties"]
    for name, value in variables.items():
        if name not in properties:
            raise UsageError(f"{kind} pools have no variable {name!r}", expected=", ".join(properties), found=name)
        properties[name]["default"] = value
    missing = [n for n in made["variables"].get("required", ()) if "default" not in properties[n]]
    if missing:
        raise UsageError(f"a pool of kind {kind} needs values for {', '.join(missing)} (--variable NAME=VALUE)")
    made["variables"].pop("required", None)
    return made


def pool(client: SyncPrefectClient, name: str, kind: str, variables: Mapping[str, Any], plan: bool) -> Change:
    """A work pool with its job template. A limit on its runs that somebody set stays."""
    try:
        before = client.read_work_pool(name)
    except ObjectNotFound:
        before = None
    if before is not None and before.type != kind:
        raise UsageError(f"the work pool {name} is of another kind", expected=kind, found=before.type)
    if before is not None and not variables and _required(kind):
        # Its values were given when it was made.
        return Change("work pool", name, "keep", kind)
    wanted = template(kind, variables)
    if before is None:
        if not plan:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=wanted))
        return Change("work pool", name, "create", kind)
    if before.base_job_template == wanted:
        return Change("work pool", name, "keep", kind)
    if not plan:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=wanted))
    return Change("work pool", name, "update", kind)


def _required(kind: str) -> bool:
    path = POOLS / f"{kind}.json"
    return path.is_file() and bool(orjson.loads(path.read_bytes())["variables"].get("required"))


def limits(client: SyncPrefectClient, names: Iterable[str], plan: bool) -> list[Change]:
    """A global concurrency limit for every provider; one that is there keeps the number somebody gave it."""
    changes = []
    for name in sorted({limit_of(recipes.load(n)) for n in names}):
        try:
            before = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            before = None
        if before is None:
            if not plan:
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(name=name, limit=AT_ONCE, active=True)
                )
            changes.append(Change("concurrency limit", name, "create", f"{AT_ONCE} phases at once"))
        elif not before.active:
            if not plan:
                client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active=True))
            changes.append(Change("concurrency limit", name, "update", "made active"))
        else:
            changes.append(Change("concurrency limit", name, "keep", f"{before.limit} at once"))
    return changes
