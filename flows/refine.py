"""Refine: byte ranges are fetched, decoded and written to the run's branch of the cube.

``python -m flows.refine RECIPE`` by hand, ``flows.refine:refine`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("refine"))

from .phase import phase_flow

refine = phase_flow("refine", "Refine: byte ranges are fetched, decoded and written to the run's branch of the cube.")
