"""The lake: one store that holds everything, in zones.

``ledger/`` records; ``archive/`` sources that weatherlake makes itself; ``raw/`` copies of provider bytes;
``manifests/``; ``staging/`` what is checked but not published; ``cubes/``; ``verdicts/``; ``exports/``.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from .cubes import Cube
from .errors import AccessError, LakeError, NotFound, UsageError
from .ledger import Ledger, Record
from .objects import Objects

MARKER = "lake.json"
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
        if not uris:
            return set()
        with ThreadPoolExecutor(min(32, len(uris))) as pool:
            there = list(pool.map(self._there, uris))
        return {uri for uri, found in zip(uris, there, strict=True) if not found}

    def verified(self, records: Iterable[Record]) -> dict[str, bool]:
        """Partition key -> whether all outputs that its record names are there."""
        records = list(records)
        gone = self.missing(o.uri for r in records for o in r.outputs)
        return {r.partition: not any(o.uri in gone for o in r.outputs) for r in records}

    def _there(self, uri: str) -> bool:
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
