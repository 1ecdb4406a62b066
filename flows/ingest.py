"""Ingest: the provider's index of each step becomes a manifest; bytes stay there, or are copied.

``python -m flows.ingest RECIPE`` by hand, ``flows.ingest:ingest`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("ingest"))

from .phase import phase_flow

ingest = phase_flow(
    "ingest",
    "Ingest: the provider's index of each step becomes a manifest; bytes stay there, or are copied.",
)
