"""Some runs of a cube at another place: chunks first, then what names them, last the object that says they are there.

So the copy is a whole repository at any moment, whoever reads it, and whatever is published at the source meanwhile:
all is taken from one snapshot (`cube_extract.Published`). A run that is there already stays there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from .cube_extract import REPO, Extract, Published
from .errors import ConflictError, NotFound, UsageError
from .objects import Objects
from .transfer import Item, present

_TRIES = 50
_ORPHANED = timedelta(hours=1)
"""Metadata that nothing refers to is removed when it is as old: by then who wrote it has come to its end."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A cube as it is at the target now: its path, and the metadata objects of it by key."""

    path: str
    files: dict[str, bytes]


def chunk_items(path: str, chunks: dict[str, int]) -> list[Item]:
    """Chunk objects of a cube, to be copied."""
    return [Item(f"{path}/chunks/{name}", size) for name, size in sorted(chunks.items())]


def refuse(source: Published, target: Objects) -> None:
    """Raise ``UsageError`` when the target has another cube there, or runs that the source has not: before anything is
    copied."""
    there, _ = _there(target, source.path)
    if there is not None:
        _refuse_others(source, there, target)


def place(source: Published, target: Objects, index: int, copy: Callable[[Sequence[Item]], None]) -> Placed:
    """Make a run of a cube, whose chunks were copied, part of the cube at the target; others that are there stay.

    ``copy`` is called with chunk objects that the target still lacks: those of other runs that were published anew.
    Raises ``UsageError`` when the target has another cube there, or runs that the source has no longer.
    """
    for _ in range(_TRIES):
        there, etag = _there(target, source.path)
        runs = {index}
        if there is not None:
            _refuse_others(source, there, target)
            runs |= set(there.runs)
        part = source.extract(runs)
        if there is not None and there.origin == part.origin:
            return _as_it_is(target, source.path, there)
        items = chunk_items(source.path, dict(part.chunks))
        known = present(target, [i.key for i in items])
        lacking = [i for i in items if i.key not in known or known[i.key].size != i.bytes]
        if lacking:
            copy(lacking)
        try:
            files = _enter(target, source.path, part, etag, fresh=there is None)
        except ConflictError:
            # Another run was archived in the meantime: both are to be in it.
            continue
        _remove_orphans(target, source.path, part, there)
        return Placed(source.path, files)
    raise ConflictError(f"cube {source.path} kept changing at {target.url.split('?')[0]}")


def _there(target: Objects, path: str) -> tuple[Published | None, str | None]:
    """The cube as it is at the target, and the etag that changes with it."""
    try:
        _, etag = target.get_with_etag(f"{path}/{REPO}")
        return Published(target, path), etag
    except NotFound:
        return None, None


def _refuse_others(source: Published, there: Published, target: Objects) -> None:
    where = f"{target.url.split('?')[0].rstrip('/')}/{source.path}"
    if there.identity != source.identity:
        raise UsageError(
            f"{where} is another cube than the one to be copied, which was made anew since; name another place",
            expected=source.identity, found=there.identity,
        )  # fmt: skip
    lost = sorted(set(there.runs) - set(source.runs))
    if lost:
        raise UsageError(
            f"{where} holds {len(lost)} run(s) that the cube to be copied has not (place {lost[0]} of init_time): they "
            "would be lost; name another place"
        )


def _as_it_is(target: Objects, path: str, there: Published) -> Placed:
    names = sorted(there.metadata)
    found = target.get_many([f"{path}/{name}" for name in names])
    return Placed(path, {f"{path}/{n}": data for n, (data, _) in zip(names, found, strict=True)})


def _enter(target: Objects, path: str, part: Extract, etag: str | None, *, fresh: bool) -> dict[str, bytes]:
    """Put the metadata, and ``repo`` last, if it is still the one that was seen. Raises ``ConflictError``."""
    files = {f"{path}/{name}": data for name, data in part.files.items()}
    repo = f"{path}/{REPO}"
    before = present(target, [k for k in files if k != repo])
    with ThreadPoolExecutor(16) as pool:
        # Never changed under its name: what is there is the same, when it is whole.
        list(
            pool.map(
                lambda key: target.put(key, files[key]),
                [k for k in files if k != repo and (k not in before or before[k].size != len(files[k]))],
            )
        )
    if fresh:
        target.put_new(repo, files[repo])
    else:
        target.replace(repo, files[repo], etag)
    return files


def _remove_orphans(target: Objects, path: str, part: Extract, before: Published | None) -> None:
    """Metadata of neither this state nor the one before, which somebody may still be reading."""
    keep = set(part.files) | (before.metadata if before is not None else frozenset())
    now = target.head(f"{path}/{REPO}")
    for folder in ("snapshots", "manifests", "transactions"):
        for meta in target.folder(f"{path}/{folder}"):
            old = now is not None and now.last_modified - meta.last_modified > _ORPHANED
            if old and meta.key.removeprefix(f"{path}/") not in keep:
                target.delete(meta.key)
