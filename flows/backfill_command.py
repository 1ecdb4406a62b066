"""The command line of `flows.backfill`, and what it shares with the flow: what is asked for, and the tables."""

import argparse
import contextvars
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tasks.backfill.drive import Driven
from tasks.backfill.estimate import Amount, total
from tasks.backfill.range import Backfill, forecast, label, scopes_of
from tasks.backfill.survey import Run
from tasks.executor import Executor
from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, LakeError, UsageError, as_lake_error
from tasks.lake.ledger import Select
from tasks.lake.phase import Context
from tasks.lake.recipe import PHASES
from tasks.lake.settings import parse_setting
from tasks.report import Progress, Report

from . import runtime
from .request import DEFAULT_LAKE, Request

FLOWS = ("pipeline", *PHASES)
MAX_ACTIVE = 2


@dataclass(frozen=True, slots=True)
class Ask:
    """What a backfill is asked for: the request for each of its runs, and what is said of all of them."""

    request: Request
    runs: tuple[str, ...] = ()
    phase: str = "pipeline"
    order: Any = "newest"
    max_active: int = MAX_ACTIVE
    budget: float | None = None

    def look(self) -> Backfill:
        """The range as it is. Raises ``UsageError``."""
        if self.max_active < 1:
            raise UsageError("runs at once are a number", expected="1 or more", found=self.max_active)
        if self.budget is not None and self.budget < 0:
            raise UsageError("the budget is an amount of USD", expected="0 or more", found=self.budget)
        if self.phase not in FLOWS:
            raise UsageError("there is no such flow", expected=" or ".join(FLOWS), found=self.phase)
        if self.order not in ("newest", "oldest"):
            raise UsageError("runs are taken in an order", expected="newest or oldest", found=self.order)
        recipe, lake = forecast(self.request.load()), self.request.open()
        scopes = scopes_of(Context(lake, recipe), self.request.window, self.runs)
        return Backfill.of(
            lake, recipe, scopes, self.phase, Select(self.request.select), self.order, self.request.force
        )

    def one(self, found: Backfill, scope: str, cluster: str) -> dict[str, Any]:
        """The parameters of the flow for one run."""
        asked = self.request
        return {
            "recipe": asked.recipe, "run": scope, "lake": asked.lake, "select": str(found.within),
            "force": asked.force, "cluster": cluster, "settings": dict(asked.settings or {}),
        }  # fmt: skip

    def drive(self, found: Backfill, work: Callable[[str], list[Report]], say: Callable[[str], None]) -> Driven:
        """Work through the range with ``work``, a run at a time in each of its threads."""
        count = len(found.taken)

        def tell(scope: str, so_far: Driven) -> None:
            over = len(so_far.reports) + len(so_far.errors)
            error = so_far.errors.get(scope)
            last = so_far.reports[scope][-1] if scope in so_far.reports else None
            what = str(error) if error else f"{last.phase} {last.status}" if last else "over"
            say(f"{scope}: {what} ({over} of {count}, about {so_far.spent:.2f} USD so far)")

        made = found.drive(work, at_once=self.max_active, budget=self.budget, force=self.request.force, tell=tell)
        if made.left:
            first = found.estimate(made.left[0], self.request.force).usd
            say(
                f"the budget of {self.budget:g} USD is used up: {made.spent:.4f} were spent, {made.left[0]} would take "
                f"{first:.4f}; {len(made.left)} run(s) are left"
            )
        return made


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m flows.backfill",
        description="Bring a range of runs to its end: what is missing, failed or stale is done, what is done is not.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "recipe", metavar="RECIPE", help=f"a forecast recipe ({', '.join(recipes.names())}) or a YAML file"
    )
    which = made.add_argument_group("which runs (UTC)")
    which.add_argument("--start", metavar="A", help="first run of a range (2026-11-20 or 2026-11-20T00)")
    which.add_argument("--end", metavar="B", help="last run of the range (default: the latest)")
    which.add_argument(
        "--runs", nargs="+", default=[], metavar="KEY",
        help="in the place of a range: runs, or partitions such as 2026-11-20T00/step-006, which mean their runs",
    )  # fmt: skip
    which.add_argument(
        "--select", choices=[str(s) for s in Select], default=str(Select.MISSING),
        help="runs of which something is missing (default), failed, is stale, or all that are not done",
    )  # fmt: skip
    which.add_argument(
        "--order", choices=("newest", "oldest"), default="newest", help="which run comes first (default: newest)"
    )
    what = made.add_argument_group("what of them")
    what.add_argument("--phase", choices=FLOWS, default="pipeline", help="one phase, or all five (default)")
    what.add_argument("--force", action="store_true", help="do again what is done, too")
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                      help="a key of the recipe, for these runs (again for another key)")  # fmt: skip
    how = made.add_argument_group("how")
    how.add_argument(
        "--plan", action="store_true", help="print every run's state, and what it will take: bytes, requests, money"
    )
    how.add_argument(
        "--budget", metavar="USD", type=float, help="begin no run with which the estimate would go beyond this"
    )
    how.add_argument(
        "--max-active", metavar="N", type=int, default=MAX_ACTIVE, help="runs worked on at once (default: %(default)s)"
    )
    how.add_argument("--lake", metavar="URL", default=DEFAULT_LAKE, help="the lake (default: %(default)s)")
    how.add_argument("--cluster", metavar="NAME", default="local", help="one cluster for all runs, as of every flow")
    how.add_argument("--no-prefect", action="store_true", help="run without Prefect")
    made.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on standard output")
    return made


