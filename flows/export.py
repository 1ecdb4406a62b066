"""Export: files a user takes away, from published cubes.

``python -m flows.export RECIPE`` by hand, ``flows.export:export`` as the entrypoint of a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.command import main

    raise SystemExit(main("export"))

from .phase import phase_flow

export = phase_flow("export", "Export: files a user takes away, from published cubes.")
