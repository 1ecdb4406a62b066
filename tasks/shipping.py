"""The code of this project as a wheel that workers and scheduler of a Dask cluster put before what they have.

Pickled by value (see `tasks.code`), because it has to run where this project is not installed or is an older one: it
imports nothing of ours.
"""

import asyncio
import atexit
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distributed import NannyPlugin, SchedulerPlugin, WorkerPlugin

PACKAGES = ("flows", "tasks", "blocks", "deployments")
NAME = "weatherlake"


def files() -> Iterator[tuple[str, Path]]:
    """Name in a wheel and path of every file of the project's packages, as they are found in this process."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
        if folder is None:
            continue
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield f"{package}/{path.relative_to(folder).as_posix()}", path


def digest() -> str:
    """SHA-256 over names and contents of `files`."""
    found = hashlib.sha256()
    for name, path in files():
        data = path.read_bytes()
        found.update(f"{name}\0{len(data)}\0".encode())
        found.update(data)
    return found.hexdigest()


def wheel(code: str) -> bytes:
    """The project as it is in this process: packages with their data files, name and version, entry points."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files():
            archive.write(path, name)
        try:
            installed = importlib.metadata.distribution(NAME)
            version, points = installed.version.partition("+")[0], installed.read_text("entry_points.txt")
        except importlib.metadata.PackageNotFoundError:
            version, points = "0", None
        version = f"{version}+{code[:12]}"
        folder = f"{NAME}-{version}.dist-info"
        archive.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n")
        if points:
            archive.writestr(f"{folder}/entry_points.txt", points)
    return buffer.getvalue()


def versions(names: Sequence[str]) -> dict[str, str | None]:
    """Version of Python (without its patch level) and of packages in this process; nothing is imported for it."""
    found: dict[str, str | None] = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def state(names: Sequence[str]) -> dict[str, Any]:
    """What runs in this process: ``code`` (see `digest`) and ``versions``."""
    return {"code": digest(), "versions": versions(names)}


def put_first(data: bytes) -> str:
    """Unpack a wheel and have this process import from it; the folder, which lives as long as the process."""
    folder = tempfile.mkdtemp(prefix=f"{NAME}-code-")
    atexit.register(shutil.rmtree, folder, True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    for name in [n for n in sys.modules if n.split(".")[0] in PACKAGES]:
        del sys.modules[name]
    return folder


class ToNanny(NannyPlugin):
    """Starts the worker again with the shipped code, unless it has it; workers that join later start with it."""

    name = f"{NAME}-code-nanny"

    def __init__(self, data: bytes, code: str) -> None:
        self.data = data
        self.code = code
        self.restart = False

    def setup(self, nanny: Any) -> None:
        """Runs before a worker is started, or beside one that runs; Dask looks at ``restart`` afterwards."""
        if digest() == self.code:
            return
        folder = put_first(self.data)
        # The worker takes over the nanny's path; processes that it starts itself know the variable alone.
        paths = [folder, nanny.env.get("PYTHONPATH") or os.environ.get("PYTHONPATH", "")]
        nanny.env["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
        self.restart = nanny.process is not None


class ToWorker(WorkerPlugin):
    """Puts the shipped code first in a worker without a nanny; keeps one out that has other packages."""

    name = f"{NAME}-code-worker"

    def __init__(self, data: bytes, code: str, wanted: dict[str, str | None]) -> None:
        self.data = data
        self.code = code
        self.wanted = wanted

    def setup(self, worker: Any) -> None:
        """Runs in the worker, before it is given any work."""
        here = versions([n for n in self.wanted if n != "python"])
        wrong = [f"{n} {here[n]} (client: {v})" for n, v in self.wanted.items() if here[n] != v]
        if wrong:
            # Dask logs an error of a plugin and lets the worker join.
            self._closing = asyncio.ensure_future(worker.close(nanny=True, reason="other versions than the client's"))
            raise RuntimeError(f"{worker.address} has other versions than the client: {', '.join(wrong)}")
        if digest() != self.code:
            put_first(self.data)


class ToScheduler(SchedulerPlugin):
    """Puts the shipped code first in the scheduler, which reads the tasks that it is given."""

    name = f"{NAME}-code-scheduler"

    def __init__(self, data: bytes, code: str) -> None:
        self.data = data
        self.code = code

    async def start(self, scheduler: Any) -> None:
        """Runs in the scheduler."""
        del scheduler
        if digest() != self.code:
            put_first(self.data)
