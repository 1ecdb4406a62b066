"""How the files of an export come into the lake: streamed, each in one step, with a list of checksums beside them.

``SHA256SUMS`` is written last and lists every other file as ``sha256sum --check SHA256SUMS`` reads it. Of a Zarr store
the metadata of the root comes after everything else, and goes first when the store is made anew with other content:
what a reader can open is whole.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from ..lake.errors import NotFound
from ..lake.lake import Lake
from ..lake.partition import Output

CHECKSUMS = "SHA256SUMS"
_AT_ONCE = 8
_STORES = (".zarr", ".icechunk")
_ROOTS = (".zarr/zarr.json", ".icechunk/repo")


def place(lake: Lake, prefix: str, render: Callable[[Path], Iterable[Path]]) -> list[Output]:
    """Have files made in a temporary folder, and put each as ``<prefix>/<its path in the folder>``.

    What an earlier, other product left below the prefix is removed when the new one is whole.
    """
    with TemporaryDirectory(prefix="weatherlake-") as name:
        folder = Path(name)
        paths = sorted(render(folder))
        before = listed(lake, prefix)
        roots = [p for p in paths if p.relative_to(folder).as_posix().endswith(_ROOTS)]
        for root in roots:
            key = root.relative_to(folder).as_posix()
            if key in before:
                # Its chunks are about to change under it: without its metadata nobody takes it for a store.
                lake.objects.delete(f"{prefix}/{key}")

        def put(path: Path) -> Output:
            return lake.write_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            outputs = list(pool.map(put, (p for p in paths if p not in roots)))
            outputs += pool.map(put, roots)
    outputs.append(lake.write(f"{prefix}/{CHECKSUMS}", checksums(prefix, outputs)))
    for key in before - {o.uri.removeprefix(f"{prefix}/") for o in outputs}:
        lake.objects.delete(f"{prefix}/{key}")
    return outputs


def is_product(key: str) -> bool:
    """Whether an output is what a user takes away: a file, or the root of a store; not what is inside a store, nor the
    checksums."""
    inside = any(part.endswith(_STORES) for part in key.split("/")[:-1])
    return key.endswith(_ROOTS) or not (inside or key.endswith(f"/{CHECKSUMS}"))


def checksums(prefix: str, outputs: Iterable[Output]) -> bytes:
    """The content of ``SHA256SUMS`` for outputs below a prefix, sorted by path."""
    rows = sorted((o.uri.removeprefix(f"{prefix}/"), o.digest.removeprefix("sha256:")) for o in outputs)
    return "".join(f"{digest}  {path}\n" for path, digest in rows).encode()


def listed(lake: Lake, prefix: str) -> set[str]:
    """Paths that the checksums below a prefix name; none where there are no checksums."""
    try:
        text = lake.objects.get(f"{prefix}/{CHECKSUMS}").decode()
    except NotFound:
        return set()
    return {line.split("  ", 1)[1] for line in text.splitlines()}
