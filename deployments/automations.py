"""Automations: what the Prefect server does by itself. Run by the server, so also when no flow is at work."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification

from tasks.lake.errors import UsageError

from .change import Change

TAG = "weatherlake"
"""Tag of every deployment of ours: automations leave other people's flow runs alone."""

SILENCE = timedelta(seconds=150)
"""Flow runs beat every 30 s (``PREFECT_FLOWS_HEARTBEAT_FREQUENCY`` of the work pools); four missed beats are an end."""

CRASHES = 2
"""How often a crashed run is started again by itself: one that always crashes must end."""

AVAILABLE = "weatherlake.run.available"

_ENDS = {
    f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Cancelling")
}
_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}


def zombies() -> AutomationCore:
    """A run that stopped beating without an end: its machine is gone, and nobody else will say so."""
    return AutomationCore(
        name="weatherlake: zombie runs",
        description="Calls a run crashed that has not been heard of: its machine is gone.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"}, expect={"prefect.flow-run.heartbeat", *_ENDS},
            match=_RUNS, match_related=_OURS, for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1,
            within=SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="Not heard of: its machine is gone.")],
    )  # fmt: skip


def crashes() -> AutomationCore:
    """A crashed run starts again: what was finished is on record, so it does what is missing."""
    return AutomationCore(
        name="weatherlake: retry on crash",
        description="Starts a crashed run again, twice at most; it does only what is missing.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={**_RUNS, "prefect.run-count": [str(n) for n in range(CRASHES + 1)]}, match_related=_OURS,
            for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="Crashed; started again.", force=True
            )
        ],
    )  # fmt: skip


def notice(block: UUID) -> AutomationCore:
    """Somebody is told of every run that failed, or crashed for the last time."""
    body = (
        "Flow run {{ flow_run.name }} is {{ flow_run.state.name }}.\n\n"
        "{{ flow_run.state.message }}\n\n{{ flow_run | ui_url }}"
    )
    return AutomationCore(
        name="weatherlake: notify",
        description="Tells of runs that failed or crashed.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, match=_RUNS, match_related=_OURS,
            for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block, subject="weatherlake: {{ flow_run.name }} {{ flow_run.state.name }}", body=body
            )
        ],
    )  # fmt: skip


def available(recipe: str, deployment: UUID) -> AutomationCore:
    """A run that `flows.watch` found complete at its provider is brought through the pipeline.

    Parts of a run, which it tells of on demand, need a pipeline with other settings: copy this one for them.
    """
    return AutomationCore(
        name=f"weatherlake: {recipe} run available",
        description=f"Starts the pipeline of {recipe} for a run that has become available.",
        trigger=EventTrigger(
            expect={AVAILABLE},
            match={"prefect.resource.id": f"weatherlake.run.{recipe}.*", "weatherlake.complete": "true"},
            for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1,
        ),
        actions=[
            RunDeployment(
                source="selected", deployment_id=deployment,
                parameters={"run": _jinja("event.payload.run"), "latest": False, "wait": 0},
            )
        ],
    )  # fmt: skip


def _jinja(expression: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": f"{{{{ {expression} }}}}"}


def register(client: SyncPrefectClient, wanted: Iterable[AutomationCore], plan: bool) -> list[Change]:
    """Create or update automations by their names. One that somebody switched off stays off."""
    changes = []
    for automation in wanted:
        found = client.read_automations_by_name(automation.name)
        if len(found) > 1:
            raise UsageError(f"there are {len(found)} automations named {automation.name!r}; delete all but one")
        if not found:
            if not plan:
                client.create_automation(automation)
            changes.append(Change("automation", automation.name, "create"))
            continue
        automation = automation.model_copy(update={"enabled": found[0].enabled})
        if _content(found[0]) == _content(automation):
            changes.append(Change("automation", automation.name, "keep", "" if found[0].enabled else "switched off"))
            continue
        if not plan:
            client.update_automation(found[0].id, automation)
        changes.append(Change("automation", automation.name, "update"))
    return changes


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What an automation does, without what the server adds."""
    kept = set(AutomationCore.model_fields)
    return AutomationCore.model_validate(automation.model_dump(include=kept)).model_dump(mode="json")
