"""Fixtures every test may use."""

from pathlib import Path

import pytest

import tasks  # noqa: F401  (loads PROJ before anything can load ecCodes)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real files; the test is skipped where it is not there."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real files (../shared) is not there")
    return SHARED
