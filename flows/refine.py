"""Refine: byte ranges are fetched, decoded and written to the run's branch of the cube.

``python -m flows.refine RECIPE`` by hand, ``flows.refine:refine`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("refine"))

from typing import Any

from prefect import flow

from .phase import DEFAULT_LAKE, Request, in_flow, named


@flow(name="refine", flow_run_name=named("refine"), persist_result=False)
def refine(
    recipe: str,
    run: str | None = None,
    start: str | None = None,
    end: str | None = None,
    latest: bool = False,
    lake: str = DEFAULT_LAKE,
    select: str = "missing",
    force: bool = False,
    cluster: str = "local",
) -> dict[str, Any]:
    """Refine: byte ranges are fetched, decoded and written to the run's branch of the cube.

    Parameters are those of the command line; ``cluster`` is local, none or the address of a scheduler.
    Returns the phase's report as JSON values; raises `PhaseFailed` unless everything was done.
    """
    return in_flow("refine", Request(recipe, run, start, end, latest, lake, select, force, cluster))
