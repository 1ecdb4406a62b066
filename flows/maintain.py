"""What a lake needs now and then: ``python -m flows.maintain RECIPE --raw delete``."""

import argparse
import sys
from collections.abc import Sequence

import orjson

from tasks.forecasts.recipe import ForecastRecipe
from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError, UsageError
from tasks.lake.lake import open_lake
from tasks.lake.phase import Context
from tasks.lake.storage_class import CLASSES

from .phase import DEFAULT_LAKE, Request


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.maintain",
        description="Remove copies of the provider's bytes, or move them to a colder class, once a run is published.",
    )
    made.add_argument(
        "recipe", metavar="RECIPE", help=f"name of a recipe ({', '.join(recipes.names())}) or a YAML file"
    )
    made.add_argument(
        "--raw", required=True, choices=["delete", *CLASSES], metavar="WHAT",
        help=f"delete, or a storage class of S3: {', '.join(CLASSES)}",
    )  # fmt: skip
    which = made.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="R", help="one run, such as 2026-11-20T00")
    which.add_argument("--start", metavar="A", help="first run of a range (2026-11-20 or 2026-11-20T00)")
    made.add_argument("--end", metavar="B", help="last run of a range")
    made.add_argument("--plan", action="store_true", help="say what there is to do, and do nothing")
    made.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        rows = _rows(arguments)
    except LakeError as error:
        if arguments.json:
            print(orjson.dumps({"recipe": arguments.recipe, "error": str(error)}).decode())
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    if arguments.json:
        print(orjson.dumps({"recipe": arguments.recipe, "raw": arguments.raw, "runs": rows}).decode())
    else:
        from .show import size

        verb = "would be" if arguments.plan else "were"
        done = "deleted" if arguments.raw == "delete" else f"moved to {arguments.raw}"
        for row in rows:
            print(f"{row['run']}: {row['objects']} copies ({size(int(row['bytes']))}) {verb} {done}")
    return ExitCode.DONE


def _rows(arguments: argparse.Namespace) -> list[dict[str, str | int]]:
    from tasks.forecasts.retire import copies, retire
    from tasks.forecasts.runs import ingested_scopes

    request = Request(arguments.recipe, arguments.run, arguments.start, arguments.end)
    recipe = request.load()
    if not isinstance(recipe, ForecastRecipe):
        raise UsageError(f"{recipe.name} is no forecast: it has no raw copies of runs")
    context = Context(open_lake(arguments.lake), recipe)
    rows: list[dict[str, str | int]] = []
    for scope in ingested_scopes(context, request.window):
        if arguments.plan:
            found = [o for outputs in copies(context, scope).values() for o in outputs]
            rows.append({"run": scope, "objects": len(found), "bytes": sum(o.bytes for o in found)})
        else:
            done = retire(context, scope, arguments.raw)
            rows.append({"run": scope, "objects": done.objects, "bytes": done.bytes})
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
