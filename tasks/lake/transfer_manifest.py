"""The manifest of a transfer: every object with its size and SHA-256, counts, bytes, and a signature over all of it.

It lies at the target, in a folder of its own (``transfers/<recipe>/<run>/``): ``manifest.json``; its signature
``manifest-<digest>.sig`` (64 bytes) and the ``public-key.pem`` it is checked with; ``SHA256SUMS`` for ``sha256sum -c``,
to be run in the root of the target. The manifest is written last: a transfer without one is not over.
"""

from collections.abc import Iterable, Mapping

import msgspec

from .errors import CorruptInput, NotFound
from .objects import Objects
from .partition import digest_bytes
from .signature import Signer

FOLDER = "transfers"
MANIFEST, SUMS, PUBLIC_KEY = "manifest.json", "SHA256SUMS", "public-key.pem"
RECEIPTS = "receipts"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An object: its key, bytes, SHA-256 in hexadecimal."""

    key: str
    bytes: int
    sha256: str


class Count(msgspec.Struct, frozen=True):
    """How many objects, and bytes of them."""

    objects: int
    bytes: int

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Count":
        """Count entries."""
        sizes = [e.bytes for e in entries]
        return cls(len(sizes), sum(sizes))


class CubeEntry(msgspec.Struct, frozen=True):
    """A cube of which the run is a part: its zone, its path, the run's place along init_time, and the snapshot of the
    source that the run was taken from."""

    zone: str
    path: str
    index: int
    snapshot: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a transfer brought. ``parts`` counts by what was asked for (raw, refined ...); times are UTC."""

    recipe: str
    scope: str
    what: tuple[str, ...]
    source: str
    made: str
    version: str
    total: Count
    parts: Mapping[str, Count]
    objects: tuple[Entry, ...]
    cubes: tuple[CubeEntry, ...] = ()
    format: int = 1

    @property
    def folder(self) -> str:
        """Where it lies at the target."""
        return folder_of(self.recipe, self.scope)


def folder_of(recipe: str, scope: str) -> str:
    """Where the manifest of a transfer lies at its target."""
    return f"{FOLDER}/{recipe}/{scope}"


def sums(entries: Iterable[Entry]) -> bytes:
    """The entries as ``sha256sum -c`` reads them."""
    return "".join(f"{e.sha256}  {e.key}\n" for e in entries).encode()


def write(target: Objects, manifest: Manifest, signer: Signer | None) -> dict[str, bytes]:
    """Put a manifest at the target, and what belongs to it; all of it by its name."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    folder = manifest.folder
    made: dict[str, bytes] = {SUMS: sums(manifest.objects)}
    if signer is not None:
        made |= {PUBLIC_KEY: signer.public_pem, signature_name(data): signer.sign(data)}
    made[MANIFEST] = data
    for name, content in made.items():
        target.put(f"{folder}/{name}", content)
    for meta in target.folder(folder):
        # What an earlier transfer of the same run was signed with.
        if meta.key.endswith(".sig") and meta.key.rpartition("/")[2] not in made:
            target.delete(meta.key)
    if signer is None:
        target.delete(f"{folder}/{PUBLIC_KEY}")
    return made


def signature_name(data: bytes) -> str:
    """Name of the signature of a manifest: of this content, so that a manifest never has the signature of another."""
    return f"manifest-{digest_bytes(data).removeprefix('sha256:')[:12]}.sig"


def read(target: Objects, folder: str) -> tuple[Manifest, bytes]:
    """A manifest and its bytes. Raises ``NotFound``, ``CorruptInput``."""
    data = target.get(f"{folder}/{MANIFEST}")
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise CorruptInput(f"{folder}/{MANIFEST} cannot be read ({error})") from None
    if found.format != 1:
        raise CorruptInput(f"{folder}/{MANIFEST} is of a format that is not known", expected=1, found=found.format)
    return found, data


def find(target: Objects, recipe: str = "", scope: str = "") -> tuple[list[str], list[str]]:
    """Folders of the transfers at a target: those that are over, and those that are not. Raises ``NotFound``."""
    prefix = "/".join(p for p in (FOLDER, recipe, scope) if p)
    over: set[str] = set()
    begun: set[str] = set()
    for meta in target.listing(prefix):
        folder, _, name = meta.key.rpartition("/")
        if name == MANIFEST:
            over.add(folder)
        elif folder.endswith(f"/{RECEIPTS}"):
            begun.add(folder.removesuffix(f"/{RECEIPTS}"))
    if not over | begun:
        raise NotFound(f"there is no transfer of {recipe or 'anything'} {scope} at {target.url.split('?')[0]}".strip())
    return sorted(over), sorted(begun - over)
