"""Credentials of a store by reference: its URL says where they are to be found, never what they are.

``s3://bucket/lake?credentials=block:weatherlake-lake/prod``: whoever opens the store asks for them there and then, and
again when they get old. Without a reference the environment and the machine's role decide, as everywhere on AWS.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .errors import UsageError

FRESH = timedelta(minutes=10)
"""How long keys are used before they are asked for again: those of a role are good for an hour or so."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of AWS, or of what speaks its protocol."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


_SOURCES: dict[str, Callable[[str], Keys | None]] = {}


def source(name: str, reader: Callable[[str], Keys | None]) -> None:
    """Make references ``name:...`` known in this process."""
    _SOURCES[name] = reader


@contextmanager
def held(reference: str, reader: Callable[[], Keys | None]) -> Iterator[None]:
    """Have one reference answered by ``reader`` inside the block: for keys that have no name yet."""
    name = reference.partition(":")[0]
    _SOURCES[name] = lambda _place: reader()
    try:
        yield
    finally:
        del _SOURCES[name]


def keys(reference: str) -> Keys | None:
    """The keys behind a reference; None when it leaves them to the machine. Raises ``UsageError``."""
    name, colon, place = reference.partition(":")
    if not colon or not place:
        raise UsageError("credentials are named by a reference", expected="block:TYPE/NAME", found="something else")
    if name not in _SOURCES:
        raise UsageError(f"the credentials {reference} are in a Prefect block, which only flow and task runs can load")
    return _SOURCES[name](place)


@dataclass(frozen=True, slots=True)
class Obstore:
    """Asks for keys in the form that obstore's stores take."""

    reference: str

    def __call__(self) -> Any:
        """The keys, and until when they are to be used."""
        found = _needed(self.reference)
        return {
            "access_key_id": found.access_key_id, "secret_access_key": found.secret_access_key,
            "token": found.session_token, "expires_at": datetime.now(UTC) + FRESH,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Icechunk:
    """Asks for keys in the form that Icechunk takes. Pickled with a session, it holds the reference only."""

    reference: str

    def __call__(self) -> Any:
        """The keys, and until when they are to be used."""
        import icechunk

        found = _needed(self.reference)
        return icechunk.S3StaticCredentials(
            found.access_key_id, found.secret_access_key, found.session_token, datetime.now(UTC) + FRESH
        )


def boto(reference: str | None) -> dict[str, Any]:
    """The keys behind a reference as arguments of a boto3 client; none without a reference."""
    found = keys(reference) if reference else None
    if found is None:
        return {}
    return {
        "aws_access_key_id": found.access_key_id, "aws_secret_access_key": found.secret_access_key,
        "aws_session_token": found.session_token,
    }  # fmt: skip


def _needed(reference: str) -> Keys:
    found = keys(reference)
    if found is None:
        raise UsageError(f"{reference} has no credentials any more")
    return found
