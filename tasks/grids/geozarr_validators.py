"""Independent validators of GeoZarr metadata: what must accept a store before it becomes one."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..lake.errors import LakeError, UsageError

EOPF_GEOZARR = "WEATHERLAKE_EOPF_GEOZARR"
"""Environment variable with the path of the program ``eopf-geozarr``, whose dependencies differ from ours."""

_MINUTES = 5


def check(documents: Mapping[str, bytes], names: Sequence[str], scene: str) -> None:
    """Have the named validators look at the metadata of a store. Raises ``LakeError`` with what the first says.

    They are shown a store of metadata alone: nothing that a validator reads lies in a chunk.
    """
    if "conventions" in names:
        _refuse("zarr-cm", scene, conventions(documents))
    if set(names) - {"conventions"}:
        with _folder(documents) as folder:
            if "geozarr" in names:
                _refuse("geozarr-toolkit", scene, toolkit(folder))
            if "eopf-geozarr" in names:
                _refuse("eopf-geozarr", scene, eopf(folder))


def _refuse(validator: str, scene: str, problems: Sequence[str]) -> None:
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise LakeError(f"the store of {scene} is no GeoZarr, {validator} says: {problems[0]}{more}")


def conventions(documents: Mapping[str, bytes]) -> list[str]:
    """What zarr-cm finds wrong with the conventions that each group declares."""
    try:
        import zarr_cm
    except ImportError:
        raise UsageError("checking GeoZarr metadata needs the extra 'scenes'") from None
    problems = []
    for key, data in documents.items():
        document = json.loads(data)
        document.pop("consolidated_metadata", None)
        for entry in document["attributes"].get("zarr_conventions", ()):
            module = getattr(zarr_cm, entry["name"])
            try:
                module.validate_node_metadata(document)
            except (ValueError, TypeError, KeyError) as error:
                problems.append(f"/{key}: {error}")
    return problems


def toolkit(folder: Path) -> list[str]:
    """What geozarr-toolkit finds wrong with any group of a store."""
    import zarr

    try:
        with warnings.catch_warnings():
            # Its release 0.1 takes a name of pydantic's from where it was until pydantic 2.14.
            warnings.simplefilter("ignore", DeprecationWarning)
            from geozarr_toolkit.helpers.validation import validate_group, validate_multiscales_structure
    except ImportError:
        raise UsageError("the validator 'geozarr' needs the package geozarr-toolkit") from None
    root = zarr.open_group(folder, mode="r")
    groups = {"": root, **{path: node for path, node in root.members(max_depth=None) if isinstance(node, zarr.Group)}}
    problems = []
    for path, group in groups.items():
        found = [p for errors in validate_group(group).values() for p in errors]
        if "multiscales" in group.attrs:
            found += validate_multiscales_structure(group)[1]
        problems += [f"/{path}: {p}" for p in found]
    return problems


def eopf(folder: Path) -> list[str]:
    """What ``eopf-geozarr validate`` finds wrong. It runs as a program of its own."""
    program = os.environ.get(EOPF_GEOZARR) or shutil.which("eopf-geozarr", path=_beside())
    if not program:
        raise UsageError(f"the validator 'eopf-geozarr' is not installed; {EOPF_GEOZARR} may name the program")
    try:
        done = subprocess.run(
            [program, "validate", str(folder)], capture_output=True, text=True, check=False, timeout=60 * _MINUTES
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LakeError(f"the validator eopf-geozarr did not run ({type(error).__name__})") from None
    if done.returncode == 0:
        return []
    # Its log: "2026-11-21 14:06:48 [info     ]   /: store root: spatial:bbox: Field required".
    said = [line.rpartition("]")[2].strip() for line in done.stdout.splitlines()]
    problems = [line for line in said if line.startswith("/") and ": " in line]
    return problems or [line for line in said if line][-1:] or [f"exit code {done.returncode}"]


def _beside() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


@contextmanager
def _folder(documents: Mapping[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="weatherlake-") as base:
        folder = Path(base) / "store.zarr"
        for key, data in documents.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield folder
