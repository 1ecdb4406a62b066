"""The smallest tracked unit of work, what goes into it, what comes out, and its fingerprint."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

SETTLE = "settle"
"""Last part of the key of the record that a phase's settling of a scope leaves."""


class Status(StrEnum):
    """The states a ledger record can be in."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    REJECTED = "rejected"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Input:
    """Something a partition reads. ``digest`` is a content digest or an etag; None when not known yet."""

    uri: str
    digest: str | None = None


RETIRED = "retired:"
"""Before the URI of an output that was removed on purpose, such as a copy of a run that is published."""


@dataclass(frozen=True, slots=True)
class Output:
    """Something a partition wrote.

    ``uri`` is a key of the lake (``exports/demo/...``) or a place in a cube
    (``cube:refined/demo@main#t2m/c/0/0/0/0/0``); ``digest`` identifies the content, so a result that
    comes out the same again leaves everything downstream alone.
    """

    uri: str
    digest: str
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """One unit of work as planned: small, frozen and picklable.

    ``key`` starts with the scope (for a forecast: the run) and is stable over time. ``params`` is what
    the phase's ``process`` needs to know beyond the key, as JSON values. ``bytes`` and ``memory`` are
    projections: bytes to move, and peak bytes held while at it. ``seen`` is how many attempts the ledger
    knew when this was planned; the runner fills it in, so that work done by others since is not done again.
    ``lost`` is how many attempts since it was last done were lost with their worker; the worker fills it in, and a
    phase whose work may crash then goes about it with more care.
    """

    key: str
    fingerprint: str
    inputs: tuple[Input, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    bytes: int = 0
    memory: int = 0
    seen: int | None = None
    lost: int = 0

    @property
    def scope(self) -> str:
        """The part of the key before the first slash."""
        return self.key.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Produced:
    """What ``process`` or ``settle`` hands back: outputs to verify and record, and numbers worth keeping.

    ``inputs`` and ``fingerprint`` replace the planned ones where the work found out more (an etag).
    ``rejected`` holds the reason when the work was done but its result must not be used; ``held`` the
    reason when a settling finished but keeps its scope from being published.
    """

    outputs: tuple[Output, ...] = ()
    metrics: Mapping[str, float | int | str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    fingerprint: str | None = None
    rejected: str | None = None
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a partition in this attempt: a status and, unless done, one sentence; the URIs of its outputs
    as a person or a program wants them."""

    key: str
    status: Status
    error_class: str | None = None
    message: str | None = None
    retry_after: float | None = None
    bytes: int = 0
    seconds: float = 0.0
    held: str | None = None
    outputs: tuple[str, ...] = ()


def public_uri(uri: str) -> str:
    """An output as a person or a program wants it: a key of the lake, or a cube's path without chunks."""
    if uri.startswith("cube:"):
        return uri.removeprefix("cube:").partition("#")[0]
    if uri.startswith("fork:"):
        return uri.removeprefix("fork:").partition("@")[0]
    return uri


def public_uris(outputs: Iterable[Output]) -> tuple[str, ...]:
    """The public URIs of outputs, each once."""
    return tuple(dict.fromkeys(public_uri(o.uri) for o in outputs))


def digest_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of ``data`` as ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_json(value: object) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no white space)."""
    return digest_bytes(orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS))


def fingerprint(version: str, part: object, inputs: Iterable[Input]) -> str:
    """Identity of a piece of work: code version of the phase, the part of the recipe that matters, inputs.

    Inputs count by URI and digest and regardless of their order.
    """
    rows = sorted((i.uri, i.digest or "") for i in inputs)
    return digest_json([version, part, rows])
