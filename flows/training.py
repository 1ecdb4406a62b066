"""A model's output against the data it was trained on: ``python -m flows.training STORE OUTPUT``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

import orjson

from tasks.exports.training_check import MARGIN, Finding, check
from tasks.lake.errors import ExitCode, LakeError, as_lake_error

_EXIT_CODES = """\
exit codes:
  0  every channel is like the training data
  1  some channel is suspect, or a file could not be read
  2  wrong usage
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.training",
        description="Hold a model's output against the statistics of the training store that an export of type "
        "'training' made (docs/exports.md).",
        epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("store", metavar="STORE", help="the training store, such as training.zarr")
    made.add_argument("output", metavar="OUTPUT", help="the model's output: NetCDF or Zarr")
    made.add_argument(
        "--margin", type=float, default=MARGIN, metavar="SHARE",
        help="share of a channel's range by which values may lie outside it (default: %(default)s)",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        findings = check(arguments.store, arguments.output, arguments.margin)
    except (LakeError, OSError) as error:
        failure = as_lake_error(error)
        if arguments.json:
            print(orjson.dumps({"error": str(failure)}).decode())
        print(f"error: {failure}", file=sys.stderr)
        return int(failure.exit_code)
    if arguments.json:
        rows = [{**asdict(f), "verdict": f.verdict} for f in findings]
        print(orjson.dumps({"channels": rows}).decode())
    else:
        _table(findings)
    for finding in findings:
        for problem in finding.problems:
            print(f"{finding.channel}: {problem}", file=sys.stderr)
    return ExitCode.FAILED if any(f.problems for f in findings) else ExitCode.DONE


def _table(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("channel", "unit", "mean", "standard deviation", "minimum", "maximum", "missing", "verdict")
    for f in findings:
        numbers = (f"{v:.6g}" for v in (f.mean, f.standard_deviation, f.minimum, f.maximum))
        table.add_row(f.channel, f.units, *numbers, f"{f.missing:.2%}", f.verdict)
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
