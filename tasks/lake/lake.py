"""The lake: one store that holds everything, in zones.

``ledger/`` records; ``archive/`` sources that weatherlake makes itself; ``raw/`` copies of provider bytes;
``manifests/``; ``staging/`` what is checked but not published; ``cubes/``; ``verdicts/``; ``exports/``.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from .cubes import Cube
from .errors import AccessError, LakeError, NotFound, UsageError
from .ledger import Ledger, Record
from .objects import Objects
from .partition import RETIRED, Output, digest_bytes

MARKER = "lake.json"
_LISTED = 200
"""So many outputs in one folder are looked for with a listing of it, fewer one by one."""

FORMAT = b'{"weatherlake": 1}\n'


class Lake:
    """A lake by its URL (see `objects.locate`); picklable, opened where it is used."""

    def __init__(self, url: str) -> None:
        self.objects = Objects(url)
        self.url = self.objects.url
        if self.objects.location.scheme not in ("file", "s3"):
            raise UsageError(f"{url}: a lake is a local folder or s3://, it must be writable")

    def __reduce__(self):
        return Lake, (self.url,)

    def __repr__(self) -> str:
        return f"Lake({self.url!r})"

    def prepare(self) -> None:
        """Make the lake where there is none, and see that it can be written to.

        Raises ``AccessError`` or ``Unreachable`` with one sentence that says what stands in the way.
        """
        self.objects.make()
        probe = "ledger/.probe"
        try:
            if self.objects.head(MARKER) is None:
                self.objects.put(MARKER, FORMAT)
            self.objects.put(probe, b"probe")
            self.objects.delete(probe)
        except AccessError as error:
            raise AccessError(f"lake {self.url} is not writable ({error.message})") from None
        except NotFound:
            raise AccessError(f"lake {self.url} is not writable: there is no such bucket") from None

    def write(self, key: str, data: bytes) -> Output:
        """Put an object, in one step, and say it as the output of a partition."""
        self.objects.put(key, data)
        return Output(key, digest_bytes(data), len(data))

    def write_file(self, key: str, path: Path) -> Output:
        """Put a file as an object, in one step and without holding it in memory; a local lake may take the file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        output = Output(key, f"sha256:{digest}", path.stat().st_size)
        at = self.objects.location
        target = Path(at.prefix, key)
        if at.is_local and Path(at.prefix).stat().st_dev == path.stat().st_dev:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        else:
            self.objects.put(key, path)
        return output

    def write_files(self, prefix: str, render: Callable[[Path], Iterable[Path]]) -> list[Output]:
        """Have files made in a temporary folder, and put each as ``<prefix>/<its path in the folder>``."""
        with tempfile.TemporaryDirectory(prefix="weatherlake-") as name:
            folder = Path(name)
            return [self.write_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path) for path in render(folder)]

    def ledger(self, recipe: str) -> Ledger:
        """The ledger of one recipe."""
        return Ledger(self.objects, recipe)

    def cube(self, path: str) -> Cube:
        """The cube at ``path`` inside the lake."""
        return Cube(self.objects, path)

    @cached_property
    def _cubes(self) -> dict[str, Cube]:
        return {}

    def missing(self, uris: Iterable[str]) -> set[str]:
        """Which of these outputs are not there (see `partition.Output` for the forms of a URI)."""
        uris = list(dict.fromkeys(uris))
        if len(uris) <= 1:
            return {uri for uri in uris if not self._there(uri)}
        gone: set[str] = set()
        single: list[str] = []
        for folder, keys in _by_folder(uris).items():
            if len(keys) < _LISTED:
                single += keys
            else:
                # Thousands of small results side by side: a listing is a request for every thousand of them.
                there = {meta.key for meta in self.objects.folder(folder)}
                gone.update(key for key in keys if key not in there)
        if single:
            with ThreadPoolExecutor(min(32, len(single))) as pool:
                gone.update(uri for uri, found in zip(single, pool.map(self._there, single), strict=True) if not found)
        return gone

    def verified(self, records: Iterable[Record]) -> dict[str, bool]:
        """Partition key -> whether all outputs that its record names are there."""
        records = list(records)
        gone = self.missing(o.uri for r in records for o in r.outputs)
        return {r.partition: not any(o.uri in gone for o in r.outputs) for r in records}

    def _there(self, uri: str) -> bool:
        if uri.startswith(RETIRED):
            # A fork is not missed as long as the cube is there that it was published in.
            path, _, cube_id = uri.partition("@")[2].partition("#") if uri.startswith(f"{RETIRED}fork:") else ("",) * 3
            return not path or self._cube(path).identity == cube_id
        if uri.startswith("cube:"):
            path, _, place = uri.removeprefix("cube:").partition("#")
            cube_id, _, chunk = place.partition("/")
            return self._cube(path).has(cube_id, chunk)
        if uri.startswith("fork:"):
            key, _, place = uri.removeprefix("fork:").partition("@")
            path, _, cube_id = place.partition("#")
            return self._cube(path).identity == cube_id and self.objects.head(key) is not None
        return self.objects.head(uri) is not None

    def _cube(self, path: str) -> Cube:
        return self._cubes.setdefault(path, self.cube(path))

    def forget(self) -> None:
        """Drop what was remembered of cubes, so that the next look sees the store as it is now."""
        self._cubes.clear()


def _by_folder(uris: Iterable[str]) -> dict[str, list[str]]:
    """Keys of the lake by the folder they lie in; what is no plain key (``cube:``, ``fork:``) under ''."""
    found: dict[str, list[str]] = {}
    for uri in uris:
        found.setdefault("" if ":" in uri else uri.rpartition("/")[0], []).append(uri)
    others = found.pop("", [])
    return {**found, **{uri: [uri] for uri in others}}


def open_lake(url: str) -> Lake:
    """A lake that must exist already, for readers. Raises ``UsageError`` when there is none."""
    lake = Lake(url)
    try:
        there = lake.objects.head(MARKER) is not None
    except LakeError as error:
        raise UsageError(f"lake {url} cannot be opened: {error}") from None
    if not there:
        raise UsageError(f"there is no lake at {url}")
    return lake
