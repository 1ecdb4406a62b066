"""Regrid: published fields onto the recipe's target grids, in point-shaped chunks.

``python -m flows.regrid RECIPE`` by hand, ``flows.regrid:regrid`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("regrid"))

from typing import Any

from prefect import flow

from .phase import DEFAULT_LAKE, Request, in_flow, named


@flow(name="regrid", flow_run_name=named("regrid"), persist_result=False)
def regrid(
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
    """Regrid: published fields onto the recipe's target grids, in point-shaped chunks.

    Parameters are those of the command line; ``cluster`` is local, none or the address of a scheduler.
    Returns the phase's report as JSON values; raises `PhaseFailed` unless everything was done.
    """
    return in_flow("regrid", Request(recipe, run, start, end, latest, lake, select, force, cluster))
