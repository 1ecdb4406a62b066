"""The command line of `flows.maintain`: needs neither Prefect nor a cluster."""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from tasks.lake import recipe as recipes
from tasks.lake.errors import LakeError, UsageError
from tasks.lake.lake import open_lake
from tasks.lake.phase import Context
from tasks.lake.storage_class import CLASSES
from tasks.upkeep import chores
from tasks.upkeep.chore import Chore, counted

from .lakes import url_of
from .request import DEFAULT_LAKE, Request

CLUSTERS = "clusters"

WHAT = {
    CLUSTERS: "end clusters in AWS whose owner is gone (they carry weatherlake's tags and an expiry)",
    "leases": "free what is claimed by somebody whose lease ran out",
    "staging": "delete the forks of published runs, or move them to a colder class",
    "raw": "delete the copies of published runs, or move them to a colder class",
    "cubes": "expire versions older than the recipe keeps, and collect garbage",
    "audit": "are outputs there, are their bytes those recorded (a sample), did the provider change its files?",
    "freshness": "the newest published run against the provider's schedule",
    "cost": "bytes by zone and storage class, and about what they cost a month",
}


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What is asked for: which chores of which recipe, where, and how."""

    recipe: str
    chores: tuple[str, ...] = ()
    run: str | None = None
    start: str | None = None
    end: str | None = None
    lake: str = DEFAULT_LAKE
    staging: Any = None
    raw: str | None = None
    grace_hours: float | None = None
    plan: bool = False


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.maintain",
        description="What a lake needs now and then. Without a chore: all of them, as the recipe's 'retention' says.",
        epilog="chores:\n" + "\n".join(f"  {name:<10} {what}" for name, what in WHAT.items()) + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "recipe", metavar="RECIPE", help=f"name of a recipe ({', '.join(recipes.names())}) or a YAML file"
    )
    made.add_argument("chores", metavar="CHORE", nargs="*", help="which chores (see below); all when none is named")
    fates = ["delete", *CLASSES]
    made.add_argument(
        "--raw", choices=fates, metavar="WHAT",
        help=f"the chore raw: delete the copies, or move them to a storage class of S3: {', '.join(CLASSES)}",
    )  # fmt: skip
    made.add_argument("--staging", choices=fates, metavar="WHAT", help="the chore staging, likewise")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="R", help="whose copies: one run, such as 2026-11-20T00")
    which.add_argument("--start", metavar="A", help="whose copies: first run of a range")
    made.add_argument("--end", metavar="B", help="last run of that range")
    made.add_argument(
        "--grace", metavar="HOURS", type=float, help="leave garbage of cubes that is younger than this (default: 1)"
    )
    made.add_argument("--plan", action="store_true", help="say what there is to do, and do nothing")
    made.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


_EXIT_CODES = """

