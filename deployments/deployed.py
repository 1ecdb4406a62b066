"""The deployments of ``prefect.yaml`` on the Prefect server: which are not as they are to be, and `prefect deploy`."""

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from tasks.lake.errors import LakeError, UsageError

from .change import Change

FILE = Path(__file__).resolve().parents[1] / "prefect.yaml"


def read(file: Path = FILE) -> list[dict[str, Any]]:
    """The deployments of a ``prefect.yaml``. Raises ``UsageError``."""
    try:
        return list(yaml.safe_load(file.read_text("utf-8"))["deployments"])
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise UsageError(f"{file} is no prefect.yaml with deployments") from None


def name_of(entry: dict[str, Any]) -> str:
    """``flow/deployment``, as Prefect names it."""
    return f"{_flow(entry).name}/{entry['name']}"


def _flow(entry: dict[str, Any]) -> Any:
    module, _, function = entry["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), function)


def find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """A deployment by its name, or None."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def deploy(client: SyncPrefectClient, entries: Sequence[dict[str, Any]], plan: bool, file: Path = FILE) -> list[Change]:
    """Deploy what is not there or differs. A schedule that somebody paused stays paused."""
    changes = []
    for entry in entries:
        name = name_of(entry)
        before = find(client, name)
        if before is None:
            changes.append(Change("deployment", name, "create"))
        else:
            differs = _differences(entry, before)
            changes.append(Change("deployment", name, "update" if differs else "keep", ", ".join(differs)))
    new = [change.name for change in changes if change.action != "keep"]
    if new and not plan:
        which = ["--all"] if len(new) == len(entries) else [part for name in new for part in ("--name", name)]
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *which, "--prefect-file", str(file)]
        ran = subprocess.run(
            command, cwd=file.parent, env=dict(os.environ), capture_output=True, text=True, check=False
        )
        if ran.returncode or any(find(client, name) is None for name in new):
            last = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()][-1:]
            raise LakeError(f"prefect deploy did not work: {''.join(last) or 'it said nothing'}")
    return changes


def _differences(entry: dict[str, Any], found: DeploymentResponse) -> list[str]:
    """What is different on the server, in words."""
    options = found.concurrency_options
    limit = entry.get("concurrency_limit") or {}
    actual: dict[str, tuple[Any, Any]] = {
        "entrypoint": (entry["entrypoint"], found.entrypoint),
        "parameters": (entry.get("parameters") or {}, found.parameters),
        "tags": (sorted(entry.get("tags") or ()), sorted(found.tags)),
        "work pool": (entry["work_pool"]["name"], found.work_pool_name),
        "description": (entry.get("description"), found.description),
        "limit": (limit.get("limit"), found.global_concurrency_limit.limit if found.global_concurrency_limit else None),
        "collision": (limit.get("collision_strategy"), options.collision_strategy.value if options else None),
        "schedules": (
            sorted((s.get("cron"), s.get("timezone")) for s in entry.get("schedules") or ()),
            sorted((getattr(s.schedule, "cron", None), getattr(s.schedule, "timezone", None)) for s in found.schedules),
        ),
        "parameter schema": (
            _schema(parameter_schema(_flow(entry)).model_dump()),
            _schema(found.parameter_openapi_schema),
        ),
    }
    return [what for what, (wanted, there) in actual.items() if wanted != there]


def _schema(schema: dict[str, Any] | None) -> dict[str, Any]:
    """A parameter schema without what is empty, which the server leaves out."""
    return {key: value for key, value in (schema or {}).items() if value}
