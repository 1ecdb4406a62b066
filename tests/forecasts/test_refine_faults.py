"""Faults of fetching and decoding in refine: named, tried again or failed for good, and the rest is intact."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import orjson
import pytest

from tasks.forecasts import decoders
from tasks.forecasts.quarantine import damaged
from tasks.forecasts.runs import index_of
from tasks.forecasts.template import load, refined_cube
from tasks.lake.ledger import Record
from tasks.lake.partition import Status
from tasks.lake.phase import Context
from tests.flows.running import PLAIN, environment
from tests.s3_archive import counts, serving

from .bad_decoders import MARKED
from .encoding import sections
from .small_archive import MEMBERS, RUN, SCOPE, STEPS, Place, Run, document, encoded, variables

ROOT = Path(__file__).resolve().parents[2]
CELL = "t2m/006-m01"
NAMES = ("t2m", "msl")


def records(place: Place) -> dict[str, Record]:
    found = place.lake.ledger("small").read_all("refine", SCOPE)
    return {k.split("/", 1)[1]: r for k, r in found.items()}


def values(place: Place, variable: str) -> np.ndarray:
    """All of a variable on the run's branch: (lead_time, member, y, x)."""
    context = Context(place.lake, place.recipe)
    return refined_cube(context, load(context).cube(place.recipe)).read(
        variable, index_of(place.recipe, RUN), f"run/{SCOPE}"
    )


def expected(run: Run, variable: str) -> np.ndarray:
    """What ecCodes reads from the messages as they were before they were spoilt."""
    found = []
    for step in STEPS:
        for member in MEMBERS:
            message = run[f"{variable}/{step:03d}-m{member:02d}"]
            handle = eccodes.codes_new_from_message(encoded(message, run.init))
            shape = [eccodes.codes_get(handle, k) for k in ("Nj", "Ni")]
            found.append(eccodes.codes_get_values(handle).reshape(shape).astype(np.float32))
            eccodes.codes_release(handle)
    return np.stack(found).reshape(len(STEPS), len(MEMBERS), *found[0].shape)


def differing(place: Place, run: Run, variable: str) -> set[tuple[int, int]]:
    """(step, member) of the fields that are not what they should be."""
    cube, wanted = values(place, variable), expected(run, variable)
    same = (cube == wanted).all(axis=(2, 3))
    return {(STEPS[i], MEMBERS[j]) for i, j in np.argwhere(~same)}


def octet(number: int, value: int) -> Callable[[bytes], bytes]:
    """Packs a message anew with complex packing, and puts a value into an octet (from 1) of its section 5."""

    def spoil(message: bytes) -> bytes:
        handle = eccodes.codes_new_from_message(message)
        eccodes.codes_set(handle, "packingType", "grid_complex")
        packed = bytearray(eccodes.codes_get_message(handle))
        eccodes.codes_release(handle)
        packed[bytes(packed).index(sections(bytes(packed))[5]) + number - 1] = value
        return bytes(packed)

    return spoil


def offset(archive: Path) -> int:
    """Where the message of `CELL` begins in its file."""
    lines = next(archive.glob("*-6h-*.index")).read_bytes().splitlines()
    rows = [orjson.loads(line) for line in lines]
    return next(r["_offset"] for r in rows if r["param"] == "2t" and r.get("number") == "1")


def small(tmp_path: Path, run: Run, **changes: Any) -> Place:
    run.write(tmp_path / "archive")
    select = {"members": list(MEMBERS), "variables": variables(*NAMES)}
    return Place.of(tmp_path / "lake", tmp_path / "archive", **({"select": select} | changes))


def test_a_message_that_no_decoder_reads_fails_its_partition_alone(tmp_path: Path):
    run = Run()
    run[CELL].spoil = octet(37, 230)
    place = small(tmp_path, run)
    ingest, refine = place("ingest", "refine")
    assert (ingest.exit_code, refine.exit_code) == (0, 1)
    (problem,) = refine.problems
    file = next((tmp_path / "archive").glob("*-6h-*.grib2"))
    place_of_it = re.escape(f"{file.as_uri()} at {offset(tmp_path / 'archive')} (complex packing)")
    assert re.search(rf"t2m-m01: the message at {place_of_it} cannot be decoded: ecCodes: it was ended by", problem)
    assert "gribberish cannot decode the field" in problem
    status = {k: r.status for k, r in records(place).items()}
    assert status.pop("t2m-m01") is Status.FAILED
    assert len(status) == 5
    assert set(status.values()) == {Status.DONE}


