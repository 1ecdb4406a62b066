"""Typed errors: one sentence each, what was expected and found, and whether a retry can help."""

import errno
from enum import IntEnum, StrEnum


class ErrorClass(StrEnum):
    """What kind of failure it was, which decides who may try again, and when."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    QUOTA = "quota"
    RESOURCE = "resource"


class ExitCode(IntEnum):
    """Exit codes of every ``python -m flows.X``."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    HELD = 3
    TRANSIENT = 4


class LakeError(Exception):
    """Anything weatherlake raises on purpose.

    ``message`` is one sentence. ``expected`` and ``found`` hold both values when two things disagree;
    they are appended to the sentence, so a caller never has to format them itself.
    """

    error_class = ErrorClass.PERMANENT
    exit_code = ExitCode.FAILED

    def __init__(
        self,
        message: str,
        *,
        partition: str | None = None,
        expected: object = None,
        found: object = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message
        self.partition = partition
        self.expected = expected
        self.found = found
        self.retry_after = retry_after
        super().__init__(message)

    def __str__(self) -> str:
        text = self.message
        if self.expected is not None or self.found is not None:
            text = f"{text.rstrip('.')}: expected {self.expected}, found {self.found}"
        return text

    def __reduce__(self):
        # Keyword-only arguments do not survive the default pickling, and errors cross process borders.
        return _rebuild, (type(self), self.message, self.__dict__)


def _rebuild(cls: type[LakeError], message: str, state: dict) -> LakeError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class UsageError(LakeError):
    """The caller asked for something that cannot be: a wrong option, recipe, run or value."""

    exit_code = ExitCode.USAGE


class RecipeError(UsageError):
    """A recipe is unknown, unreadable, or has a key or a value that is not allowed."""


class TransientError(LakeError):
    """A failure that may well be gone when tried again: the network, a 503, a run not there yet."""

    error_class = ErrorClass.TRANSIENT
    exit_code = ExitCode.TRANSIENT


class NotThereYet(TransientError):
    """The provider has not published what was asked for (yet)."""


class Unreachable(TransientError):
    """A store or server does not answer."""


class Overloaded(Unreachable):
    """A server says that it has too much to do (503)."""


class QuotaError(LakeError):
    """The provider said to slow down; ``retry_after`` holds the seconds it named."""

    error_class = ErrorClass.QUOTA
    exit_code = ExitCode.TRANSIENT


class ResourceError(LakeError):
    """The machine ran out of something: memory, disk."""

    error_class = ErrorClass.RESOURCE


class AccessError(LakeError):
    """The store refuses: wrong credentials, no permission, read-only."""


class CorruptInput(LakeError):
    """Bytes are not what they should be: truncated, wrong magic, wrong digest, index and file disagree."""


class NotFound(LakeError):
    """An object that should be there is not."""


class ConflictError(TransientError):
    """Somebody else changed an object first: a conditional write did not hold."""


class Changed(ConflictError):
    """An object at a source is not the one any more that was to be taken."""


def as_lake_error(error: BaseException, what: str = "") -> LakeError:
    """Any exception as a typed one: `LakeError` as it is, the rest by what the platform says of it."""
    if isinstance(error, LakeError):
        return error
    prefix = f"{what}: " if what else ""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    text = f"{prefix}{type(error).__name__}: {first_line}"
    if isinstance(error, MemoryError):
        return ResourceError(f"{prefix}out of memory ({first_line})")
    if isinstance(error, OSError):
        return from_os_error(error, what)
    return LakeError(text)


def from_os_error(error: OSError, what: str = "") -> LakeError:
    """An operating-system error as a typed one, by its ``errno``."""
    prefix = f"{what}: " if what else ""
    where = f" ({error.filename})" if error.filename else ""
    reason = f"{error.strerror or str(error) or type(error).__name__}{where}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE):
        return ResourceError(f"{prefix}{reason}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessError(f"{prefix}{reason}")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{prefix}{reason}")
    return Unreachable(f"{prefix}{reason}")
