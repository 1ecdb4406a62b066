"""Fixtures every test may use."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

import tasks  # noqa: F401  (loads PROJ before anything can load ecCodes)

from .servers import CREDENTIALS, Archive, S3Server, archive

# No test is a stopwatch: on a busy machine the first example may take a second.
settings.register_profile("weatherlake", deadline=None)
settings.load_profile("weatherlake")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real files; the test is skipped where it is not there."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real files (../shared) is not there")
    return SHARED


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server on loopback; ``s3.lake()`` is the URL of a new, empty lake in it.

    From its first use on, the environment holds credentials for it, for this process and its children.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        server = S3Server()
        yield server
        server.close()


@pytest.fixture
def http_archive() -> Iterator[Callable[..., Archive]]:
    """``http_archive(folder, **faults)`` serves a folder over HTTP until the test ends (see `servers.Archive`)."""
    with ExitStack() as stack:
        yield lambda folder, **faults: stack.enter_context(archive(folder, **faults))


@pytest.fixture(params=["folder", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty store: every test that takes it runs on a local folder and on S3."""
    return str(tmp_path / "lake") if request.param == "folder" else request.getfixturevalue("s3").lake()
