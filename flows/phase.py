"""A phase as a flow runs it: the phase runner on a place, with what Prefect shows of it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from tasks import runner
from tasks.executor import Executor
from tasks.forecasts.runs import parse_run
from tasks.lake import recipe as recipes
from tasks.lake import secrets
from tasks.lake.errors import ExitCode, LakeError, UsageError
from tasks.lake.lake import Lake
from tasks.lake.ledger import Select
from tasks.lake.phase import Window
from tasks.lake.recipe import Recipe
from tasks.plan import Options, Plan, plan_phase
from tasks.report import Progress, Report

from .runtime import executor, open_cluster

DEFAULT_LAKE = "./lake"


class PhaseFailed(LakeError):
    """A phase ended with something else than everything done; ``report`` says what."""

    def __init__(self, report: Report) -> None:
        first = report.problems[0] if report.problems else report.status
        super().__init__(f"{report.phase} of {report.recipe} {report.status}: {first}")
        self.report = report
        self.exit_code = report.exit_code


@dataclass(frozen=True, slots=True)
class Request:
    """What a flow was asked for, in the flow's own parameters."""

    recipe: str
    run: str | None = None
    start: str | None = None
    end: str | None = None
    latest: bool = False
    lake: str = DEFAULT_LAKE
    select: str = Select.MISSING
    force: bool = False
    cluster: str = "local"
    settings: Mapping[str, Any] = field(default_factory=dict)
    days_back: int | None = None
    wait: float = 0.0

    @property
    def window(self) -> Window:
        """The runs that are meant."""
        start = _when(self.start, "T00") if self.start else None
        if self.days_back is not None:
            if self.days_back < 0 or self.run or self.start or self.latest:
                raise UsageError("days back is a number of days from 0 on, in the place of a run or a start")
            start = datetime.combine(datetime.now(UTC).date(), time.min, UTC) - timedelta(days=self.days_back)
        return Window(
            run=parse_run(self.run) if self.run else None,
            start=start,
            end=_when(self.end, "T23") if self.end else None,
            latest=self.latest,
        )

    def load(self) -> Recipe:
        """The recipe with its settings. Raises ``RecipeError``, ``UsageError``."""
        return recipes.load(self.recipe, self.settings)

    def options(self, flow_run_id: str | None = None) -> Options:
        """How the phase is to be run."""
        return Options(Select(self.select), self.force, flow_run_id)


def plan(request: Request, name: str) -> Plan:
    """What a phase would do; runs nothing."""
    return plan_phase(Lake(request.lake), request.load(), name, request.window, request.options())


def run(
    request: Request, name: str, place: Executor, progress: Progress | None = None, flow_run_id: str | None = None
) -> Report:
    """Run a phase on an executor."""
    return runner.run_phase(
        Lake(request.lake),
        request.load(),
        name,
        request.window,
        request.options(flow_run_id),
        place,
        progress,
    )


def wait_for(request: Request, name: str, progress: Progress) -> None:
    """Wait, as long as the request says, for what is not complete yet at the provider; before a cluster is opened."""
    if request.wait:
        runner.wait_for(Lake(request.lake), request.load(), name, request.window, request.wait * 60, progress)


def in_flow(name: str, request: Request) -> dict[str, Any]:
    """The body of a phase's flow: run it inside the current flow run. Raises ``PhaseFailed``."""
    from prefect.runtime import flow_run

    from tasks.batch import secret_of_block

    from .artifacts import FlowProgress, table
    from .notify import told

    # A phase may need a secret before any batch: to list, to log in.
    secrets.scheme("block", secret_of_block)
    progress = FlowProgress(name, request.recipe)
    wait_for(request, name, progress)
    with open_cluster(request.cluster) as place, executor(place, prefect=True) as running:
        report = run(request, name, running, progress, flow_run.id)
    for tell in _listeners:
        tell(report)
    table(report)
    told(request, report)
    if report.exit_code is not ExitCode.DONE:
        raise PhaseFailed(report)
    return report.as_json()


def phase_flow(phase: str, description: str) -> Any:
    """The Prefect flow of a phase. Its parameters are those of the command line (see `Request`).

    A run of it returns the phase's report as JSON values, and raises `PhaseFailed` unless everything was done.
    """
    from prefect import flow

    def run_it(
        recipe: str,
        run: str | None = None,
        start: str | None = None,
        end: str | None = None,
        latest: bool = False,
        lake: str = DEFAULT_LAKE,
        select: str = "missing",
        force: bool = False,
        cluster: str = "local",
        settings: dict[str, Any] | None = None,
        days_back: int | None = None,
        wait: float = 0.0,
    ) -> dict[str, Any]:
        place = (lake, select, force, cluster, settings or {})
        return in_flow(phase, Request(recipe, run, start, end, latest, *place, days_back, wait))

    run_it.__name__ = run_it.__qualname__ = phase
    run_it.__doc__ = description
    return flow(name=phase, description=description, flow_run_name=named(phase), persist_result=False)(run_it)


def named(flow: str) -> Callable[[], str]:
    """How runs of a flow are called: ``demo 2026-11-20T00 ingest``."""

    def name() -> str:
        from prefect.runtime import flow_run

        given = flow_run.parameters
        recipe = str(given["recipe"])
        if given.get("start") or given.get("end"):
            window = f"{given.get('start') or ''}..{given.get('end') or ''}"
        elif given.get("days_back") is not None:
            window = f"{given['days_back']} days back"
        elif given.get("latest"):
            window = "latest"
        else:
            window = str(given.get("run") or _default_run(recipe) or "latest")
        return f"{recipe} {window} {flow}"

    return name


def _default_run(recipe: str) -> str | None:
    try:
        runs = getattr(recipes.load(recipe), "runs", None)
    except LakeError:
        # The run itself will say what is wrong with its recipe.
        return None
    return getattr(runs, "default", None)


_listeners: list[Callable[[Report], None]] = []


@contextlib.contextmanager
def reported(tell: Callable[[Report], None]) -> Iterator[None]:
    """Have ``tell`` called with the report of every phase that ends in the block, in this process."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


def _when(text: str, hour: str) -> datetime:
    with contextlib.suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), datetime.strptime(hour, "T%H").time(), UTC)
    return parse_run(text)
