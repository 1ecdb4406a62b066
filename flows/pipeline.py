"""The pipeline: all five phases, one after the other, on one cluster.

``python -m flows.pipeline RECIPE`` by hand, ``flows.pipeline:pipeline`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("pipeline"))

from typing import Any

from prefect import flow

from tasks.lake.recipe import PHASES

from .artifacts import FlowProgress
from .export import export
from .ingest import ingest
from .phase import DEFAULT_LAKE, Request, named, wait_for
from .refine import refine
from .regrid import regrid
from .runtime import open_cluster
from .validate import validate

FLOWS = {f.name: f for f in (ingest, refine, validate, regrid, export)}


@flow(name="pipeline", flow_run_name=named("pipeline"), persist_result=False)
def pipeline(
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
) -> list[dict[str, Any]]:
    """Run the five phases of a recipe, each as a flow of its own, on one cluster.

    Returns the reports of the phases as JSON values; a phase that is not all done ends the pipeline with
    `PhaseFailed`. What is done is not done again: started anew, the pipeline goes on where it ended.
    """
    request = Request(recipe, run, start, end, latest, lake, settings=settings or {}, days_back=days_back, wait=wait)
    wait_for(request, PHASES[0], FlowProgress("pipeline", recipe))
    with open_cluster(cluster) as place:
        where = place.address or "none"
        arguments = {"run": run, "start": start, "end": end, "latest": latest, "lake": lake, "select": select}
        arguments |= {"force": force, "settings": settings, "days_back": days_back}
        return [FLOWS[name](recipe, **arguments, cluster=where) for name in PHASES]
