"""The provider's archive as ingest and refine see it: mirrors, index files, byte ranges."""

import contextlib
from datetime import datetime

from ..lake.errors import LakeError, NotFound, NotThereYet, QuotaError, Unreachable
from ..lake.objects import Meta, Objects
from ..lake.phase import Context
from .recipe import ForecastRecipe
from .runs import run_id
from .sources.source import SourceFile
from .throttle import throttle


class Archive:
    """Reads one recipe's source. Mirrors are tried in order when one does not answer or lacks an object."""

    def __init__(self, context: Context[ForecastRecipe]) -> None:
        self.lake = context.lake.objects
        self._lake_url = context.lake.url
        self.source = context.recipe.source
        roots = self.source.roots()
        self.own = not roots
        self._place = f"archive/{context.recipe.name}"
        base, _, query = context.lake.url.partition("?")
        mine = f"{base.rstrip('/')}/{self._place}" + (f"?{query}" if query else "")
        self.mirrors = [Objects(root) for root in roots or (mine,)]

    def make(self, run: datetime) -> None:
        """Generate the archive of a run where the source is a generator and it is not there yet."""
        if not self.own:
            return
        store = self.mirrors[0]
        marker = f"{run_id(run)}.complete"
        if store.head(marker) is None:
            for key, data in self.source.generate(run):
                store.put(key, data)
            store.put(marker, b"")

    def files(self, run: datetime, step: int) -> list[SourceFile]:
        """The source's files of one step, by the first mirror's layout."""
        return list(self.source.files(self.mirrors[0].url, run, step))

    def read(self, key: str, mirror: int = 0) -> tuple[bytes, Meta, int]:
        """A whole object (an index), its metadata, and the number of the mirror that had it; ``mirror`` is asked first.

        Raises ``NotThereYet`` when no mirror has it, ``Unreachable`` when none answers.
        """
        errors: list[LakeError] = []
        for number in [mirror, *(n for n in range(len(self.mirrors)) if n != mirror)]:
            try:
                with self._throttle(self.mirrors[number]):
                    return *self.mirrors[number].get_with_meta(key), number
            except (NotFound, Unreachable, QuotaError) as error:
                errors.append(error)
        if all(isinstance(e, NotFound) for e in errors):
            raise NotThereYet(f"{self.base(mirror)}/{key} is not there (yet)")
        raise next(e for e in errors if not isinstance(e, NotFound))

    def base(self, mirror: int) -> str:
        """The address of a mirror, without options such as the region."""
        return _base(self.mirrors[mirror])

    def fetch(self, url: str, offset: int, length: int) -> bytes:
        """Bytes of what a manifest's ``url`` names. Raises ``CorruptInput`` when it ends before them."""
        store, key = self.resolve(url)
        with self._throttle(store):
            return store.get_range(key, offset, length)

    def _throttle(self, store: Objects) -> contextlib.AbstractContextManager[None]:
        if store is self.lake or store.location.is_local or self.own:
            return contextlib.nullcontext()
        return throttle(self._lake_url, _base(store)).request()

    def resolve(self, url: str) -> tuple[Objects, str]:
        """The store and key behind a manifest's ``url``: a key of the lake, or a place under a mirror."""
        if "://" not in url:
            return self.lake, url
        for store in self.mirrors:
            base = _base(store)
            if url.startswith(base + "/"):
                return store, url[len(base) + 1 :]
        raise LakeError(
            f"{url} lies under none of the recipe's mirrors", expected=[_base(m) for m in self.mirrors], found=url
        )

    def url(self, store: Objects, key: str) -> str:
        """Where an object is, as manifests record it: an absolute URL without options such as the region, or a
        key of the lake, which may be moved, for an archive that is part of it."""
        return f"{self._place}/{key}" if self.own else f"{_base(store)}/{key}"


def _base(store: Objects) -> str:
    return store.url.split("?")[0].rstrip("/")