exit codes:
  0  all is well
  1  the audit found outputs missing or changed
  2  wrong usage or recipe
  4  something is late, or could not be done now
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; the exit code."""
    arguments = parser().parse_intermixed_args(argv)
    named = [n for n, given in (("raw", arguments.raw), ("staging", arguments.staging)) if given]
    wanted = tuple(dict.fromkeys([*arguments.chores, *named]))
    asked = Upkeep(
        arguments.recipe, wanted, arguments.run, arguments.start, arguments.end, arguments.lake,
        arguments.staging, arguments.raw, arguments.grace, arguments.plan,
    )  # fmt: skip
    done: list[Chore] = []
    try:
        for chore in chores_of(asked):
            done.append(chore)
            if not arguments.json:
                _show(chore)
    except LakeError as error:
        if arguments.json:
            document = {"recipe": arguments.recipe, "error": str(error), "exit_code": int(error.exit_code)}
            print(orjson.dumps(document | {"chores": [c.as_json() for c in done]}).decode())
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    code = chores.exit_code(done)
    if arguments.json:
        document = {"recipe": arguments.recipe, "plan": arguments.plan, "exit_code": int(code)}
        print(orjson.dumps(document | {"chores": [c.as_json() for c in done]}).decode())
    return code


def chores_of(asked: Upkeep) -> Iterator[Chore]:
    """Do the chores one after the other. Raises ``UsageError``, before any is done, for what cannot be."""
    request = Request(asked.recipe, asked.run, asked.start, asked.end)
    recipe = request.load()
    context: Context[Any] = Context(open_lake(url_of(asked.lake)), recipe)
    known = [CLUSTERS, *chores.names(context)]
    unknown = [name for name in asked.chores if name not in known]
    if unknown:
        raise UsageError(
            f"{recipe.kind} recipes have no chore {unknown[0]!r}", expected=", ".join(known), found=unknown[0]
        )
    if asked.grace_hours is not None and asked.grace_hours < 0:
        raise UsageError("the grace is a number of hours", expected="0 or more", found=asked.grace_hours)
    how = chores.How(
        dry_run=asked.plan, staging=asked.staging, raw=asked.raw, runs=_runs(context, request, asked),
        grace=chores.GRACE if asked.grace_hours is None else timedelta(hours=asked.grace_hours),
    )  # fmt: skip
    return _each([n for n in known if n in asked.chores or not asked.chores], context, how)


def _each(wanted: Sequence[str], context: Context[Any], how: chores.How) -> Iterator[Chore]:
    for name in wanted:
        yield _clusters(how.dry_run) if name == CLUSTERS else chores.do(name, context, how)


def _runs(context: Context[Any], request: Request, asked: Upkeep) -> list[str] | None:
    """The runs whose copies are meant: those named, or with ``--raw`` alone the recipe's own; None for all."""
    if not asked.raw and not (asked.run or asked.start or asked.end):
        return None
    from tasks.forecasts.runs import ingested_scopes

    if context.recipe.kind != "forecast":
        raise UsageError(f"{context.recipe.name} is no forecast: it has no raw copies of runs")
    return ingested_scopes(context, request.window)


def _clusters(dry_run: bool) -> Chore:
    """End what orphaned clusters left in AWS; what there is to say where there is no AWS."""
    columns = ("kind", "identifier", "expires", "reason")
    try:
        boto3, reaper = (importlib.import_module(name) for name in ("boto3", "blocks.clusters.reaper"))
    except ImportError:
        return Chore(CLUSTERS, "clusters in AWS need the extra 'aws': none was looked for", columns)
    if boto3.Session().get_credentials() is None:
        return Chore(CLUSTERS, "there are no AWS credentials here: no clusters were looked for", columns)
    try:
        found = reaper.reap(dry_run=dry_run)
    except LakeError as error:
        return Chore(CLUSTERS, "clusters could not be looked for", columns, problems=(str(error),))
    rows = tuple((r.kind, r.identifier, str(r.expires), r.reason) for r in found)
    said = f"{counted(len(rows), 'orphan')} of clusters {'would be ' if dry_run else ''}ended"
    problems = tuple(f"{r.kind} {r.identifier} could not be ended: {r.problem}" for r in found if r.problem)
    return Chore(CLUSTERS, said, columns, rows, problems, {"reaped": len(rows) - len(problems)})


def _show(chore: Chore) -> None:
    from rich.table import Table

    from .show import size, wide

    console = wide()
    console.print(f"[bold]{chore.name}[/bold]: {chore.summary}", highlight=False, soft_wrap=True)
    if chore.rows:
        table = Table()
        for column in chore.columns:
            numbers = all(isinstance(r[chore.columns.index(column)], int | float | None) for r in chore.rows)
            table.add_column(column, justify="right" if numbers else "left")
        for row in chore.rows:
            cells = (size(v) if c == "bytes" else v for c, v in zip(chore.columns, row, strict=True))
            table.add_row(*("" if v is None else str(v) for v in cells))
        console.print(table)
    for problem in chore.problems:
        console.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)
