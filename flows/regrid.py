"""Regrid: published fields onto the recipe's target grids, in point-shaped chunks.

``python -m flows.regrid RECIPE`` by hand, ``flows.regrid:regrid`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("regrid"))

from .phase import phase_flow

regrid = phase_flow("regrid", "Regrid: published fields onto the recipe's target grids, in point-shaped chunks.")
