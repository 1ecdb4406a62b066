"""Copies of the provider's messages in the lake's raw zone, for ``transfer: copy``."""

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import xxhash

from ..lake.errors import CorruptInput
from ..lake.partition import Output, Partition
from ..lake.phase import Context
from ..lake.ranges import fetch, parts
from . import manifest
from .archive import Archive
from .decode import verify
from .recipe import ForecastRecipe
from .runs import parse_run

_BLOCK = 4 * 2**20


def raw_folder(recipe: ForecastRecipe, partition: str) -> str:
    """Where the copies of a partition lie: ``raw/<recipe>/<era of the provider>/<run>/step-NNN``."""
    return f"raw/{recipe.name}/{recipe.source.era(parse_run(partition.split('/', 1)[0]))}/{partition}"


def copy(
    context: Context[ForecastRecipe], archive: Archive, rows: pa.Table, partition: Partition
) -> tuple[pa.Table, list[Output]]:
    """Copy the selected messages into the raw zone, a file a source file, and point the rows at the copies.

    Ranges are joined, fetched many at once and checked message by message; a copy is written in one step. Goes
    through a temporary file on disk, so that memory stays within the budget of `lake.ranges`, however large the files.
    Raises ``CorruptInput`` that names the message.
    """
    url = np.array(rows["url"].to_pylist(), dtype=object)
    offset = rows["offset"].to_numpy().copy()
    length = rows["length"].to_numpy()
    etags = np.array(rows["etag"].to_pylist(), dtype=object)
    outputs: list[Output] = []
    for source in dict.fromkeys(url):
        here = np.flatnonzero(url == source)
        target = f"{raw_folder(context.recipe, partition.key)}/{PurePosixPath(source).name}"
        with tempfile.TemporaryDirectory(prefix="weatherlake-") as folder:
            path = Path(folder) / "messages"
            new, digests, digest, size = gather(archive, source, offset[here], length[here], path)
            context.lake.objects.put(target, path)
        offset[here] = new
        url[here] = target
        # A message's own digest, not the copy's etag: copied again, or with other messages beside them, the same bytes
        # leave everything downstream alone.
        etags[here] = digests
        outputs.append(Output(target, digest, size))
    for name, values in (("url", url), ("offset", offset), ("etag", etags)):
        rows = manifest.with_column(rows, name, list(values))
    return rows, outputs


def gather(
    archive: Archive, url: str, offsets: np.ndarray, lengths: np.ndarray, path: Path
) -> tuple[np.ndarray, list[str], str, int]:
    """Write the distinct messages at these ranges one after the other, in the order they have in the source.

    Returns each range's new offset and its message's digest, then the digest and size of the whole.
    """
    ranges = sorted({(int(o), int(n)) for o, n in zip(offsets, lengths, strict=True)})
    places: dict[int, int] = {}
    size = 0
    for o, n in ranges:
        places[o] = size
        size += n
    digests: dict[int, str] = {}
    with open(path, "w+b") as out:
        # Blocks arrive in any order; each message has its place already.
        for part, block in fetch(archive.fetch, parts(url, ranges)):
            start = part.ranges[0][0]
            for o, n in part.ranges:
                message = block[o - start : o - start + n]
                _check(message, f"{url} at {o}")
                digests[o] = f"xxh3:{xxhash.xxh3_128_hexdigest(message)}"
                os.pwrite(out.fileno(), message, places[o])
        sha = hashlib.sha256()
        while block := out.read(_BLOCK):
            sha.update(block)
    found = [int(o) for o in offsets]
    return np.array([places[o] for o in found]), [digests[o] for o in found], f"sha256:{sha.hexdigest()}", size


def _check(message: memoryview, where: str) -> None:
    try:
        verify(message)
    except CorruptInput as error:
        raise CorruptInput(f"{where}: {error.message}", expected=error.expected, found=error.found) from None