_EXIT_CODES = """\
exit codes:
  0  every run that was taken is done
  1  some partition failed for good
  2  wrong usage or recipe
  3  validation held data back
  4  transient failure, or the budget is used up: the same command goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return _main(arguments)
    except (LakeError, KeyboardInterrupt) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        failure = LakeError("interrupted; the same command goes on from here") if stopped else as_lake_error(error)
        code = 130 if stopped else int(failure.exit_code)
        if arguments.json:
            document = {"recipe": arguments.recipe, "error": str(failure), "exit_code": code, "runs": []}
            print(orjson.dumps(document).decode())
        print(f"error: {failure}", file=sys.stderr)
        return code


def _main(arguments: argparse.Namespace) -> int:
    request = Request(
        recipe=arguments.recipe, start=arguments.start, end=arguments.end, lake=arguments.lake,
        select=arguments.select, force=arguments.force, cluster=arguments.cluster,
        settings=dict(parse_setting(text) for text in arguments.settings),
    )  # fmt: skip
    ask = Ask(request, tuple(arguments.runs), arguments.phase, arguments.order, arguments.max_active, arguments.budget)
    runtime.quiet()
    found = ask.look()
    if arguments.plan:
        return _show(ask, found, None, arguments.json)
    progress = _progress(arguments.json)
    if not found.taken:
        made = Driven()
        progress.said("nothing to do; neither Prefect nor a cluster was started")
    elif arguments.no_prefect:
        with runtime.open_cluster(request.cluster) as place, runtime.executor(place, prefect=False) as running:
            progress.said(f"{len(found.taken)} run(s) without Prefect, on {place.description}")
            made = ask.drive(found, _plain(ask, found, running), progress.said)
    else:
        made = _with_prefect(ask, found, progress)
    return _show(ask, found, made, arguments.json)


def _progress(as_json: bool) -> Progress:
    if as_json:
        return Progress()
    from .show import Terminal

    return Terminal()


def _plain(ask: Ask, found: Backfill, running: Executor) -> Callable[[str], list[Report]]:
    """Works on one run without Prefect: its phases one after the other, on an executor that all runs share."""
    from .phase import run

    def work(scope: str) -> list[Report]:
        reports: list[Report] = []
        request = Request(**ask.one(found, scope, "none"))
        for phase in found.phases:
            reports.append(run(request, phase, running))
            if reports[-1].exit_code is not ExitCode.DONE:
                break
        return reports

    return work


def as_flows(ask: Ask, found: Backfill, cluster: str) -> Callable[[str], list[Report]]:
    """Works on one run as a flow run inside the current one, on a cluster that is open."""
    import importlib

    from .phase import PhaseFailed, reported

    flow: Any = getattr(importlib.import_module(f"flows.{ask.phase}"), ask.phase)
    here = contextvars.copy_context()

    def work(scope: str) -> list[Report]:
        reports: list[Report] = []

        def mine(report: Report) -> None:
            if report.scopes == (scope,):
                reports.append(report)

        def call() -> None:
            try:
                flow(**ask.one(found, scope, cluster))
            except PhaseFailed:
                # Its report is among the others.
                if not reports:
                    raise

        with reported(mine):
            here.copy().run(call)
        return reports

    return work


def _with_prefect(ask: Ask, found: Backfill, progress: Progress) -> Driven:
    from .server import Server

    server = Server()
    server.start()
    try:
        with server.ready() as description:
            progress.said(f"{len(found.taken)} run(s) with {description}")
            from .backfill import driven

            return driven(ask, progress.said)
    finally:
        server.stop()


# -- what a person sees ------------------------------------------------------------------------------------------


def document(ask: Ask, found: Backfill, made: Driven | None, runs: Sequence[Run]) -> dict[str, Any]:
    """Everything as JSON values."""
    code = ExitCode.DONE if made is None else made.exit_code
    amounts = {s: found.estimate(s, ask.request.force) for s in found.taken}
    rows = []
    for run in runs:
        row: dict[str, Any] = {"run": run.scope, "taken": run.scope in amounts}
        row["phases"] = {p: str(c) for p, c in run.cells.items()}
        if why := next((c.waits for c in run.cells.values() if c.waits), None):
            row["waits"] = why
        if run.scope in amounts:
            row["estimate"] = _amount(amounts[run.scope])
        if made is not None and run.scope in made.errors:
            row["error"] = str(made.errors[run.scope])
        if made is not None and run.scope in made.reports:
            row["problems"] = [p for r in made.reports[run.scope] for p in r.problems]
        rows.append(row)
    told: dict[str, Any] = {"recipe": found.context.recipe.name, "flow": "backfill", "phase": ask.phase}
    told |= {"plan": made is None, "exit_code": int(code), "runs": rows, "rates": found.rates.sentences()}
    told |= {"order": list(found.taken), "estimate": _amount(total(amounts.values())), "budget": ask.budget}
    if made is not None:
        told |= {"spent_usd": round(made.spent, 6), "left": made.left}
    return told


def _amount(amount: Amount) -> dict[str, float]:
    return {
        "bytes_read": round(amount.read), "bytes_kept": round(amount.kept),
        "requests": round(amount.gets + amount.puts), "worker_hours": round(amount.seconds / 3600, 6),
        "usd": round(amount.usd, 6), "usd_month": round(amount.usd_month, 6),
    }  # fmt: skip


def table_rows(told: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per run of the whole range, for a table artifact."""
    return [
        {"run": r["run"], **r["phases"], "USD": r.get("estimate", {}).get("usd", ""), "problem": _problem(r)}
        for r in told["runs"]
    ]


