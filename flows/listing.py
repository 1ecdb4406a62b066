"""What a lake holds, by its catalogue: ``python -m flows.export --list [RECIPE] [--json]``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from tasks.lake import catalogue
from tasks.lake.errors import ExitCode, LakeError
from tasks.lake.lake import open_lake
from tasks.report import Progress

from .lakes import url_of
from .request import DEFAULT_LAKE, Request

FLAG = "--list"


class Named:
    """The flag in the help of ``flows.export``; the command itself is `main`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the flag."""
        parser.add_argument(FLAG, action="store_true", help="list what is there, of RECIPE or of all; export nothing")

    def before(self, arguments: argparse.Namespace, request: Request, progress: Progress) -> None:
        """Nothing: with the flag another command runs."""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.export",
        description="List what was published and exported, by the lake's STAC catalogue (catalogue/catalog.json).",
    )
    made.add_argument(FLAG, action="store_true", required=True, help="list, and export nothing")
    made.add_argument("recipe", metavar="RECIPE", nargs="?", help="name of a recipe; all when absent")
    made.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """List; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        lake = open_lake(url_of(arguments.lake))
        found = [_entry(item) for item in catalogue.items(lake, arguments.recipe)]
        _print(lake.url.split("?")[0], found, arguments)
    except BrokenPipeError:
        return 1
    except LakeError as error:
        if arguments.json:
            print(orjson.dumps({"error": str(error)}).decode())
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    return ExitCode.DONE


def _print(lake: str, found: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    if arguments.json:
        sys.stdout.write(orjson.dumps({"lake": lake, "items": found}).decode() + "\n")
        sys.stdout.flush()
    elif found:
        _table(found)
    else:
        of = f" of {arguments.recipe}" if arguments.recipe else ""
        print(f"nothing{of} is in the catalogue of {lake}", file=sys.stderr)


def _entry(item: catalogue.Item) -> dict[str, Any]:
    """An item with the assets as keys of the lake, where they lie in it."""
    properties = item["properties"]
    inside = catalogue.from_item("")
    assets = [
        {
            "name": name,
            "place": asset["href"].removeprefix(inside),
            "type": asset.get("type"),
            "bytes": asset.get("file:size"),
            "checksum": asset.get("file:checksum"),
        }
        for name, asset in item["assets"].items()
    ]
    return {
        "recipe": item["collection"],
        "id": item["id"],
        "time": properties["datetime"],
        "zone": properties.get("weatherlake:zone"),
        "verdict": properties.get("weatherlake:verdict"),
        "assets": assets,
    }


def _table(found: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("recipe", "item", "verdict", "asset", "size", "place")
    for entry in found:
        first = (entry["recipe"], entry["id"], entry["verdict"] or "")
        for n, asset in enumerate(entry["assets"]):
            size = decimal(asset["bytes"]) if asset["bytes"] is not None else ""
            table.add_row(*(first if n == 0 else ("", "", "")), asset["name"], size, asset["place"])
        table.add_section()
    for column in table.columns:
        column.overflow = "fold"
    console = Console()
    if not console.is_terminal:
        # For a pager or a file: places are there to be copied, in one piece.
        console.width = 200
    console.print(table)
