"""The metadata of a recipe's cube against what is checked in: ``python -m flows.template RECIPE``."""

import argparse
import sys
from collections.abc import Sequence

import orjson

from tasks.lake.errors import ExitCode, LakeError, NotFound, UsageError


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    from tasks.lake import recipe as recipes

    made = argparse.ArgumentParser(
        prog="python -m flows.template",
        description="Show how the metadata of a forecast recipe's cube differs from deployments/templates/RECIPE.",
        epilog="exit codes: 0 no difference, or written; 1 they differ; 2 wrong usage or recipe",
    )
    made.add_argument("recipe", metavar="RECIPE", help=f"name of a recipe ({', '.join(recipes.names())}) or a file")
    made.add_argument("--lake", metavar="URL", help="take what this lake learnt of the source; else what is checked in")
    made.add_argument("--write", action="store_true", help="make it what is checked in")
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, or write; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        lines, written = _done(arguments)
    except LakeError as error:
        if arguments.json:
            print(orjson.dumps({"recipe": arguments.recipe, "error": str(error)}).decode())
        print(f"error: {error}", file=sys.stderr)
        return int(UsageError.exit_code if isinstance(error, NotFound) else error.exit_code)
    if arguments.json:
        print(orjson.dumps({"recipe": arguments.recipe, "differences": lines, "written": written}).decode())
    else:
        from rich.console import Console
        from rich.syntax import Syntax

        console = Console()
        if lines:
            console.print(Syntax("\n".join(lines), "diff", background_color="default"))
        for path in written:
            print(f"wrote {path}")
        if not lines and not written:
            print(f"{arguments.recipe}: as checked in")
    return int(ExitCode.FAILED if lines and not written else ExitCode.DONE)


def _done(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    from tasks.forecasts import metadata
    from tasks.forecasts.recipe import ForecastRecipe
    from tasks.forecasts.template import load
    from tasks.lake import recipe as recipes
    from tasks.lake.lake import open_lake
    from tasks.lake.phase import Context

    from .lakes import url_of

    recipe = recipes.load(arguments.recipe)
    if not isinstance(recipe, ForecastRecipe):
        raise UsageError(f"{recipe.name} is no forecast: only their cubes have templates")
    template = load(Context(open_lake(url_of(arguments.lake)), recipe)) if arguments.lake else metadata.learnt(recipe)
    try:
        lines = metadata.differences(template, recipe)
    except NotFound:
        if not arguments.write:
            raise
        lines = []
    if not arguments.write:
        return lines, []
    return lines, [str(path) for path in metadata.write(template, recipe)]


if __name__ == "__main__":
    raise SystemExit(main())
