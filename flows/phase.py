"""A phase as a flow runs it: the phase runner on a place, with what Prefect shows of it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tasks.plan
from tasks import kinds, runner
from tasks.executor import Executor
from tasks.lake.errors import ExitCode, LakeError
from tasks.lake.recipe import Recipe
from tasks.plan import Plan, plan_phase
from tasks.report import Progress, Report

from .hooks import HOOKS
from .pinned import pinned
from .request import DEFAULT_LAKE, Request, flow_of
from .runtime import executor, is_here, open_cluster

__all__ = [
    "DEFAULT_LAKE",
    "PhaseFailed",
    "Request",
    "in_flow",
    "named",
    "phase_flow",
    "plan",
    "reported",
    "run",
    "wait_for",
]

_WAIT = 60
"""Seconds before the first further try of a phase; doubled before each after that, and up to half as much again."""


class PhaseFailed(LakeError):
    """A phase ended with something else than everything done; ``report`` says what."""

    def __init__(self, report: Report) -> None:
        first = report.problems[0] if report.problems else report.status
        super().__init__(f"{report.phase} of {report.recipe} {report.status}: {first}")
        self.report = report
        self.exit_code = report.exit_code


def plan(request: Request, name: str) -> Plan:
    """What a phase would do; runs nothing."""
    return plan_phase(request.open(), request.load(), name, request.window, request.options())


def run(
    request: Request, name: str, place: Executor, progress: Progress | None = None, flow_run_id: str | None = None
) -> Report:
    """Run a phase on an executor."""
    return runner.run_phase(
        request.open(),
        request.load(),
        name,
        request.window,
        request.options(flow_run_id),
        place,
        progress,
    )


def worthwhile(request: Request, name: str) -> int | None:
    """How many workers a phase has use for, by its plan; None where no cluster is started for it."""
    if is_here(request.cluster):
        return None
    selected = plan(request, name).selected
    return tasks.plan.worthwhile(kinds.phase(request.load(), name), selected)


def wait_for(request: Request, name: str, progress: Progress) -> None:
    """Wait, as long as the request says, for what is not complete yet at the provider; before a cluster is opened."""
    if request.wait:
        runner.wait_for(request.open(), request.load(), name, request.window, request.wait * 60, progress)


def in_flow(name: str, request: Request) -> dict[str, Any]:
    """The body of a phase's flow: run it inside the current flow run. Raises ``PhaseFailed``.

    The phase is a task run of its own, so that Prefect can try it again: only what ended in passing, with jitter, and
    with the cluster closed in between. What is done stays done; a further try does what is missing.
    """
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    again = task(
        name="phase", task_run_name=f"{name} of {request.load().name}", cache_policy=NO_CACHE, persist_result=False,
        retries=request.retries, retry_delay_seconds=exponential_backoff(_WAIT), retry_jitter_factor=0.5,
        retry_condition_fn=_passing,
    )(_attempt)  # fmt: skip
    return again(name, pinned(request, name))


def _attempt(name: str, request: Request) -> dict[str, Any]:
    """One try of a phase inside a task run."""
    from prefect.runtime import flow_run

    from tasks.batch import know_blocks

    from .artifacts import FlowProgress, pictures, table
    from .notify import told

    # A phase may need a secret before any batch: to list, to log in.
    know_blocks()
    recipe = request.load()
    progress = FlowProgress(name, recipe.name)
    wait_for(request, name, progress)
    most = worthwhile(request, name)
    with (
        _place_at(recipe, name),
        open_cluster(request.cluster, most) as place,
        executor(place, prefect=True) as running,
    ):
        report = run(request, name, running, progress, flow_run.id)
    for tell in _listeners:
        tell(report)
    table(report)
    pictures(request.open(), report)
    told(request, report)
    if report.exit_code is not ExitCode.DONE:
        raise PhaseFailed(report)
    return report.as_json()


def limit_of(recipe: Recipe) -> str:
    """Name of the global concurrency limit of a recipe's provider: how many phases may read from it at once."""
    return f"weatherlake-{getattr(getattr(recipe, 'source', None), 'type', recipe.name)}"


def _place_at(recipe: Recipe, phase: str) -> contextlib.AbstractContextManager[Any]:
    """Wait for a place at the provider, in the phases that read from it, where the server has a limit for that."""
    if phase not in ("ingest", "refine"):
        return contextlib.nullcontext()
    from prefect.concurrency.sync import concurrency

    return concurrency(limit_of(recipe), occupy=1, strict=False)


def _passing(task: Any, task_run: Any, state: Any) -> bool:
    """Whether what ended a phase may be gone when it is tried again: the error says."""
    del task, task_run
    error = state.result(raise_on_failure=False)
    return isinstance(error, LakeError) and error.exit_code is ExitCode.TRANSIENT


def phase_flow(phase: str, description: str) -> Any:
    """The Prefect flow of a phase; its parameters are those of a `Request`.

    A run of it returns the phase's report as JSON values, and raises `PhaseFailed` unless everything was done.
    """

    def body(request: Request) -> dict[str, Any]:
        return in_flow(phase, request)

    return flow_of(phase, body, description, flow_run_name=named(phase), **HOOKS)


def named(flow: str) -> Callable[[], str]:
    """How runs of a flow are called: ``demo 2026-11-20T00 ingest``."""

    def name() -> str:
        from prefect.runtime import flow_run

        request = Request.of(flow_run.parameters)
        try:
            recipe, window = request.load().name, request.which
        except LakeError:
            # The run itself will say what is wrong with its parameters.
            recipe, window = request.recipe, request.run or "latest"
        return f"{recipe} {window} {flow}"

    return name


_listeners: list[Callable[[Report], None]] = []


@contextlib.contextmanager
def reported(tell: Callable[[Report], None]) -> Iterator[None]:
    """Have ``tell`` called with the report of every phase that ends in the block, in this process."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)
