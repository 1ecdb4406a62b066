"""What the ledger says of a recipe, per phase and partition: ``python -m flows.status RECIPE``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError
from tasks.lake.lake import Lake, open_lake
from tasks.lake.ledger import Record, by_status, lease_over, utcnow
from tasks.lake.partition import Status

from .lakes import url_of
from .phase import DEFAULT_LAKE


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.status", description="Show what the ledger says of a recipe, per phase and partition."
    )
    made.add_argument(
        "recipe", metavar="RECIPE", help=f"name of a recipe ({', '.join(recipes.names())}) or a YAML file"
    )
    made.add_argument("--run", metavar="R", help="only this run, such as 2026-11-20T00")
    made.add_argument("--phase", choices=recipes.PHASES, help="only this phase")
    made.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def read(lake: Lake, recipe: str, run: str | None = None, phase: str | None = None) -> dict[str, list[Record]]:
    """The records of every phase, in the order of the phases and of their keys."""
    ledger = lake.ledger(recipe)
    wanted = [phase] if phase else recipes.PHASES
    return {p: list(ledger.read_all(p, run or "").values()) for p in wanted}


def as_json(recipe: str, records: dict[str, list[Record]]) -> dict[str, Any]:
    """The whole state as JSON values."""
    return {
        "recipe": recipe,
        "phases": [
            {"phase": phase, "counts": by_status(found), "partitions": [_row(r) for r in found]}
            for phase, found in records.items()
        ],
    }


def status_of(record: Record) -> str:
    """A record's status as of now: one that runs under a lease that is over is lost."""
    if record.status is Status.RUNNING and lease_over(record, utcnow()):
        return str(Status.LOST)
    return str(record.status)


def _row(record: Record) -> dict[str, Any]:
    return {
        "partition": record.partition, "status": status_of(record), "attempt": record.attempt,
        "started": record.started, "finished": record.finished, "held": record.held,
        "error": record.error.message if record.error else None, "metrics": record.metrics,
        "outputs": [o.uri for o in record.outputs], "bytes": sum(o.bytes for o in record.outputs),
    }  # fmt: skip


def _show(records: dict[str, list[Record]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from .show import size

    console = Console(file=sys.stdout)
    for phase, found in records.items():
        counts = ", ".join(f"{n} {s}" for s, n in sorted(by_status(found).items())) or "nothing yet"
        table = Table(title=f"{phase}: {counts}", title_justify="left")
        for name in ("partition", "status", "attempt", "finished (UTC)", "seconds", "bytes", "remark"):
            table.add_column(name, justify="right" if name in ("attempt", "seconds", "bytes") else "left")
        for record in found:
            finished = f"{record.finished:%Y-%m-%d %H:%M:%S}" if record.finished else ""
            seconds = f"{(record.finished - record.started).total_seconds():.1f}" if record.finished else ""
            # What was found, where finding it was the work: a survey's reason, a run's drift.
            found_out = str(record.metrics.get("note") or record.metrics.get("reason") or "")
            remark = record.held or (record.error.message if record.error else found_out)
            table.add_row(
                record.partition, status_of(record), str(record.attempt), finished, seconds,
                size(sum(o.bytes for o in record.outputs)), remark,
            )  # fmt: skip
        console.print(table if found else f"{phase}: nothing yet")


def main(argv: Sequence[str] | None = None) -> int:
    """Show the ledger; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        name = recipes.load(arguments.recipe).name
        records = read(open_lake(url_of(arguments.lake)), name, arguments.run, arguments.phase)
    except LakeError as error:
        if arguments.json:
            print(orjson.dumps({"recipe": arguments.recipe, "error": str(error)}).decode())
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    if arguments.json:
        print(orjson.dumps(as_json(name, records)).decode())
    else:
        _show(records)
    return ExitCode.DONE


if __name__ == "__main__":
    raise SystemExit(main())
