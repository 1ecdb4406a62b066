"""What follows when a flow run ends badly: what it still held is free again, and somebody is told.

Prefect calls these after the last try of a failed run, for a cancelled run, and - through the worker that started the
run - for one whose process died. Whatever goes wrong here is logged and changes nothing else.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tasks import kinds
from tasks.lake.errors import ExitCode, LakeError
from tasks.lake.lake import Lake
from tasks.lake.partition import Status
from tasks.lake.phase import Context
from tasks.lake.recipe import PHASES, Recipe

from .request import Request

_LISTED = 50


def failed(flow: Any, flow_run: Any, state: Any) -> None:
    """A run that failed: say what is missing and how to go on, and tell those the recipe names."""
    error = _error(state)
    if getattr(error, "exit_code", None) is ExitCode.HELD:
        # Nothing failed: validation did its work, and has told about it.
        return
    _over(flow, flow_run, "failed", str(error) if error else str(state.message))


def crashed(flow: Any, flow_run: Any, state: Any) -> None:
    """A run whose process died, or that was cancelled."""
    _over(flow, flow_run, "crashed", str(state.message or state.name))


HOOKS: dict[str, Any] = {"on_failure": [failed], "on_crashed": [crashed], "on_cancellation": [crashed]}
"""As Prefect's ``flow`` takes them."""


def _error(state: Any) -> BaseException | None:
    with suppress(Exception):
        found = state.result(raise_on_failure=False)
        return found if isinstance(found, BaseException) else None
    return None


def _over(flow: Any, flow_run: Any, what: str, why: str) -> None:
    from prefect.logging.loggers import flow_run_logger

    from .notify import scrubbed

    log = flow_run_logger(flow_run, flow)
    try:
        request = Request.of(flow_run.parameters)
        recipe, lake = request.load(), request.open()
    except (LakeError, TypeError) as error:
        log.warning("nothing is held in a lake: %s", error)
        return
    try:
        phases = (flow.name,) if flow.name in PHASES else PHASES
        runs = [str(flow_run.id), *(_ended_children(flow_run.id, what) if what == "crashed" else ())]
        freed = release(lake, recipe, request, phases, runs, f"its flow run {what}")
        if freed:
            log.info("%d partition(s) that the run had taken are free again", len(freed))
        if flow_run.parent_task_run_id is None:
            _tell(flow.name, request, recipe, lake, flow_run, what, scrubbed(why), freed)
    except Exception as error:
        log.warning("what follows a run that %s did not work: %s: %s", what, type(error).__name__, scrubbed(str(error)))


def release(
    lake: Lake, recipe: Recipe, request: Request, phases: Iterable[str], runs: Iterable[str], why: str
) -> list[str]:
    """Record as lost what flow runs that are over had taken and not finished; the keys of those partitions.

    Nobody then waits for their leases. Work that goes on somewhere all the same finds its claim gone and records
    nothing (see `Ledger.finish`).
    """
    context: Context[Any] = Context(lake, recipe)
    over = set(runs)
    freed = []
    for phase in phases:
        scopes = [""]
        with suppress(LakeError):
            scopes = kinds.phase(recipe, phase).scopes(context, request.window) or scopes
        for scope in scopes:
            for record in context.ledger.read_all(phase, scope).values():
                mine = record.lineage.flow_run_id
                if record.status is Status.RUNNING and mine in over:
                    context.ledger.mark_lost(phase, record.partition, why, flow_run_id=mine)
                    freed.append(f"{phase} {record.partition}")
    return freed


def _ended_children(flow_run_id: Any, what: str) -> list[str]:
    """The flow runs inside a run that is over: those that still seem to run are over with it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Crashed

    with get_client(sync_client=True) as client:
        children = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"parent_flow_run_id": {"any_": [flow_run_id]}})
        )
        for child in children:
            if child.state is not None and not child.state.is_final():
                client.set_flow_run_state(child.id, Crashed(message=f"The run it is part of {what}."), force=True)
        return [str(child.id) for child in children]


def _tell(
    flow: str, request: Request, recipe: Recipe, lake: Lake, flow_run: Any, what: str, why: str, freed: list[str]
) -> None:
    from prefect.artifacts import create_markdown_artifact

    from .artifacts import key
    from .notify import Event, tell

    which = ""
    with suppress(LakeError):
        which = request.which
    # A run whose process died is known to its worker by the name it had before it began.
    said = " ".join(filter(None, (recipe.name, which, flow, what)))
    lines = [f"# {said}", "", why, ""]
    if freed:
        lines += ["Taken by it, and free again:", "", *(f"- {one}" for one in freed[:_LISTED]), ""]
    lines += ["A retry of this run, or a run with the same parameters, does only what is missing."]
    create_markdown_artifact("\n".join(lines), key=key(recipe.name, flow, "failure"), description=why[:200])
    wanted = getattr(getattr(recipe, "checks", None), "notify", ())
    identity = f"{flow_run.id}-{flow_run.run_count}"
    event = Event(recipe.name, which or "unknown", what, f"weatherlake: {said}", why, identity)
    tell(lake.objects, event, [n.block for n in wanted if what in n.on])
