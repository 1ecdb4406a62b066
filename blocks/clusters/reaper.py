"""Removes what clusters have left on AWS when it has outlived its tag: ``python -m blocks.clusters.reaper [--plan]``.

A cluster removes itself, and ends itself when nobody is there to do that (`node`). The reaper is for what neither can:
task definitions, security groups, keys and ECS clusters of a run that was killed, and machines that hang.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from tasks.lake.errors import ExitCode, LakeError, UsageError

from .aws.resources import WAIT, Reaped, find, remove
from .aws.settings import typed
from .aws.tags import EXPIRES, expires

__all__ = ["Reaped", "main", "reap"]


def reap(
    *, dry_run: bool, regions: Sequence[str] = (), now: datetime | None = None, wait: float = WAIT
) -> list[Reaped]:
    """Remove everything whose tag ``weatherlake:expires`` is over; with ``dry_run`` only say what that is.

    Looks in the given regions, or else in the one of the environment. What is not tagged, or whose tag cannot be read,
    is never touched. Machines are given ``wait`` seconds to end. What cannot be removed then comes back with its
    ``problem``. Raises ``LakeError``.
    """
    try:
        import boto3
    except ImportError:
        raise UsageError("the reaper needs the extra 'aws'") from None
    at = now or datetime.now(UTC)

    def wanted(tags: Mapping[str, str]) -> str | None:
        until = expires(tags)
        return f"{EXPIRES} {tags[EXPIRES]} is over" if until is not None and until < at else None

    found: list[Reaped] = []
    for region in regions or (_region(),):
        session = boto3.session.Session(region_name=region)
        with typed(f"the resources in {region} cannot be looked through"):
            here = find(session, wanted)
        if not dry_run:
            left = {(r.kind, r.identifier): r for r in remove(session, here, wait)}
            here = [left.get((r.kind, r.identifier), r) for r in here]
        found += here
    return found


def _region() -> str:
    import boto3

    region = os.environ.get("AWS_REGION") or boto3.session.Session().region_name
    if not region:
        raise UsageError("no region is configured: --region says where to look")
    return region


def main(argv: Sequence[str] | None = None) -> int:
    """Reap from the command line; the exit code: 0 done, 4 something is left for later, 2 and others on errors."""
    parser = argparse.ArgumentParser(prog="python -m blocks.clusters.reaper", description=__doc__)
    parser.add_argument("--plan", action="store_true", help="print what would be removed, and remove nothing")
    parser.add_argument(
        "--region", action="append", default=[], metavar="R", help="region to look in (again for another)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON array, and nothing else, on standard output"
    )
    given = parser.parse_args(argv)
    try:
        found = reap(dry_run=given.plan, regions=given.region)
    except LakeError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    if given.json:
        sys.stdout.write(orjson.dumps([_row(r) for r in found]).decode() + "\n")
    else:
        for line in _lines(found, given.plan):
            print(line)
    return ExitCode.TRANSIENT if any(r.problem for r in found) else ExitCode.DONE


def _row(resource: Reaped) -> dict[str, Any]:
    return {k: v for k, v in asdict(resource).items() if v is not None}


def _lines(found: Sequence[Reaped], planned: bool) -> list[str]:
    lines = []
    for resource in found:
        done = f"left ({resource.problem})" if resource.problem else "would be removed" if planned else "removed"
        lines.append(f"{resource.kind} {resource.identifier or '(any)'}: {done}; {resource.reason}")
    return lines or ["nothing has outlived its tag"]


if __name__ == "__main__":
    raise SystemExit(main())
