"""One server for most tests: a lake of four collections, on grids of every sort."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.lake.lake import Lake

from ..serving.published import publish
from .running import Server, running


@pytest.fixture(scope="session")
def api_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake: ``made.global`` (members, levels), ``made.lambert``, ``made.regional`` and ``made.plain`` (neither)."""
    path = tmp_path_factory.mktemp("api") / "lake"
    lake = Lake(str(path))
    publish(lake, "global-360", zone="global", runs=(0, 1))
    publish(lake, "lambert", zone="lambert", members=0)
    publish(lake, "regional", zone="regional", members=0, levels=())
    publish(lake, "global", zone="plain", members=0, levels=(), runs=(0, 1))
    return path


@pytest.fixture(scope="session")
def api(api_lake: Path) -> Iterator[Server]:
    """The API on that lake, with limits that are easily reached and no rate."""
    flags = ("--rate", "none", "--max-points", "1000", "--max-values", "400000", "--max-body-kb", "256")
    with running(str(api_lake), *flags, "--slow", "3") as server:
        yield server
