"""Validate: check the run's branch, give a verdict, publish what may be published.

``python -m flows.validate RECIPE`` by hand, ``flows.validate:validate`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("validate"))

from .phase import phase_flow

validate = phase_flow("validate", "Validate: check the run's branch, give a verdict, publish what may be published.")
