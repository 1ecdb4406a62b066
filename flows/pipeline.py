"""The pipeline: all five phases, one after the other, on one cluster.

``python -m flows.pipeline RECIPE`` by hand, ``flows.pipeline:pipeline`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("pipeline"))

from dataclasses import asdict, replace
from typing import Any

from tasks.lake.recipe import PHASES

from .artifacts import FlowProgress, summary
from .export import export
from .hooks import HOOKS
from .ingest import ingest
from .phase import named, wait_for
from .pinned import pinned
from .refine import refine
from .regrid import regrid
from .request import Request, flow_of
from .runtime import open_cluster
from .validate import validate

FLOWS = {f.name: f for f in (ingest, refine, validate, regrid, export)}


def _pipeline(request: Request) -> list[dict[str, Any]]:
    """Run the five phases of a recipe, each as a flow of its own, on one cluster.

    Returns the reports of the phases as JSON values; a phase that is not all done ends the pipeline with
    `PhaseFailed`. What is done is not done again: started anew, the pipeline goes on where it ended.
    """
    request = pinned(request, PHASES[0])
    wait_for(request, PHASES[0], FlowProgress("pipeline", request.load().name))
    with open_cluster(request.cluster) as place:
        here = replace(request, cluster=place.address or "none", wait=0.0)
        reports = [FLOWS[name](**asdict(here)) for name in PHASES]
    summary(reports[0]["recipe"], request.which, reports)
    return reports


pipeline = flow_of(
    "pipeline", _pipeline, "All five phases of a recipe, one after the other, on one cluster.",
    flow_run_name=named("pipeline"), **HOOKS,
)  # fmt: skip
