"""Chores: what is over is freed, what is published is cleared, what is still to come is kept, what is wrong is said."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from flows import maintain
from tasks.forecasts.release import release
from tasks.lake import open_cube
from tasks.lake import recipe as recipes
from tasks.lake.cube_upkeep import versions
from tasks.lake.ledger import lineage
from tasks.lake.partition import Partition, Status
from tasks.lake.phase import Context
from tasks.lake.reading import cube_path
from tasks.upkeep.audit import audit
from tasks.upkeep.cost import cost
from tasks.upkeep.cubes import cubes
from tasks.upkeep.freshness import freshness
from tasks.upkeep.leases import leases
from tasks.upkeep.staged import clear, horizon, pins, staged

from ..forecasts.small_archive import RUN, SCOPE, STEPS, Place, Run, variables
from ..servers import S3Server
from .collecting import run as at_run
from .publishing import place
from .running import ROOT, environment

SELECT = {"members": [0, 1], "variables": variables("t2m")}
NONE = timedelta(0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The provider: one run."""
    Run().write(tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def small(tmp_path: Path, archive: Path) -> Place:
    """A lake with a small recipe, nothing done yet."""
    return Place.of(tmp_path / "lake", archive, select=SELECT, checks={"climatology": 0})


def context_of(at: Place) -> Context[Any]:
    return Context(at.lake, at.recipe)


def done(at: Place, *phases: str) -> list[str]:
    """Run phases; their statuses."""
    reports = at(*phases)
    assert all(r.exit_code == 0 for r in reports), [r.problems for r in reports]
    return [r.status for r in reports]


def t2m(at: Place) -> np.ndarray:
    return open_cube(at.lake.url, "small")["t2m"].sel(init_time=SCOPE).values


def cli(at: Place, tmp_path: Path, *arguments: str) -> int:
    return maintain.main([str(at.save(tmp_path / "small.yaml")), "--lake", at.lake.url, *arguments])


# -- leases --------------------------------------------------------------------------------------------


def test_leases_that_are_over_are_freed_and_others_are_not(small: Place) -> None:
    context, long_ago = context_of(small), datetime(2026, 1, 1, tzinfo=UTC)
    small.lake.prepare()
    over, held = (Partition(f"{SCOPE}/step-{n:03d}", "print") for n in (0, 3))
    context.ledger.claim("ingest", over, lineage("flow-1"), long_ago)
    context.ledger.claim("ingest", held, lineage("flow-2"))
    assert leases(context, dry_run=True).facts["freed"] == 1
    assert context.ledger.read("ingest", over.key).status is Status.RUNNING
    chore = leases(context, dry_run=False)
    assert [row[:2] for row in chore.rows] == [("ingest", over.key)]
    assert context.ledger.read("ingest", over.key).status is Status.LOST
    assert context.ledger.read("ingest", held.key).status is Status.RUNNING
    assert leases(context, dry_run=False).facts["freed"] == 0


# -- cubes ---------------------------------------------------------------------------------------------


def test_garbage_collected_between_refine_and_publish_leaves_the_run_publishable(small: Place) -> None:
    done(small, "ingest", "refine")
    context = context_of(small)
    assert len(pins(context)) == 1
    chore = cubes(context, dry_run=False, grace=NONE)
    assert [row[3] for row in chore.rows] == [0], "no chunk is garbage"
    done(small, "validate")
    assert np.isfinite(t2m(small)).all()
    assert pins(context) == {}, "main holds them now"
    assert [v.tag for v in versions(small.lake.cube(cube_path(small.lake, "small", "refined")))] == [f"{SCOPE}.1"]


def test_what_is_under_way_is_younger_than_the_horizon(small: Place) -> None:
    context = context_of(small)
    small.lake.prepare()
    begun = datetime.now(UTC) - timedelta(minutes=1)
    assert horizon(context, NONE) > begun
    context.ledger.claim("refine", Partition(f"{SCOPE}/t2m-m00", "print"), lineage(), begun)
    assert horizon(context, NONE) < begun


def test_history_is_kept_as_long_as_the_recipe_says(small: Place, archive: Path) -> None:
    done(small, "ingest", "refine", "validate")
    for message in (changed := Run()).of("t2m"):
        message.values = message.values + 1.0
    changed.write(archive)
    done(small, "ingest", "refine", "validate")
    cube = small.lake.cube(cube_path(small.lake, "small", "refined"))
    assert cubes(context_of(small), dry_run=False, grace=NONE).facts["versions"] == 0
    assert [v.tag for v in versions(cube)] == [f"{SCOPE}.1", f"{SCOPE}.2"]
    old = open_cube(small.lake.url, "small", ref=f"{SCOPE}.1")["t2m"].sel(init_time=SCOPE).values
    np.testing.assert_allclose(old + 1.0, t2m(small), atol=0.02)
    brief = replace(
        small, recipe=recipes.parse(small.recipe.model_dump(mode="json") | {"retention": {"history_days": 0}})
    )
    chore = cubes(context_of(brief), dry_run=False, grace=NONE)
    assert chore.facts["versions"] == 1
    assert chore.rows[0][3] == 2, "the old shards of both members"
    assert np.isfinite(t2m(small)).all()


# -- staging -------------------------------------------------------------------------------------------


def test_forks_of_a_published_run_are_deleted_and_not_missed(small: Place) -> None:
    done(small, "ingest", "refine")
    context = context_of(small)
    assert clear(context, "delete", dry_run=False).facts["forks"] == 0, "they are not published yet"
    done(small, "validate")
    before = t2m(small)
    assert clear(context, "delete", dry_run=True).facts["forks"] == 2
    assert len(small.lake.objects.listing("staging")) == 2
    assert clear(context, "delete", dry_run=False).facts["forks"] == 2
    assert not small.lake.objects.listing("staging")
    cubes(context, dry_run=False, grace=NONE)
    assert done(small, "ingest", "refine", "validate") == ["nothing to do"] * 3
    np.testing.assert_array_equal(t2m(small), before)


def test_a_variable_more_after_the_forks_are_gone(small: Place, archive: Path, tmp_path: Path) -> None:
    done(small, "ingest", "refine", "validate")
    clear(context_of(small), "delete", dry_run=False)
    cubes(context_of(small), dry_run=False, grace=NONE)
    wider = {"members": [0, 1], "variables": variables("t2m", "msl")}
    more = Place.of(tmp_path / "lake", archive, select=wider, checks={"climatology": 0})
    refined = [more("ingest"), more("refine")][1][0]
    assert refined.partitions["done"] == 2, "of the new variable only"
    done(more, "validate")
    fresh = Place.of(tmp_path / "fresh", archive, select=wider, checks={"climatology": 0})
    done(fresh, "ingest", "refine", "validate")
    one, two = (open_cube(at.lake.url, "small").load() for at in (more, fresh))
    for variable in ("t2m", "msl"):
        np.testing.assert_array_equal(one[variable].values, two[variable].values)


def test_a_cube_lost_after_its_forks_are_gone_is_refined_again(small: Place) -> None:
    done(small, "ingest", "refine", "validate")
    before = t2m(small)
    clear(context_of(small), "delete", dry_run=False)
    small.lake.objects.delete_all("cubes")
    done(small, "ingest", "refine", "validate")
    np.testing.assert_array_equal(t2m(small), before)


def test_forks_of_masked_cells_are_kept_for_a_release(small: Place, archive: Path) -> None:
    """What validation took out is not on main: its fork, and the chunk behind it, outlive both chores."""
    spoilt = Run()
    message = spoilt["t2m/006-m01"]
    message.values = message.values - 273.15
    spoilt.write(archive)
    done(small, "ingest", "refine", "validate")
    assert np.isnan(t2m(small)[2, 1]).all()
    context = context_of(small)
    assert {s.partition: s.published for s in staged(context)} == {f"{SCOPE}/t2m-m00": True, f"{SCOPE}/t2m-m01": False}
    assert clear(context, "delete", dry_run=False).facts["forks"] == 1
    cubes(context, dry_run=False, grace=NONE)
    release(context, SCOPE, ["t2m"], "somebody", "it is right after all")
    done(small, "validate")
    np.testing.assert_allclose(t2m(small)[2, 1], message.values, atol=0.02)
    assert np.isfinite(t2m(small)).all()


@pytest.mark.slow
def test_forks_move_to_a_colder_class(archive: Path, s3: S3Server) -> None:
    boto3 = pytest.importorskip("boto3")
    at = replace(Place.of(Path("unused"), archive, select=SELECT, checks={"climatology": 0}), lake=_lake(s3))
    done(at, "ingest", "refine", "validate")
    assert clear(context_of(at), "STANDARD_IA", dry_run=False).facts["forks"] == 2
    where = at.lake.objects.location
    client = boto3.client("s3", endpoint_url=where.option("endpoint"), region_name="us-east-1")
    for meta in at.lake.objects.listing("staging"):
        head = client.head_object(Bucket=where.bucket, Key=f"{where.prefix}/{meta.key}")
        assert head["StorageClass"] == "STANDARD_IA"
    assert done(at, "refine", "validate") == ["nothing to do"] * 2
    classes = {(row[0], row[2]) for row in cost(at.lake).rows}
    assert ("staging", "STANDARD_IA") in classes
    assert ("cubes", "STANDARD") in classes


def _lake(s3: S3Server) -> Any:
    from tasks.lake.lake import Lake

    return Lake(s3.lake())


# -- audit, freshness, cost ----------------------------------------------------------------------------


def test_the_audit_finds_what_is_missing_changed_and_republished(small: Place, archive: Path) -> None:
    done(small, "ingest", "refine", "validate")
    context = context_of(small)
    clean = audit(context)
    assert clean.problems == ()
    assert clean.facts["sources"] == 2 * len(STEPS)
    assert {row[0]: row[4] for row in clean.rows}["validate"] > 2, "shards on main are read, too"
    folder = Path(small.lake.objects.location.prefix)
    (folder / f"manifests/small/{SCOPE}/step-006.parquet").unlink()
    report = folder / f"verdicts/small/{SCOPE}/t2m.json"
    report.write_bytes(report.read_bytes() + b" ")
    data = next(archive.glob("*-9h-*.grib2"))
    data.write_bytes(data.read_bytes() + b"more")
    found = audit(context)
    assert found.facts["missing"] == 1
    assert found.facts["changed"] == 1
    said = "\n".join(found.problems)
    assert "step-006.parquet of ingest is on record and not there" in said
    assert "t2m.json of validate has other bytes than were recorded" in said
    assert f"{data.name} was changed by the provider" in said


def test_a_changed_shard_is_found_by_its_values(small: Place) -> None:
    done(small, "ingest", "refine", "validate")
    cube = small.lake.cube(cube_path(small.lake, "small", "refined"))
    import zarr

    session = cube.repository.writable_session("main")
    array = zarr.open_group(session.store)["t2m"]
    index = int(np.flatnonzero(cube.group()["status"][:])[0])
    array[index, 0, 0, 0, 0] = 1.0
    session.commit("spoil")
    found = audit(context_of(small))
    assert found.facts["changed"] == 1
    assert "/t2m/c/" in found.problems[0]


def test_freshness_is_against_the_providers_schedule(small: Place) -> None:
    context = context_of(small)
    small.lake.prepare()
    nothing = freshness(context, RUN + timedelta(days=1))
    assert nothing.facts["newest"] is None
    assert nothing.problems
    done(small, "ingest", "refine", "validate")
    latency = timedelta(hours=small.recipe.source.latency(STEPS[-1]))
    assert freshness(context, RUN + latency).facts["runs_behind"] == 0
    assert freshness(context, RUN + latency).problems == ()
    late = freshness(context, RUN + latency + timedelta(hours=24))
    age = 24.0 + latency / timedelta(hours=1)
    assert late.facts == {"newest": SCOPE, "due": "2026-11-21T00", "runs_behind": 2, "age_hours": age}
    assert late.problems == (f"small is 2 runs behind its provider ({SCOPE} < 2026-11-21T00)",)


def test_cost_counts_every_byte_once(small: Place) -> None:
    done(small, "ingest", "refine", "validate")
    chore = cost(small.lake)
    folder = Path(small.lake.objects.location.prefix)
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock") and p.parent != folder]
    assert chore.facts["bytes"] == pytest.approx(sum(p.stat().st_size for p in files), abs=100)
    assert {row[0] for row in chore.rows} >= {"cubes", "ledger", "manifests", "staging", "verdicts"}


# -- the command ---------------------------------------------------------------------------------------


def test_all_chores_as_the_recipe_says(
    small: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    document = small.recipe.model_dump(mode="json") | {"retention": {"staging": "delete"}}
    at = replace(small, recipe=recipes.parse(document))
    done(at, "ingest", "refine", "validate")
    assert cli(at, tmp_path, "--plan", "--json") in (0, 4)
    planned = orjson.loads(capsys.readouterr().out)
    names = [c["chore"] for c in planned["chores"]]
    assert names == ["clusters", "leases", "staging", "raw", "cubes", "audit", "freshness", "cost"]
    assert len(at.lake.objects.listing("staging")) == 2
    assert cli(at, tmp_path, "--json") in (0, 4)
    chores = {c["chore"]: c for c in orjson.loads(capsys.readouterr().out)["chores"]}
    assert chores["staging"]["forks"] == 2
    assert not at.lake.objects.listing("staging")


def test_exit_codes(small: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done(small, "ingest", "refine", "validate")
    assert cli(small, tmp_path, "leases", "cubes", "audit", "cost") == 0
    assert cli(small, tmp_path, "nonsense") == 2
    assert "no chore 'nonsense'" in capsys.readouterr().err
    assert cli(small, tmp_path, "cubes", "--grace", "-1") == 2
    small.lake.objects.delete(f"manifests/small/{SCOPE}/step-006.parquet")
    assert cli(small, tmp_path, "audit") == 1
    assert maintain.main(["demo", "--lake", str(tmp_path / "none")]) == 2
    assert "there is no lake" in capsys.readouterr().err


# -- faults --------------------------------------------------------------------------------------------

RUNS = 3


@pytest.mark.fault
@pytest.mark.timeout(240)
def test_several_publish_while_one_is_killed_and_garbage_is_collected(tmp_path: Path) -> None:
    """Three processes publish runs of their own, one of them is killed again and again, garbage is collected all along
    with no grace at all: every run is there, whole, with the values of its source, and tagged."""
    lake, archive = tmp_path / "lake", tmp_path / "archive"
    expected = {}
    for number in range(3 * RUNS):
        run = Run(RUN + number * timedelta(hours=12), seed=number)
        run.write(archive)
        expected[number] = np.array(
            [[run[f"t2m/{step:03d}-m{m:02d}"].values for m in (0, 1)] for step in STEPS], "float32"
        )
    at = place(lake, archive)
    at.lake.prepare()

    def begin(first: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.flows.collecting", str(lake), str(archive), str(first), str(RUNS)]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    steady = [begin(RUNS), begin(2 * RUNS)]
    victim, kills, collections = begin(0), 0, 0
    ends = time.monotonic() + random.uniform(3, 6)
    try:
        while any(p.poll() is None for p in (*steady, victim)):
            chore = cubes(Context(at.lake, at.recipe), dry_run=False, grace=NONE)
            assert chore.problems == ()
            collections += 1
            if kills < 3 and victim.poll() is None and time.monotonic() > ends:
                os.kill(victim.pid, signal.SIGKILL)
                victim.communicate()
                kills += 1
                victim, ends = begin(0), time.monotonic() + random.uniform(3, 6)
            time.sleep(0.2)
    finally:
        for process in (*steady, victim):
            process.kill() if process.poll() is None else None
            _, err = process.communicate()
            assert process.returncode == 0, err
    assert kills >= 1
    assert collections > 3
    cubes(Context(at.lake, at.recipe), dry_run=False, grace=NONE)
    seen = open_cube(str(lake), "small").load()
    assert seen.sizes["init_time"] == 3 * RUNS
    for number, values in expected.items():
        init = at_run(number, at).run.replace(tzinfo=None)
        np.testing.assert_allclose(seen["t2m"].sel(init_time=np.datetime64(init)).values, values, atol=0.02)
    tagged = {v.run for v in versions(at.lake.cube(cube_path(at.lake, "small", "refined"))) if v.tag}
    assert len(tagged) == 3 * RUNS
