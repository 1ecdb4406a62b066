"""Export: files a user takes away, from published cubes.

``python -m flows.export RECIPE`` by hand, ``flows.export:export`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("export"))

from typing import Any

from prefect import flow

from .phase import DEFAULT_LAKE, Request, in_flow, named


@flow(name="export", flow_run_name=named("export"), persist_result=False)
def export(
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
    """Export: files a user takes away, from published cubes.

    Parameters are those of the command line; ``cluster`` is local, none or the address of a scheduler.
    Returns the phase's report as JSON values; raises `PhaseFailed` unless everything was done.
    """
    return in_flow("export", Request(recipe, run, start, end, latest, lake, select, force, cluster))
