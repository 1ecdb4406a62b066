"""Following what is published: the cubes of a lake that readers may open, and the newest snapshot of each.

A look at a cube is one small read (which snapshot is ``main`` now?). Only when that is another one is the cube opened
anew, its newest run warmed, and then put in the place of the old snapshot, in one assignment. Whoever is reading keeps
the snapshot he began with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection as Names
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import obstore

from ..lake.cubes import MAIN
from ..lake.errors import LakeError, NotFound, as_lake_error
from ..lake.reading import cube_path
from .cache import Cache
from .snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from ..lake.lake import Lake

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Collection:
    """One cube under its pointer: ``<recipe>.<zone>``. ``problem`` says what went wrong at the last look, or None."""

    recipe: str
    zone: str
    snapshot: Snapshot | None = None
    problem: str | None = None

    @property
    def id(self) -> str:
        return f"{self.recipe}.{self.zone}"


@dataclass(eq=False)
class Following:
    """The published cubes of a lake, or of some of its recipes; `look` sees what is new."""

    lake: Lake
    recipes: Names[str] = ()
    indexes: Cache = field(default_factory=lambda: Cache(128 * 2**20))
    warm: bool = True
    looked: float = 0.0
    _collections: dict[str, Collection] = field(default_factory=dict)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopped: bool = False

    @property
    def collections(self) -> dict[str, Collection]:
        """What can be read, by id, sorted. The same object until something comes or goes."""
        return self._collections

    def look(self) -> None:
        """See what is published now. Never raises for a cube that cannot be read: its last snapshot stays.

        Raises ``LakeError`` when the lake itself cannot be read.
        """
        with self._looking:
            there = sorted(self._pointers())
            known = {c.id: c for c in self._collections.values()}
            found = {}
            for recipe, zone in there:
                one = known.get(f"{recipe}.{zone}") or Collection(recipe, zone)
                self._look_at(one)
                found[one.id] = one
            if {i: c.snapshot is None for i, c in found.items()} != {i: c.snapshot is None for i, c in known.items()}:
                _log.info("collections: %s", ", ".join(found) or "none")
            self._collections = found
            self.looked = time.monotonic()

    def stay(self, seconds: float) -> threading.Thread:
        """Look every so many seconds, in a thread, until `stop`."""

        def forever() -> None:
            while True:
                self._woken.wait(seconds)
                self._woken.clear()
                if self._stopped:
                    return
                try:
                    self.look()
                except LakeError as error:
                    _log.warning("the lake cannot be read: %s", error)

        thread = threading.Thread(target=forever, name="following", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End the thread of `stay`."""
        self._stopped = True
        self._woken.set()

    def wake(self) -> None:
        """Have the thread of `stay` look at once."""
        self._woken.set()

    def _pointers(self) -> list[tuple[str, str]]:
        recipes = self.recipes
        if not recipes:
            with self.lake.objects.opened("cubes") as store:
                below = obstore.list_with_delimiter(store, "cubes")["common_prefixes"]
            recipes = [str(p).rstrip("/").rpartition("/")[2] for p in below]
        return [
            (recipe, meta.key.rpartition("/")[2].removesuffix(".json"))
            for recipe in recipes
            for meta in self.lake.objects.folder(f"cubes/{recipe}")
            if meta.key.endswith(".json")
        ]

    def _look_at(self, one: Collection) -> None:
        try:
            path = cube_path(self.lake, one.recipe, one.zone)
            old = one.snapshot
            if old is not None and old.cube.path == path and _tip(old) == old.id:
                one.problem = None
                return
            new = open_snapshot(self.lake.cube(path), self.indexes)
            if self.warm and new.runs:
                new.warm(new.newest)
            one.snapshot, one.problem = new, None
            _log.info("%s: snapshot %s, %d runs", one.id, new.id, len(new.runs))
        except LakeError as error:
            if one.problem != str(error):
                _log.warning("%s: %s", one.id, error)
            one.problem = str(error)


def _tip(snapshot: Snapshot) -> str:
    try:
        return snapshot.cube.repository.lookup_branch(MAIN)
    except Exception as error:
        # Whatever the repository says, the cube is opened anew, or not to be read.
        known = as_lake_error(error, f"cube {snapshot.cube.path}")
        if isinstance(known, NotFound):
            return ""
        raise known from None
