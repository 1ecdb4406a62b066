"""What an exporter is given of a forecast: its runs from the published cube, its messages from where they lie."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..exports.exporter import Exporter, Source
from ..lake.errors import CorruptInput
from ..lake.fork import fast_codecs
from ..lake.phase import Context
from ..lake.reading import cube_path, open_zone
from .archive import Archive
from .copying import gather
from .recipe import ForecastRecipe
from .refine import run_manifest
from .runs import index_of, one_run, parse_run, some_runs

if TYPE_CHECKING:
    import xarray as xr
    import zarr


class RunSource(Source):
    """A published run as the source of an export."""

    def __init__(
        self, context: Context[ForecastRecipe], scope: str, exporter: Exporter, runs: Sequence[str] = ()
    ) -> None:
        self.context = context
        self.lake = context.lake
        self.scope = scope
        self.prefix = f"exports/{context.recipe.name}/{scope}/{exporter.name}"
        self._zone = exporter.zone
        self._runs = list(runs) or [scope]

    def run(self) -> "xr.Dataset":
        return one_run(self._cube(), self.scope)

    def runs(self) -> "xr.Dataset":
        return some_runs(self._cube(), self._runs)

    def _cube(self) -> "xr.Dataset":
        with fast_codecs():
            return open_zone(self.lake, self.context.recipe.name, self._zone)

    def stored(self) -> "tuple[zarr.Group, list[int]]":
        cube = self.lake.cube(cube_path(self.lake, self.context.recipe.name, self._zone))
        return cube.group(), [index_of(self.context.recipe, parse_run(run)) for run in self._runs]

    def manifest(self) -> pa.Table:
        return run_manifest(self.context, self.scope)

    def messages(self, rows: pa.Table) -> Iterator[bytes]:
        archive = Archive(self.context)
        url = np.array(rows["url"].to_pylist(), dtype=object)
        offset, length = (rows[c].to_numpy() for c in ("offset", "length"))
        etags = rows["etag"].to_pylist()
        # Rows that follow each other in one object are fetched together; a file on disk puts them into their order.
        starts = [0, *(np.flatnonzero(url[1:] != url[:-1]) + 1).tolist(), len(url)]
        for first, last in pairwise(starts):
            if first == last:
                continue
            here = slice(first, last)
            _refuse_changed(archive, url[first], etags[first])
            with TemporaryDirectory(prefix="weatherlake-") as folder:
                path = Path(folder) / "messages"
                places, digests, _, _ = gather(archive, url[first], offset[here], length[here], path)
                with path.open("rb") as file:
                    for n, (place, digest) in enumerate(zip(places, digests, strict=True), first):
                        if (etags[n] or "").startswith("xxh3:") and etags[n] != digest:
                            raise CorruptInput(f"{url[n]} at {offset[n]} is not the message that was copied")
                        file.seek(int(place))
                        yield file.read(int(length[n]))


def _refuse_changed(archive: Archive, url: str, etag: str | None) -> None:
    """Raise ``CorruptInput`` for an object that is not the one ingest saw. Copies are known by their messages."""
    if "://" not in url or not etag or etag.startswith("xxh3:"):
        return
    store, key = archive.resolve(url)
    meta = store.head(key)
    if meta is not None and store.version(meta) != etag:
        raise CorruptInput(f"{url} was changed since it was ingested", expected=etag, found=store.version(meta))
