"""Prefect events that must not be lost: handed over in a request that the server confirms."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tasks.lake.errors import Unreachable, UsageError
from tasks.watch.register import Available

AVAILABLE = "weatherlake.run.available"


def available(one: Available) -> None:
    """Emit ``weatherlake.run.available``. Raises ``Unreachable`` when the server did not confirm it."""
    resource = {
        "prefect.resource.id": one.resource, "prefect.resource.name": f"{one.recipe} {one.run}",
        "weatherlake.recipe": one.recipe, "weatherlake.run": one.run, "weatherlake.stage": one.stage,
        "weatherlake.complete": str(one.complete).lower(),
    }  # fmt: skip
    send(AVAILABLE, resource, one.as_json(), one.id)


def send(event: str, resource: Mapping[str, str], payload: Mapping[str, Any], identity: UUID) -> None:
    """Hand an event over. Prefect's own ``emit_event`` does it in the background and drops what it cannot deliver; here
    the server has it when this returns, and the same ``identity`` twice is one event. Raises ``Unreachable``."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.events import Event, Resource
    from prefect.exceptions import PrefectHTTPStatusError

    made = Event(event=event, resource=Resource.model_validate(dict(resource)), payload=dict(payload), id=identity)
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[made.model_dump(mode="json")])
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise Unreachable(f"the Prefect server did not take the event {event} ({type(error).__name__})") from None


def needs_server() -> None:
    """Raise ``UsageError`` unless a Prefect server is configured: a temporary one would tell nobody."""
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise UsageError("events go to a Prefect server, and none is configured (PREFECT_API_URL); or use --no-prefect")
