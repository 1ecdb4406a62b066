"""What an image must have, checked while it is built and by whoever wonders: ``python -m deployments.entry``."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys

MODULES = (
    "flows.pipeline", "flows.backfill", "flows.watch", "flows.maintain", "tasks.batch", "blocks.storage",
    "blocks.cluster_blocks", "deployments.api", "prefect_aws", "dask_cloudprovider.aws", "icechunk", "eccodes",
)  # fmt: skip
"""What flow runs, schedulers and workers import."""

ESMF = ("esmpy", "xesmf")
"""On conda-forge only: without them weights are made by our own code, or read as they are."""

SHIMS = ("dask-scheduler", "dask-worker")


def problems() -> list[str]:
    """What is not as it should be, a sentence each."""
    found = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            found.append(f"{name} cannot be imported ({error})")
    if getattr(os, "geteuid", lambda: 1)() == 0:
        found.append("the user is root")
    for name in SHIMS:
        path = shutil.which(name)
        if path is None:
            found.append(f"there is no {name} on the PATH")
        elif subprocess.run([path, "--help"], capture_output=True, check=False).returncode:
            found.append(f"{name} --help does not work")
    named = [name for name in os.environ if "SECRET" in name or name.endswith(("_TOKEN", "_PASSWORD", "ACCESS_KEY_ID"))]
    found += [f"the environment holds {name}: keys belong to roles and blocks" for name in sorted(named)]
    return found


def main() -> int:
    """Say what is there and what is not; 1 when something is missing."""
    for name in ESMF:
        there = importlib.util.find_spec(name) is not None
        print(f"{name}: {'there' if there else 'not there'}")
    found = problems()
    for sentence in found:
        print(sentence, file=sys.stderr)
    print("as it should be" if not found else f"{len(found)} problem(s)")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
