"""A lake with the demo in it, made once: tests that change it work on a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .running import pipeline


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which the pipeline of the demo has run undisturbed. Not to be changed."""
    lake = tmp_path_factory.mktemp("demo") / "lake"
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    return lake


@pytest.fixture
def copy_of_demo(demo: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of the demo's lake to work on."""
    made = 0

    def copy() -> Path:
        nonlocal made
        made += 1
        return Path(shutil.copytree(demo, tmp_path / f"lake-{made}"))

    return copy
