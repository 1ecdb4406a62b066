"""Receipts: what a transfer has copied so far, kept at the target so that any machine can go on with it.

They are appended as small objects of JSON lines below a prefix, every few seconds; nothing is read or changed again
until the transfer is over and its manifest takes their place.
"""

import threading
import time
import uuid
from types import TracebackType

import msgspec

from .contents import contents
from .errors import CorruptInput, LakeError
from .objects import Objects

_EVERY = 2.0
_MANY = 256


class Receipt(msgspec.Struct, frozen=True):
    """An object that lies at the target as it was at the source: size, SHA-256 (hexadecimal), the version it had at
    either end (see `Objects.version`), and how it came there."""

    key: str
    bytes: int
    sha256: str
    source: str | None
    target: str | None
    how: str


_decoder = msgspec.json.Decoder(Receipt)


class Receipts:
    """The receipts of one transfer; a context manager that writes what it was given last when it is left."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self.objects = objects
        self.prefix = prefix
        self._lock = threading.Lock()
        self._known: dict[str, Receipt] = {}
        self._new: list[Receipt] = []
        self._written = time.monotonic()
        keys = [m.key for m in objects.listing(prefix)]
        for key, data in zip(keys, contents(objects, keys), strict=True):
            self._read(key, data)

    def _read(self, key: str, data: bytes) -> None:
        try:
            found = [_decoder.decode(line) for line in data.splitlines()]
        except msgspec.DecodeError as error:
            raise CorruptInput(f"receipts {key} cannot be read ({error})") from None
        self._known |= {r.key: r for r in found}

    def __enter__(self) -> "Receipts":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            self.write()
        except LakeError:
            # What ended the transfer, such as a full disk, may well keep its receipts from being written: it counts.
            if kind is None:
                raise

    def of(self, key: str) -> Receipt | None:
        """The receipt of an object, or None."""
        return self._known.get(key)

    def add(self, receipt: Receipt) -> None:
        """Note that an object is at the target. From many threads."""
        with self._lock:
            if self._known.get(receipt.key) == receipt:
                return
            self._known[receipt.key] = receipt
            self._new.append(receipt)
            due = len(self._new) >= _MANY or time.monotonic() - self._written >= _EVERY
        if due:
            self.write()

    def write(self) -> None:
        """Put at the target what was not there yet."""
        with self._lock:
            new, self._new = self._new, []
            self._written = time.monotonic()
        if new:
            self.objects.put(
                f"{self.prefix}/{uuid.uuid4().hex}.jsonl", b"".join(msgspec.json.encode(r) + b"\n" for r in new)
            )

    def forget(self) -> None:
        """Remove them: a manifest says all of it now."""
        self.objects.delete_all(self.prefix)
        self._known, self._new = {}, []
