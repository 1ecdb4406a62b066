"""What a person decides about a run's verdict: release cells of it, or have its bad cells fetched again."""

import argparse
from dataclasses import dataclass
from typing import Any

from tasks import kinds
from tasks.lake.errors import ExitCode, LakeError, UsageError
from tasks.lake.phase import Context
from tasks.report import Progress

from . import runtime
from .phase import Request, run


@dataclass(frozen=True, slots=True)
class Decision:
    """Cells to release (``tp/024-m01``, a variable, ``all``), by whom and why; whether to fetch bad cells again."""

    release: tuple[str, ...] = ()
    by: str = ""
    why: str = ""
    redrive: bool = False


class Decide:
    """The arguments of `flows.validate` beyond those of every flow (see `command.Extra`)."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--release``, ``--by``, ``--why`` and ``--redrive``."""
        group = parser.add_argument_group("what a person decides (of one run, once it has a verdict)")
        group.add_argument(
            "--release", action="append", default=[], metavar="CELL",
            help="use a quarantined cell (tp/024-m01) all the same, a variable, or all of the run; may be repeated",
        )  # fmt: skip
        group.add_argument("--by", default="", metavar="NAME", help="who releases")
        group.add_argument("--why", default="", metavar="TEXT", help="why; both are kept with the verdict")
        group.add_argument(
            "--redrive", action="store_true", help="fetch quarantined cells again, from a mirror when there is one"
        )

    def before(self, arguments: argparse.Namespace, request: Request, progress: Progress) -> None:
        """Do what was decided."""
        decision = Decision(tuple(arguments.release), arguments.by, arguments.why, arguments.redrive)
        decide(request, decision, progress)


def decide(request: Request, decision: Decision, progress: Progress) -> None:
    """Record what was released; fetch again what is to be and refine it. Raises ``UsageError`` and changes nothing
    when the run has no verdict, or there is nothing of that to decide about."""
    if not decision.release and not decision.redrive:
        if decision.by or decision.why:
            raise UsageError("--by and --why go with --release")
        return
    recipe = request.load()
    if recipe.kind != "forecast":
        raise UsageError(f"--release and --redrive are for forecast recipes; {recipe.name} is a {recipe.kind} recipe")
    from tasks.forecasts import redrive, release

    context: Context[Any] = Context(request.open(), recipe)
    scopes = kinds.phase(recipe, "validate").scopes(context, request.window)
    if len(scopes) != 1:
        raise UsageError("a decision is about one run", expected="--run R", found=f"{len(scopes)} runs")
    if decision.release:
        waivers = release.release(context, scopes[0], decision.release, decision.by, decision.why)
        progress.said(f"released by {decision.by}: {', '.join(w.cell for w in waivers)}")
    if decision.redrive:
        found = redrive.redrive(context, scopes[0])
        progress.said(f"{len(found.done)} cell(s) have another message now, {len(found.left)} have none")
        for cell, reason in found.left.items():
            progress.said(f"{cell}: {reason}")
        if found.done:
            _refine(request, progress)


def _refine(request: Request, progress: Progress) -> None:
    """Have the partitions refined that the new messages belong to: they are stale now, and no others are."""
    with runtime.executor(runtime.Place(None, runtime.slots_here(), ""), prefect=False) as place:
        report = run(request, "refine", place, progress)
    if report.exit_code is not ExitCode.DONE:
        first = report.problems[0] if report.problems else report.status
        raise LakeError(f"the new messages could not be refined: {first}")
