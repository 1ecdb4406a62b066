"""Validate: check the run's branch, give a verdict, publish what may be published.

``python -m flows.validate RECIPE`` by hand, ``flows.validate:validate`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main
    from flows.decide import Decide

    raise SystemExit(main("validate", extra=Decide()))

from typing import Any

from prefect import flow

from .artifacts import FlowProgress
from .decide import Decision, decide
from .phase import DEFAULT_LAKE, Request, in_flow, named


def _validate(
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
    release: list[str] | None = None,
    by: str = "",
    why: str = "",
    redrive: bool = False,
) -> dict[str, Any]:
    """Validate: check the run's branch, give a verdict, publish what may be published.

    ``release`` names cells of one run that ``by`` wants used all the same, and ``why``; ``redrive`` has its quarantined
    cells fetched again.
    """
    place = (lake, select, force, cluster, settings or {})
    request = Request(recipe, run, start, end, latest, *place, days_back, wait)
    decide(request, Decision(tuple(release or ()), by, why, redrive), FlowProgress("validate", recipe))
    return in_flow("validate", request)


_validate.__name__ = _validate.__qualname__ = "validate"
validate: Any = flow(name="validate", flow_run_name=named("validate"), persist_result=False)(_validate)
