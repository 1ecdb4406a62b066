"""Published reference files made right: ``python -m flows.references import FILE --recipe R --run R --out FILE``."""

import argparse
import sys
from collections.abc import Sequence

import orjson

from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError, UsageError, as_lake_error
from tasks.lake.lake import Lake
from tasks.lake.objects import Objects
from tasks.lake.phase import Context

from .lakes import url_of
from .phase import DEFAULT_LAKE

_EXIT_CODES = """\
exit codes:
  0  all references are right now
  1  the file is written, but something could not be repaired (or the file could not be read)
  2  wrong usage or recipe
  4  transient failure, try again later
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.references", description="Work on reference files (docs/references.md).",
        epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    read = commands.add_parser(
        "import", help="repair a published kerchunk reference Parquet from the provider's index of its run",
        description="Hold a published kerchunk reference Parquet against the provider's index of its run, and write "
        "it anew with everything that was wrong repaired.",
        epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    known = ", ".join(recipes.names())
    read.add_argument("file", metavar="FILE", help="path or URL of the published file")
    read.add_argument(
        "--recipe", required=True, metavar="RECIPE", help=f"whose source has the run: {known} or a YAML file"
    )
    read.add_argument("--run", required=True, metavar="R", help="the run it is of, such as 2026-11-20T00")
    read.add_argument("--out", required=True, metavar="FILE", help="path or URL of the file to write")
    read.add_argument(
        "--member", type=int, metavar="N", help="ensemble member (0: the control), when the name does not say"
    )
    read.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    read.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return _import(arguments)
    except (LakeError, OSError) as error:
        failure = as_lake_error(error)
        if arguments.json:
            print(orjson.dumps({"file": arguments.file, "error": str(failure)}).decode())
        print(f"error: {failure}", file=sys.stderr)
        return int(failure.exit_code)


def _import(arguments: argparse.Namespace) -> int:
    from tasks.forecasts.recipe import ForecastRecipe
    from tasks.forecasts.references.kerchunk_parquet import to_parquet
    from tasks.forecasts.references.published import load_published

    recipe = recipes.load(arguments.recipe)
    if not isinstance(recipe, ForecastRecipe):
        raise UsageError(f"{arguments.recipe} is a {recipe.kind} recipe; references are of forecasts")
    context = Context(Lake(url_of(arguments.lake)), recipe)
    table, report = load_published(arguments.file, context, arguments.run, arguments.member)
    head, _, query = arguments.out.partition("?")
    folder, _, name = head.rpartition("/")
    store = Objects((folder or ("/" if head.startswith("/") else ".")) + (f"?{query}" if query else ""))
    store.put(name, to_parquet(table))
    if arguments.json:
        print(orjson.dumps({"file": arguments.file, "out": arguments.out, **report.as_json()}).decode())
    else:
        for sentence in report.repaired.values():
            print(f"repaired: {sentence}")
        print(f"{report.references} references in {arguments.out}")
    for sentence in report.unrepaired:
        print(f"not repaired: {sentence}", file=sys.stderr)
    return ExitCode.FAILED if report.unrepaired else ExitCode.DONE


if __name__ == "__main__":
    raise SystemExit(main())