def test_a_message_that_no_decoder_reads_is_left_out_where_the_recipe_says_so(tmp_path: Path):
    run = Run()
    run[CELL].spoil = octet(37, 230)
    place = small(tmp_path, run, checks={"damaged": "quarantine"})
    assert [r.exit_code for r in place("ingest", "refine")] == [0, 0]
    found = damaged(Context(place.lake, place.recipe), records(place) | {})
    assert [(d.variable, d.lead_time, d.member, d.status) for d in found] == [("t2m", 6, 1, "corrupt")]
    assert "ecCodes: it was ended by" in found[0].reason
    assert differing(place, run, "t2m") == {(6, 1)}
    assert np.isnan(values(place, "t2m")[2, 1]).all()
    assert differing(place, run, "msl") == set()


def test_a_message_that_only_the_other_decoder_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = decoders.Decoder("first", "tests.forecasts.bad_decoders:refuse_marked")
    monkeypatch.setattr(decoders, "DEFAULT", (first, decoders.GRIBBERISH))
    run = Run()
    run[CELL].header["subCentre"] = MARKED
    place = small(tmp_path, run)
    assert [r.exit_code for r in place("ingest", "refine")] == [0, 0]
    metrics = records(place)["t2m-m01"].metrics
    assert (metrics["decode_first"], metrics["decode_gribberish"], metrics["decode_fallback"]) == (5, 1, 1)
    assert "decode_fallback" not in records(place)["t2m-m00"].metrics
    for name in NAMES:
        assert differing(place, run, name) == set()


def source(root: str) -> dict[str, Any]:
    return document(Path("/"))["source"] | {"root": root}


def on_s3(tmp_path: Path, run: Run, endpoint: str) -> Place:
    select = {"members": list(MEMBERS), "variables": variables(*NAMES)}
    options = f"endpoint={endpoint}&region=us-east-1&anonymous=true"
    return Place.of(tmp_path / "lake", tmp_path / "bucket", select=select, source=source(f"s3://bucket?{options}"))


def test_a_storm_of_503(tmp_path: Path):
    run = Run()
    run.write(tmp_path / "bucket")
    with serving(tmp_path, errors=0.3) as endpoint:
        place = on_s3(tmp_path, run, endpoint)
        assert [r.exit_code for r in place("ingest", "refine")] == [0, 0]
        assert counts(endpoint)["503"] > 3
    for name in NAMES:
        assert differing(place, run, name) == set()


def test_a_provider_that_is_gone_and_comes_back(tmp_path: Path):
    run = Run()
    run.write(tmp_path / "bucket")
    with serving(tmp_path) as endpoint:
        place = on_s3(tmp_path, run, endpoint)
        (ingest,) = place("ingest")
        assert ingest.exit_code == 0
        for file in (tmp_path / "bucket").glob("*-6h-*.grib2"):
            file.rename(file.with_suffix(".away"))
        (refine,) = place("refine")
        assert refine.exit_code != 0
        assert any("-6h-enfo-ef.grib2" in p for p in refine.problems)
        assert {r.status for k, r in records(place).items()} == {Status.FAILED}
        for file in (tmp_path / "bucket").glob("*.away"):
            file.rename(file.with_suffix(".grib2"))
        place.lake.forget()
        (refine,) = place("refine")
        # Failed for good is not tried again unless asked to.
        assert refine.exit_code == 1


