"""Copies of a published run are removed or moved to a colder class, and are not missed afterwards."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from flows import maintain
from tasks.executor import Threads
from tasks.forecasts.retire import copies, retire
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.plan import Options
from tasks.runner import run_phase

from ..servers import S3Server

RUN = datetime(2026, 11, 20, tzinfo=UTC)
SCOPE = "2026-11-20T00"


@pytest.fixture
def executor() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The demo with one variable, one member and two steps, copied."""
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text())
    document["name"] = "small"
    document["transfer"] = "copy"
    variables = [v for v in document["select"]["variables"] if v["name"] == "t2m"]
    document["select"] = {"variables": variables, "steps": [3, 6], "members": [0]}
    document["exports"] = []
    document.pop("products", None)
    document.pop("statistics", None)
    document["grids"] = []
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def made(lake: Lake, recipe: Path, executor: Threads, *phases: str) -> Context:
    loaded = recipes.load(str(recipe))
    for phase in phases:
        report = run_phase(lake, loaded, phase, Window(run=RUN), Options(), executor)
        assert report.exit_code == 0, report.problems
    return Context(lake, loaded)


def test_a_run_that_is_not_published_keeps_its_copies(small: Path, tmp_path: Path, executor: Threads):
    lake = Lake(str(tmp_path / "lake"))
    context = made(lake, small, executor, "ingest")
    with pytest.raises(UsageError, match="is not published"):
        retire(context, SCOPE, "delete")
    assert len(lake.objects.listing("raw")) == 2
    with pytest.raises(UsageError, match="copies nothing"):
        retire(Context(lake, recipes.load(str(small), {"transfer": "virtual"})), SCOPE, "delete")


def test_deleted_copies_are_not_missed(
    small: Path, tmp_path: Path, executor: Threads, capsys: pytest.CaptureFixture[str]
):
    lake = Lake(str(tmp_path / "lake"))
    context = made(lake, small, executor, "ingest", "refine", "validate")
    arguments = [str(small), "--run", SCOPE, "--lake", lake.url]
    assert maintain.main([*arguments, "--raw", "delete", "--plan"]) == 0
    assert "2 copies" in capsys.readouterr().out
    assert len(lake.objects.listing("raw")) == 2
    assert maintain.main([*arguments, "--raw", "delete"]) == 0
    assert not lake.objects.listing("raw")
    assert not copies(context, SCOPE)
    for phase in ("ingest", "refine", "validate"):
        report = run_phase(lake, context.recipe, phase, Window(run=RUN), Options(), executor)
        assert report.status == "nothing to do", (phase, report)
    assert maintain.main([*arguments, "--raw", "GLACIER"]) == 0
    assert "0 copies" in capsys.readouterr().out


def test_copies_move_to_a_colder_class(small: Path, s3: S3Server, executor: Threads):
    boto3 = pytest.importorskip("boto3")
    lake = Lake(s3.lake())
    context = made(lake, small, executor, "ingest", "refine", "validate")
    assert retire(context, SCOPE, "GLACIER_IR").objects == 2
    at = lake.objects.location
    client = boto3.client("s3", endpoint_url=at.option("endpoint"), region_name="us-east-1")
    for meta in lake.objects.listing("raw"):
        key = f"{at.prefix}/{meta.key}" if at.prefix else meta.key
        assert client.head_object(Bucket=at.bucket, Key=key)["StorageClass"] == "GLACIER_IR"
    report = run_phase(lake, context.recipe, "ingest", Window(run=RUN), Options(), executor)
    assert report.status == "nothing to do"


def test_a_folder_has_no_storage_classes(
    small: Path, tmp_path: Path, executor: Threads, capsys: pytest.CaptureFixture[str]
):
    lake = Lake(str(tmp_path / "lake"))
    made(lake, small, executor, "ingest", "refine", "validate")
    assert maintain.main([str(small), "--run", SCOPE, "--lake", lake.url, "--raw", "GLACIER"]) == 2
    assert "only S3 does" in capsys.readouterr().err
    assert len(lake.objects.listing("raw")) == 2
