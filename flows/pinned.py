"""Which runs a flow run is about, looked up once: its phases, and its retries, must mean the same ones.

"Latest" is another run a few hours later, and "two days back" another day. So what such words mean is looked up by a
task whose result Prefect keeps (the only one: what the data tasks did is in the ledger, and they are never cached).

- Its key is the flow run and the content of the recipe: a retry finds it, another flow run never does.
- It expires after a week, when nobody retries any more.
- It is a small JSON file in Prefect's result storage: below ``PREFECT_HOME`` of the worker, or wherever
  ``PREFECT_DEFAULT_RESULT_STORAGE_BLOCK`` says, which workers without a disk of their own need. Where it is not found,
  the words mean what they mean now.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tasks import kinds
from tasks.lake.phase import Context

from .request import Request

EXPIRES = timedelta(days=7)


def pinned(request: Request, phase: str) -> Request:
    """The request with the runs by name that it means. Raises what `Phase.scopes` raises."""
    if request.run or request.start:
        return request
    if request.days_back is None and not (request.latest and request.load().kind == "forecast"):
        return request
    from prefect import task

    look = task(
        name="which runs", persist_result=True, result_serializer="json", cache_key_fn=_key, cache_expiration=EXPIRES
    )(_look)
    return replace(request, latest=False, days_back=None, **look(request, phase))


def _look(request: Request, phase: str) -> dict[str, Any]:
    if request.days_back is not None:
        start = request.window.start
        assert start is not None
        return {"start": f"{start:%Y-%m-%dT%H}"}
    recipe = request.load()
    context: Context[Any] = Context(request.open(), recipe)
    scopes = kinds.phase(recipe, phase).scopes(context, request.window)
    return {"run": scopes[-1]}


def _key(context: Any, parameters: dict[str, Any]) -> str:
    """The flow run and the recipe; see above."""
    recipe = parameters["request"].load().digest.removeprefix("sha256:")[:16]
    return f"weatherlake-which-{context.task_run.flow_run_id}-{recipe}"
