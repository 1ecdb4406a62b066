"""Validate: check the run's branch, give a verdict, publish what may be published.

``python -m flows.validate RECIPE`` by hand, ``flows.validate:validate`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main
    from flows.decide import Decide

    raise SystemExit(main("validate", extra=Decide()))

from typing import Annotated, Any

from typing_extensions import Doc

from .artifacts import FlowProgress
from .decide import Decision, decide
from .hooks import HOOKS
from .phase import in_flow, named
from .request import Request, flow_of, parameter

_DECISION = (
    parameter(
        "release",
        Annotated[list[str], Doc("Cells of one run to use all the same: tp/024-m01, a variable, or all.")],
        [],
    ),
    parameter("by", Annotated[str, Doc("Who releases them.")], ""),
    parameter("why", Annotated[str, Doc("Why; both are kept with the verdict.")], ""),
    parameter(
        "redrive", Annotated[bool, Doc("Fetch quarantined cells again, from a mirror when there is one.")], False
    ),
)


def _validate(request: Request, release: list[str], by: str, why: str, redrive: bool) -> dict[str, Any]:
    decide(request, Decision(tuple(release), by, why, redrive), FlowProgress("validate", request.load().name))
    return in_flow("validate", request)


validate = flow_of(
    "validate",
    _validate,
    "Check the run's branch, give a verdict, publish what may be published.",
    _DECISION,
    flow_run_name=named("validate"),
    **HOOKS,
)
