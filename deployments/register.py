"""Make the Prefect server ready: ``python -m deployments.register --lake s3://bucket/lake``.

Block types, the lake's block, the work pool, concurrency limits, the deployments of ``prefect.yaml`` and automations
are created, or updated where they differ. A second time nothing changes. What somebody set by hand on the server - a
paused schedule, an automation switched off, another limit - stays.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.lake.errors import ExitCode, LakeError, Unreachable, UsageError
from tasks.lake.settings import parse_setting

POOL = "weatherlake"


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m deployments.register",
        description="Create or update everything of weatherlake on the Prefect server (PREFECT_API_URL).",
    )
    made.add_argument("--plan", action="store_true", help="say what would be done, and change nothing")
    lake = made.add_argument_group("the lake's block (needed the first time)")
    lake.add_argument("--lake", metavar="PLACE", help="an absolute path of a folder, or s3://bucket/prefix")
    lake.add_argument("--endpoint", metavar="URL", help="another S3 service than AWS's")
    lake.add_argument("--region", metavar="R", help="region of the bucket")
    lake.add_argument("--storage-class", metavar="CLASS", help="class of S3 for new data")
    lake.add_argument("--credentials", metavar="NAME", help="an aws-credentials block; without, the machine's role")
    pool = made.add_argument_group("the work pool")
    pool.add_argument("--pool", metavar="KIND", default="process", help="process (default) or ecs")
    pool.add_argument(
        "--variable", metavar="NAME=VALUE", action="append", default=[],
        help="a default of the pool's job template, as YAML: cluster=weatherlake (again for another)",
    )  # fmt: skip
    made.add_argument("--notify", metavar="TYPE/NAME", help="a notification block: tell of runs that fail or crash")
    made.add_argument("--file", metavar="FILE", type=Path, help="another prefect.yaml than the project's")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Register; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        changes = register(arguments)
    except LakeError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    for change in changes:
        print(change.sentence(arguments.plan))
    new = sum(change.action != "keep" for change in changes)
    print(f"{new} of {len(changes)} {'would change' if arguments.plan else 'changed'}" if new else "nothing to change")
    return ExitCode.DONE


def register(arguments: argparse.Namespace) -> list[Any]:
    """Do it, or with ``--plan`` find out; what became of each thing. Raises ``LakeError``."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    from . import automations, deployed, infrastructure

    url = PREFECT_API_URL.value()
    if not url:
        raise UsageError("no Prefect server is configured", expected="PREFECT_API_URL", found="nothing")
    plan: bool = arguments.plan
    variables = dict(parse_setting(text) for text in arguments.variable)
    options = {"endpoint": arguments.endpoint, "region": arguments.region, "storage_class": arguments.storage_class}
    given = {key: value for key, value in options.items() if value is not None}
    if (given or arguments.credentials) and arguments.lake is None:
        raise UsageError("endpoint, region, storage class and credentials go with --lake")
    file = arguments.file or deployed.FILE
    entries = deployed.read(file)
    recipes = sorted({e["parameters"]["recipe"] for e in entries if "recipe" in (e.get("parameters") or {})})
    try:
        with get_client(sync_client=True) as client:
            changes = infrastructure.block_types(client, plan)
            changes.append(infrastructure.lake_block(arguments.lake, arguments.credentials, given, plan))
            changes.append(infrastructure.pool(client, POOL, arguments.pool, variables, plan))
            changes += infrastructure.limits(client, recipes, plan)
            changes += deployed.deploy(client, entries, plan, file)
            changes += automations.register(client, _automations(client, recipes, arguments.notify), plan)
            return changes
    except PrefectHTTPStatusError as error:
        said = " ".join(error.response.text.split())[:200]
        raise LakeError(f"the Prefect server refuses ({error.response.status_code}: {said})") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"the Prefect server at {url} does not answer ({type(error).__name__})") from None


def _automations(client: Any, recipes: Sequence[str], notify: str | None) -> list[Any]:
    from tasks.lake import recipe as known

    from . import automations, deployed

    wanted = [automations.zombies(), automations.crashes()]
    if notify:
        slug, _, name = notify.partition("/")
        try:
            block = client.read_block_document_by_name(name, slug)
        except Exception as error:
            raise UsageError(f"there is no block {notify} ({type(error).__name__})") from None
        wanted.append(automations.notice(block.id))
    for recipe in recipes:
        pipeline = deployed.find(client, f"pipeline/{recipe}")
        if pipeline is not None and known.kind_of(recipe) == "forecast":
            wanted.append(automations.available(recipe, pipeline.id))
    return wanted


if __name__ == "__main__":
    raise SystemExit(main())
