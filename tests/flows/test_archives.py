"""The same archive in a folder, behind HTTP and in S3, left there or copied: the same cube."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.executor import Threads
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.objects import Objects
from tasks.lake.partition import Status
from tasks.lake.phase import Window
from tasks.plan import Options
from tasks.runner import run_phase

from ..servers import S3Server

RUN = datetime(2026, 11, 20, tzinfo=UTC)
PATTERN = "{init:%Y%m%d}/{init:%H}z/demo/2p0/enfo/{init:%Y%m%d%H}0000-{step}h-enfo-ef.grib2"


@pytest.fixture
def root(request: pytest.FixtureRequest, demo: Path) -> str:
    """URL of the demo's archive on each kind of store."""
    archive = demo / "archive" / "demo"
    if request.param == "folder":
        return archive.as_uri()
    if request.param == "http":
        return request.getfixturevalue("http_archive")(archive).url
    server: S3Server = request.getfixturevalue("s3")
    url = server.lake("archive")
    store = Objects(url)
    for path in archive.rglob("*.*"):
        store.put(path.relative_to(archive).as_posix(), path.read_bytes())
    return url


@pytest.fixture
def executor() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.close()


def recipe(root: str, transfer: str, **source: object) -> Any:
    """The demo's recipe, reading its archive from ``root``."""
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text())
    steps, members = list(range(0, 25, 3)), [0, 1, 2, 3]
    document["source"] = {
        "type": "folder", "root": root, "pattern": PATTERN, "index": "ecmwf",
        "steps": steps, "members": members, **source,
    }  # fmt: skip
    return recipes.parse(document | {"transfer": transfer})


def refined(lake: Lake) -> dict[str, str]:
    """Digest of the values that every refine partition wrote."""
    records = lake.ledger("demo").read_all("refine")
    return {k: r.outputs[0].digest for k, r in records.items() if r.status is Status.DONE and r.outputs}


@pytest.mark.parametrize("transfer", ["virtual", "copy"])
@pytest.mark.parametrize("root", ["folder", "http", "s3"], indirect=True)
def test_the_same_values_from_everywhere(root: str, transfer: str, demo: Path, tmp_path: Path, executor: Threads):
    lake = Lake(str(tmp_path / "lake"))
    for phase in ("ingest", "refine"):
        report = run_phase(lake, recipe(root, transfer), phase, Window(run=RUN), Options(), executor)
        assert report.exit_code == 0, report.problems
    assert refined(lake) == refined(Lake(str(demo)))
    assert bool(lake.objects.listing("raw")) == (transfer == "copy")


def test_a_file_without_index_is_scanned(demo: Path, tmp_path: Path, executor: Threads):
    """The same fields by their headers: ecCodes' own names of levels, so of surface variables too."""
    lake = Lake(str(tmp_path / "lake"))
    document = recipe((demo / "archive" / "demo").as_uri(), "virtual").model_dump(mode="json")
    document["source"]["index"] = "none"
    for variable in document["select"]["variables"]:
        if variable["level_type"] == "sfc":
            variable["level_type"] = None
    scanned = recipes.parse(document)
    for phase in ("ingest", "refine"):
        report = run_phase(lake, scanned, phase, Window(run=RUN), Options(), executor)
        assert report.exit_code == 0, report.problems
    assert refined(lake) == refined(Lake(str(demo)))


def test_a_server_that_stumbles(demo: Path, tmp_path: Path, executor: Threads, http_archive: Callable[..., Any]):
    """Every fifth answer is a 503: nothing is lost, nothing is NaN."""
    served = http_archive(demo / "archive" / "demo", error_rate=0.2)
    lake = Lake(str(tmp_path / "lake"))
    for phase in ("ingest", "refine"):
        report = run_phase(lake, recipe(served.url, "virtual"), phase, Window(run=RUN), Options(), executor)
        assert report.exit_code == 0, report.problems
    assert refined(lake) == refined(Lake(str(demo)))


def test_a_republished_index_is_noticed(demo: Path, tmp_path: Path, executor: Threads):
    """Trap 9 of the facts: what the provider changed after we read it."""
    import shutil

    archive = Path(shutil.copytree(demo / "archive" / "demo", tmp_path / "archive"))
    lake, mine = Lake(str(tmp_path / "lake")), recipe(archive.as_uri(), "virtual")
    assert run_phase(lake, mine, "ingest", Window(run=RUN), Options(), executor).partitions["done"] == 9
    assert run_phase(lake, mine, "ingest", Window(run=RUN), Options(), executor).status == "nothing to do"
    index = next(archive.rglob("*-6h-enfo-ef.index"))
    lines = index.read_text().splitlines()
    index.write_text("\n".join(reversed(lines)) + "\n")
    again = run_phase(lake, mine, "ingest", Window(run=RUN), Options(), executor)
    assert again.partitions["done"] == 1