def test_bodies_that_end_early(tmp_path: Path, http_archive: Callable[..., Any]):
    """The first answers of every file end early: the client asks for the rest."""
    run = Run()
    run.write(tmp_path / "archive")
    served = http_archive(tmp_path / "archive")
    select = {"members": list(MEMBERS), "variables": variables(*NAMES)}
    place = Place.of(tmp_path / "lake", tmp_path / "archive", select=select, source=source(served.url))
    assert place("ingest")[0].exit_code == 0
    served.faults.only = "grib2"
    served.faults.truncate, served.faults.truncate_first = 500, 1
    served.clear()
    (refine,) = place("refine")
    assert refine.exit_code == 0, refine.problems
    for name in NAMES:
        assert differing(place, run, name) == set()


def test_a_file_that_was_cut_off_after_ingest(tmp_path: Path):
    run = Run()
    place = small(tmp_path, run)
    assert place("ingest")[0].exit_code == 0
    file = next((tmp_path / "archive").glob("*-15h-*.grib2"))
    os.truncate(file, file.stat().st_size // 40)
    (refine,) = place("refine")
    assert refine.exit_code == 1
    assert all(file.name in p for p in refine.problems)


# -- a decoder that takes its worker with it -------------------------------------------------------------------


def crashing(second: str, recipe: Path, lake: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.forecasts.crashing_flow", "refine", str(recipe)]
    return subprocess.run(
        [*command, "--lake", str(lake), "--json", *arguments],
        cwd=ROOT, env=environment(SECOND_DECODER=second), capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


@pytest.fixture
def marked(tmp_path: Path) -> tuple[Place, Run]:
    """An ingested run with one message on which the fragile decoder crashes."""
    run = Run()
    run[CELL].header["subCentre"] = MARKED
    place = small(tmp_path, run)
    assert place("ingest")[0].exit_code == 0
    return place, run


@pytest.mark.fault
def test_a_crash_of_the_flow_is_not_repeated(marked: tuple[Place, Run], tmp_path: Path):
    place, run = marked
    recipe, lake = place.save(tmp_path / "small.yaml"), tmp_path / "lake"
    done = crashing("gribberish", recipe, lake, *PLAIN)
    assert done.returncode == -signal.SIGSEGV
    done = crashing("gribberish", recipe, lake, *PLAIN)
    assert done.returncode == 0, done.stderr
    found = records(place)
    assert found["t2m-m01"].metrics["decode_isolated"] == 6
    assert found["t2m-m01"].metrics["decode_fallback"] == 1
    for name in NAMES:
        assert differing(place, run, name) == set()


@pytest.mark.fault
def test_a_crash_of_the_flow_names_the_message_the_next_time(marked: tuple[Place, Run], tmp_path: Path):
    place, _ = marked
    recipe, lake = place.save(tmp_path / "small.yaml"), tmp_path / "lake"
    assert crashing("refuse_marked", recipe, lake, *PLAIN).returncode == -signal.SIGSEGV
    done = crashing("refuse_marked", recipe, lake, *PLAIN)
    assert done.returncode == 1, done.stderr
    (problem,) = orjson.loads(done.stdout)["problems"]
    assert re.search(rf"at {offset(tmp_path / 'archive')} .* crash_on_marked: it was ended by SIGSEGV", problem)
    assert "it does not know this either" in problem
    assert {k for k, r in records(place).items() if r.status is not Status.DONE} == {"t2m-m01"}


@pytest.mark.fault
@pytest.mark.parametrize("second", ["gribberish", "refuse_marked"])
def test_a_crash_of_a_dask_worker_costs_one_more_try(second: str, marked: tuple[Place, Run], tmp_path: Path):
    place, run = marked
    recipe, lake = place.save(tmp_path / "small.yaml"), tmp_path / "lake"
    done = crashing(second, recipe, lake, "--no-prefect", "--cluster", "local")
    found = records(place)
    if second == "gribberish":
        assert done.returncode == 0, done.stderr
        assert found["t2m-m01"].metrics["decode_fallback"] == 1
        for name in NAMES:
            assert differing(place, run, name) == set()
    else:
        assert done.returncode == 1, done.stderr
        assert {k for k, r in found.items() if r.status is not Status.DONE} == {"t2m-m01"}
        error = found["t2m-m01"].error
        assert error is not None
        assert "crash_on_marked: it was ended by SIGSEGV" in error.message
    assert any(a.status is Status.LOST for a in found["t2m-m01"].history)
