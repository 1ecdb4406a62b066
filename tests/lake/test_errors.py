"""Typed errors: what they say, what they know, and that they survive a process border."""

import copy
import errno
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lake import errors, ledger
from tasks.lake.errors import (
    AccessError,
    Changed,
    ConflictError,
    CorruptInput,
    ErrorClass,
    ExitCode,
    LakeError,
    NotFound,
    NotThereYet,
    Overloaded,
    QuotaError,
    RecipeError,
    ResourceError,
    TransientError,
    Unreachable,
    UsageError,
    as_lake_error,
    from_os_error,
)

KINDS = [
    kind
    for module in (errors, ledger)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, LakeError) and kind.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling(kind: type[LakeError]) -> None:
    error = kind("it broke", partition="2026-11-20T00/step-006", expected=[1, 2], found={"a": 3}, retry_after=2.5)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert vars(again) == vars(error)
        assert again.args == error.args == ("it broke",)
        assert str(again) == str(error) == "it broke: expected [1, 2], found {'a': 3}"
        assert (again.error_class, again.exit_code) == (kind.error_class, kind.exit_code)


@given(
    st.text(), st.none() | st.integers() | st.text(), st.none() | st.integers() | st.text(), st.none() | st.floats(0)
)
def test_what_was_expected_and_found_is_said(message: str, expected: object, found: object, wait: float | None) -> None:
    error = LakeError(message, expected=expected, found=found, retry_after=wait)
    said = str(error)
    if expected is None and found is None:
        assert said == message
    else:
        assert said == f"{message.rstrip('.')}: expected {expected}, found {found}"
    assert str(pickle.loads(pickle.dumps(error))) == said


def test_who_may_try_again() -> None:
    again = {k for k in KINDS if k.error_class in (ErrorClass.TRANSIENT, ErrorClass.QUOTA)}
    assert again == {TransientError, NotThereYet, Unreachable, Overloaded, ConflictError, Changed, QuotaError}
    assert {k for k in KINDS if k.exit_code is ExitCode.TRANSIENT} == again
    assert {k for k in KINDS if k.exit_code is ExitCode.USAGE} == {UsageError, RecipeError}
    assert ResourceError.error_class is ErrorClass.RESOURCE


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ResourceError),
        (errno.EDQUOT, ResourceError),
        (errno.ENOMEM, ResourceError),
        (errno.EMFILE, ResourceError),
        (errno.EACCES, AccessError),
        (errno.EROFS, AccessError),
        (errno.ENOENT, NotFound),
        (errno.ENOTDIR, NotFound),
        (errno.ECONNREFUSED, Unreachable),
        (errno.EIO, Unreachable),
    ],
)
def test_errors_of_the_operating_system(number: int, kind: type[LakeError]) -> None:
    error = from_os_error(OSError(number, "the reason", "/a/file"), "writing")
    assert type(error) is kind
    assert str(error) == "writing: the reason (/a/file)"
    assert type(as_lake_error(OSError(number, "the reason"))) is kind


def test_any_exception_as_a_typed_one() -> None:
    error = NotFound("gone")
    assert as_lake_error(error, "x") is error
    assert isinstance(as_lake_error(MemoryError("cannot allocate 3 GB")), ResourceError)
    assert str(as_lake_error(MemoryError("cannot allocate 3 GB"), "k")) == "k: out of memory (cannot allocate 3 GB)"
    assert isinstance(as_lake_error(ConnectionResetError()), Unreachable)
    unforeseen = as_lake_error(ValueError("first line\nsecond line"), "2026-11-20T00/step-006")
    assert type(unforeseen) is LakeError
    assert str(unforeseen) == "2026-11-20T00/step-006: ValueError: first line"
    assert str(as_lake_error(KeyError())) == "KeyError: KeyError"


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError()])
def test_no_error_is_without_words(error: OSError) -> None:
    assert str(as_lake_error(error, "reading")) == f"reading: {type(error).__name__}"
    assert str(as_lake_error(error)) == type(error).__name__


def test_a_corrupt_input_is_for_good() -> None:
    error = CorruptInput("GRIB message 3 ends early", expected="7777", found="0000", partition="p")
    assert str(error) == "GRIB message 3 ends early: expected 7777, found 0000"
    assert error.error_class is ErrorClass.PERMANENT
    assert error.exit_code == 1
