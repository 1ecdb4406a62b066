"""Export: files a user takes away, from published cubes.

``python -m flows.export RECIPE`` by hand, ``--list`` to see what is there, ``flows.export:export`` as the entrypoint of
a deployment.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    import sys

    from flows import listing

    if listing.FLAG in sys.argv[1:]:
        raise SystemExit(listing.main())
    from flows.command import main

    raise SystemExit(main("export", extra=listing.Named()))

from .phase import phase_flow

export = phase_flow("export", "Export: files a user takes away, from published cubes.")
