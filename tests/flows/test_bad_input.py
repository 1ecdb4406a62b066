"""Bad input: one clear sentence, the right exit code, nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tasks.lake.recipe import folder

from .running import PLAIN, Ran, assert_same_cubes, pipeline, run

RUN = "2026-11-20T00"


def says(ran: Ran, code: int, *words: str) -> None:
    """The command ended with this code and one sentence that has these words; no traceback."""
    assert ran.code == code, ran.out + ran.err
    assert "Traceback" not in ran.err
    said = ran.err + ran.out
    for word in words:
        assert word in said, said


def recipe(tmp_path: Path, text: str | None = None, **changes: object) -> Path:
    path = tmp_path / "mine.yaml"
    document = yaml.safe_load((folder() / "demo.yaml").read_text()) | {"name": "mine"} | changes
    path.write_text(text if text is not None else yaml.safe_dump(document))
    return path


def archive_of(lake: Path, tmp_path: Path, **changes: object) -> tuple[Path, Path]:
    """The demo's archive in a folder of its own, and a recipe that reads it through its index files."""
    archive = Path(shutil.copytree(lake / "archive" / "demo", tmp_path / "archive"))
    source = {"type": "folder", "root": archive.as_uri(), **FOLDER}
    return archive, recipe(tmp_path, source=source, **changes)


FOLDER = {
    "pattern": "{init:%Y%m%d}/{init:%H}z/demo/2p0/enfo/{init:%Y%m%d%H}0000-{step}h-enfo-ef.grib2",
    "index": "ecmwf",
    "steps": [0, 3, 6, 9, 12, 15, 18, 21, 24],
    "members": [0, 1, 2, 3],
}


def test_unknown_recipe(tmp_path: Path):
    says(run("pipeline", "no-such", "--lake", tmp_path / "lake"), 2, "no recipe 'no-such'", "demo")


def test_wrong_key_in_a_recipe(tmp_path: Path):
    path = recipe(tmp_path, colour="blue")
    says(run("pipeline", path, "--lake", tmp_path / "lake"), 2, "mine.yaml", "unknown key 'colour'")


def test_a_recipe_that_is_not_yaml(tmp_path: Path):
    path = recipe(tmp_path, text="name: [")
    says(run("pipeline", path, "--lake", tmp_path / "lake"), 2, "mine.yaml is not YAML")


def test_a_run_that_is_none(tmp_path: Path):
    says(run("ingest", "demo", "--run", "yesterday", "--lake", tmp_path / "lake"), 2, "'yesterday' is no run")
    says(run("ingest", "demo", "--run", "2026-11-20T01", "--lake", tmp_path / "lake"), 2, "no run of demo")


def test_run_not_there_yet(demo: Path, tmp_path: Path):
    _, path = archive_of(demo, tmp_path)
    ran = run("ingest", path, "--run", "2026-11-20T06", "--lake", tmp_path / "lake", *PLAIN)
    says(ran, 4, "is not there (yet)")


def test_truncated_grib(demo: Path, tmp_path: Path):
    archive, path = archive_of(demo, tmp_path)
    victim = next(archive.rglob("*-6h-enfo-ef.grib2"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    lake = tmp_path / "lake"
    ran = run("ingest", path, "--lake", lake, *PLAIN)
    says(ran, 1, "step-006", "beyond the end of the GRIB file")
    victim.write_bytes(whole)
    ran = run("ingest", path, "--lake", lake, "--json", "--select", "failed", *PLAIN)
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["partitions"]["done"] == 1


def test_index_that_disagrees_with_the_file(demo: Path, tmp_path: Path):
    """Two messages of the index swapped: the ranges are sound, what lies there is something else."""
    archive, path = archive_of(demo, tmp_path, transfer="virtual")
    index = next(archive.rglob("*-6h-enfo-ef.index"))
    lines = index.read_text().splitlines()
    one, two = (
        next(i for i, line in enumerate(lines) if f'"{p}"' in line and '"number":"1"' in line) for p in ("2t", "msl")
    )
    lines[one], lines[two] = lines[one].replace('"2t"', '"msl"'), lines[two].replace('"msl"', '"2t"')
    index.write_text("\n".join(lines) + "\n")
    lake = tmp_path / "lake"
    assert run("ingest", path, "--lake", lake, *PLAIN).code == 0
    ran = run("refine", path, "--lake", lake, *PLAIN)
    says(ran, 1, "the index disagrees with the message", "2t", "msl")


def test_unreachable_store(tmp_path: Path):
    source = {"type": "folder", "root": "http://127.0.0.1:9/nothing", **FOLDER}
    ran = run("ingest", recipe(tmp_path, source=source), "--lake", tmp_path / "lake", *PLAIN)
    says(ran, 4, "cannot be reached")


def test_unreachable_lake():
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    ran = run(
        "ingest", "demo", "--lake", "s3://bucket/lake?endpoint=http://127.0.0.1:9&region=us-east-1", *PLAIN, env=env
    )
    says(ran, 4, "cannot be reached")


def test_lake_not_writable():
    says(run("ingest", "demo", "--lake", "/proc/lake", *PLAIN), 1, "/proc/lake")


def test_lake_below_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("")
    says(run("ingest", "demo", "--lake", tmp_path / "file" / "lake", *PLAIN), 1, str(tmp_path / "file"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_space_left(small_disk: Path, demo: Path):
    lake = small_disk / "lake"
    ran = pipeline("demo", lake)
    assert ran.code == 1, ran.out + ran.err
    assert "No space left" in ran.out
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    ran = pipeline("demo", lake)
    assert ran.code == 0, ran.out + ran.err
    assert_same_cubes(demo, lake)


def test_unknown_option_of_a_lake_url(tmp_path: Path):
    says(run("ingest", "demo", "--lake", "s3://bucket/lake?color=blue", *PLAIN), 2, "unknown option color")
    says(run("ingest", "demo", "--lake", "ftp://host/lake", *PLAIN), 2, "ftp://")


def test_a_bad_field_is_held_back_and_named(demo: Path, copy_of_demo: Callable[[], Path], tmp_path: Path):
    """A range that the data cannot meet: the run is held, exit 3, nothing is published, later phases wait."""
    path = recipe(tmp_path, checks={"run": [{"type": "range", "fatal": True, "limits": {"t2m": [300, 301]}}]})
    ran = pipeline(path, tmp_path / "lake")
    assert ran.code == 3, ran.out + ran.err
    assert ran.json["status"] == "held"
    assert [p["phase"] for p in ran.json["phases"]] == ["ingest", "refine", "validate"]
    again = pipeline(path, tmp_path / "lake")
    assert again.code == 3
    reader = run("regrid", path, "--lake", tmp_path / "lake", *PLAIN)
    says(reader, 2, "not published", "t2m")


def test_without_a_server_that_answers(tmp_path: Path):
    env = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path / "home")}
    ran = run("ingest", "demo", "--lake", tmp_path / "lake", "--cluster", "none", env=env)
    says(ran, 4, "Prefect server", "does not answer", "--no-prefect")


def test_an_address_where_no_scheduler_answers(tmp_path: Path):
    ran = run("ingest", "demo", "--lake", tmp_path / "lake", "--no-prefect", "--cluster", "tcp://127.0.0.1:9")
    says(ran, 4, "no Dask scheduler answers")
    says(run("ingest", "demo", "--lake", tmp_path / "lake", "--cluster", "moon"), 2, "no cluster 'moon'")
