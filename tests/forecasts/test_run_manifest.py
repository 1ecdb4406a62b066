"""The manifest of a whole run: read once by a worker, and anew when ingest recorded another."""

from pathlib import Path

import numpy as np
import pytest

from tasks.forecasts import blocks, manifest
from tasks.forecasts.refine import run_manifest
from tasks.forecasts.template import load
from tasks.lake.errors import ExitCode

from .test_regrid import RUN, STEPS, context, run


def test_a_worker_reads_the_manifests_of_a_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert run(tmp_path, "ingest").exit_code is ExitCode.DONE
    reads: list[str] = []
    whole = manifest.read
    monkeypatch.setattr(manifest, "read", lambda data, key: (reads.append(key), whole(data, key))[1])
    first = run_manifest(context(tmp_path), RUN)
    assert len(reads) == len(STEPS)
    assert run_manifest(context(tmp_path), RUN).equals(first)
    assert len(reads) == len(STEPS)
    assert set(first["variable"].to_pylist()) == {"t2m", "u10", "v10", "tp"}


def test_another_ingest_is_seen(tmp_path: Path):
    """The same keys in the lake, other digests on record."""
    assert run(tmp_path, "ingest").exit_code is ExitCode.DONE
    before = run_manifest(context(tmp_path), RUN)
    fewer = {"select": {"members": [0], "steps": STEPS, "variables": [{"name": "t2m", "param": "2t"}]},
             "products": [], "statistics": []}  # fmt: skip
    assert run(tmp_path, "ingest", **fewer).exit_code is ExitCode.DONE
    after = run_manifest(context(tmp_path, **fewer), RUN)
    assert (len(before), len(after)) == (8 * len(STEPS), len(STEPS))


def test_rows_by_block_are_those_of_each_block(tmp_path: Path):
    assert run(tmp_path, "ingest").exit_code is ExitCode.DONE
    here = context(tmp_path)
    rows, cube = run_manifest(here, RUN), load(here).cube(here.recipe)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    found = list(blocks.with_rows(here.recipe, cube, shuffled))
    assert [b for b, _ in found] == list(blocks.blocks(here.recipe, cube))
    for block, mine in found:
        assert mine.equals(blocks.rows_of(rows, block).unify_dictionaries()), block
    assert sum(len(mine) for _, mine in found) == len(rows)
