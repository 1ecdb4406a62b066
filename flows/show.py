"""What a person sees in the terminal: a progress bar, a plan, a summary table."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from tasks.lake.partition import Outcome, Status
from tasks.plan import Plan
from tasks.report import Progress, Report

_watching: list[Progress] = []


def watching() -> Progress:
    """The progress that the command line asked to be told, or one that keeps quiet."""
    return _watching[-1] if _watching else Progress()


def watch(progress: Progress) -> None:
    """Tell this progress of everything from now on: set by the command line before a flow is called."""
    _watching[:] = [progress]


class Terminal(Progress):
    """A progress bar on standard error, and a line for everything that went wrong."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._bar: Bar | None = None
        self._task = None

    def started(self, phase: str, total: int, total_bytes: int) -> None:
        del total_bytes
        if not total:
            return
        if not self.console.is_terminal:
            self.said(f"{phase}: {total} partition(s)")
            return
        columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=self.console)
        self._bar.start()
        self._task = self._bar.add_task(phase, total=total)

    def finished(self, outcome: Outcome) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        if outcome.status not in (Status.DONE, Status.SKIPPED):
            self.said(f"{outcome.status}: {outcome.message or outcome.key}")

    def said(self, sentence: str) -> None:
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def wide() -> Console:
    """Standard output, as wide as tables need where no terminal says otherwise."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=120)


def size(count: float) -> str:
    """Bytes in words: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def summary(reports: Sequence[Report]) -> None:
    """One table of what the phases did, on standard output."""
    table = Table(title=f"{reports[0].recipe}" if reports else None, title_justify="left")
    for name in ("phase", "status", "planned", "skipped", "done", "failed", "lost", "rejected", "seconds"):
        table.add_column(name, justify="left" if name in ("phase", "status") else "right")
    for report in reports:
        counts = [str(report.partitions[n]) for n in ("planned", "skipped", "done", "failed", "lost", "rejected")]
        table.add_row(report.phase, report.status, *counts, f"{report.seconds:.1f}")
    console = wide()
    console.print(table)
    console.print(took(reports), highlight=False)
    for report in reports:
        if report.performance:
            console.print(f"{report.phase}: Dask's performance report is {report.performance}", highlight=False)
        for problem in report.problems:
            console.print(f"{report.phase}: {problem}", highlight=False, markup=False, soft_wrap=True)


def took(reports: Sequence[Report]) -> str:
    """What reports cost together, in a sentence."""
    costs = [r.cost for r in reports]
    usd = [c.usd for c in costs if c.usd is not None]
    money = f"about {sum(usd):.2f} USD" if len(usd) == len(costs) else "at a price nobody knows"
    hours = sum(c.worker_hours for c in costs)
    return f"{hours:.3g} worker-hours, {size(sum(c.bytes for c in costs))} moved, {money}"


def plan_table(plans: Iterable[Plan]) -> None:
    """What would run, per phase and partition, on standard output."""
    console = wide()
    for plan in plans:
        table = Table(
            title=f"{plan.phase}: {len(plan.selected)} of {len(plan.rows)} partition(s) would run", title_justify="left"
        )
        for name in ("partition", "state", "runs", "bytes", "memory"):
            table.add_column(name, justify="right" if name in ("bytes", "memory") else "left")
        for row in plan.rows:
            p = row.partition
            table.add_row(p.key, str(row.state), "yes" if row.selected else "no", size(p.bytes), size(p.memory))
        console.print(table)
        chosen = plan.selected
        peak = max((p.memory for p in chosen), default=0)
        console.print(
            f"{plan.phase}: {size(sum(p.bytes for p in chosen))} to move, at most {size(peak)} of memory a worker",
            highlight=False,
        )
        for note in (n for s in plan.scopes for n in s.notes):
            console.print(note, highlight=False)