def _problem(row: dict[str, Any]) -> str:
    return row.get("error") or next(iter(row.get("problems", ())), "")


def _show(ask: Ask, found: Backfill, made: Driven | None, as_json: bool) -> int:
    told = document(ask, found, made, found.runs if made is None or not found.taken else found.again())
    if as_json:
        sys.stdout.write(orjson.dumps(told).decode() + "\n")
        return told["exit_code"]
    from rich.table import Table

    from .show import size, wide

    console = wide()
    title = f"{told['recipe']} {label([r.scope for r in found.runs])}: {len(found.taken)} of {len(found.runs)} run(s)"
    table = Table(title=f"{title} {'would be' if made is None else 'were'} taken", title_justify="left")
    table.add_column("run")
    for phase in found.phases:
        table.add_column(phase)
    numbers = ("read", "kept", "requests", "worker-h", "USD")
    for name in numbers if made is None else ():
        table.add_column(name, justify="right")
    for row in told["runs"]:
        table.add_row(row["run"], *map(_coloured, row["phases"].values()), *_cells(row.get("estimate"), size, made))
    if made is None and found.taken:
        table.add_section()
        table.add_row("all", *[""] * len(found.phases), *_cells(told["estimate"], size, made))
    console.print(table)
    for line in told["rates"] if made is None else ():
        console.print(line, highlight=False, soft_wrap=True)
    if made is None:
        month = f"what is kept, before compression, costs {told['estimate']['usd_month']:.4f} USD a month"
        console.print(f"order: {' '.join(found.taken[:3])}{' ...' if len(found.taken) > 3 else ''}; {month}")
    for row in told["runs"]:
        # That a phase waits for the one before needs no word; a provider that does not answer does.
        first = row.get("waits") if next(iter(row["phases"].values())) == "waits" else None
        if said := _problem(row) or first:
            console.print(f"{row['run']}: {said}", highlight=False, markup=False, soft_wrap=True)
    return told["exit_code"]


def _cells(amount: dict[str, float] | None, size: Callable[[float], str], made: Driven | None) -> list[str]:
    if made is not None:
        return []
    if amount is None:
        return [""] * 5
    hours, usd = amount["worker_hours"], amount["usd"]
    return [
        size(amount["bytes_read"]),
        size(amount["bytes_kept"]),
        f"{amount['requests']:.0f}",
        f"{hours:.4f}",
        f"{usd:.4f}",
    ]


def _coloured(text: str) -> str:
    colours = {"done": "green", "nothing": "dim", "waits": "dim", "held": "yellow", "-": "dim"}
    colour = colours.get(text, "red" if text.startswith(("failed", "retry", "lost")) else "cyan")
    return f"[{colour}]{text}[/{colour}]"
