"""The exporter ``training`` and the check of a model's output against its statistics."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from flows.training import main
from tasks.exports.exporter import exporters
from tasks.exports.moments import Moments
from tasks.exports.training_check import check
from tasks.lake.errors import UsageError
from tests.exports.runs import MadeRuns, make_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of a made-up run: t2m, tp and t at two levels."""
    folder = tmp_path_factory.mktemp("store")
    exporter = exporters.build({"type": "training", "name": "samples", "variables": ["t2m", "tp", "t"]})
    exporter.write(MadeRuns([make_run("regional")]), folder)
    return folder / "samples.zarr"


def output(folder: Path, change=lambda run: run) -> Path:
    """A model's output: the run itself, after a change."""
    made = change(make_run("regional").drop_vars("msl"))
    path = folder / "output.nc"
    made.drop_vars("spatial_ref").to_netcdf(path, engine="netcdf4")
    return path


def test_what_the_model_was_trained_on_is_ok(store: Path, tmp_path: Path):
    findings = check(store, output(tmp_path))
    assert [f.channel for f in findings] == ["t2m", "tp", "t_850", "t_500"]
    assert [f.verdict for f in findings] == ["ok"] * 4
    own = check(store, store)
    assert [f.problems for f in own] == [()] * 4
    assert own[0].mean == pytest.approx(findings[0].mean, rel=1e-12)


CHANGES = {
    "missing": (lambda r: r.assign(t2m=r.t2m.where(r.latitude < 59)), "t2m", "of its values are missing, 0.00%"),
    "range": (lambda r: r.assign(t2m=r.t2m * 1.5), "t2m", "its maximum .* is out of range"),
    "mean": (lambda r: r.assign(t2m=r.t2m + 40), "t2m", "standard deviations from"),
    "smooth": (lambda r: r.assign(t=r.t * 0 + r.t.mean("latitude").mean("longitude")), "t_500", "that of the training"),
    "infinite": (lambda r: r.assign(t2m=r.t2m.where(r.member < 2, np.inf)), "t2m", "values are infinite"),
    "grid": (lambda r: r.isel(latitude=slice(0, 5)), "tp", "its fields are 5 x 61, those of the training data 41 x 61"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_wrong_is_named(store: Path, tmp_path: Path, what: str):
    change, channel, sentence = CHANGES[what]
    findings = {f.channel: f for f in check(store, output(tmp_path, change))}
    assert findings[channel].verdict == "suspect"
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError("; ".join(findings[channel].problems))


def test_output_without_a_channel_is_refused(store: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="none of the channels: expected t2m, tp, t_850, t_500, found wind"):
        check(store, output(tmp_path, lambda r: r[["t2m"]].rename(t2m="wind")))
    with pytest.raises(UsageError, match="is no training store"):
        check(output(tmp_path), output(tmp_path))


def test_the_command_says_so_with_its_exit_code(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(store), str(output(tmp_path)), "--json"]) == 0
    assert {c["verdict"] for c in json.loads(capsys.readouterr().out)["channels"]} == {"ok"}
    wrong = output(tmp_path, lambda r: r.assign(t2m=r.t2m * 1.5))
    assert main([str(store), str(wrong)]) == 1
    said = capsys.readouterr()
    assert "t2m: its maximum" in said.err
    assert "suspect" in said.out
    assert main([str(store), str(tmp_path / "nothing.nc")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_small_spread_beside_a_large_mean_is_kept():
    """Where a sum of squares would lose it: pressure in pascals, a few pascals apart."""
    values = 1e8 + np.random.default_rng(1).normal(0, 1, (40, 2, 50))
    values[:, 1, :10] = np.nan
    moments = Moments(2)
    for block in np.array_split(values, 7):
        moments.add(block)
    found = {name: array for name, array, _ in moments.arrays()}
    assert found["count"].tolist() == [2000, 1600]
    np.testing.assert_allclose(found["standard_deviation"], np.nanstd(values, axis=(0, 2)), rtol=1e-9)
    np.testing.assert_allclose(found["mean"], np.nanmean(values, axis=(0, 2)), rtol=1e-15)


def test_a_sample_is_one_chunk_and_shards_end_with_a_run(store: Path):
    import zarr

    data = zarr.open_group(store, mode="r")["data"]
    assert data.metadata.dimension_names == ("sample", "member", "channel", "latitude", "longitude")
    assert (data.shape, data.chunks, data.shards) == ((3, 3, 4, 41, 61), (1, 1, 4, 41, 61), (3, 1, 4, 41, 61))


def test_several_runs_are_one_after_the_other(tmp_path: Path):
    first, second = make_run("regional", levels=()), make_run("regional", levels=())
    later = np.timedelta64(6, "h")
    second = second.assign_coords(
        init_time=second["init_time"] + later, valid_time=("lead_time", (second["valid_time"] + later).values)
    )
    second["t2m"] = second["t2m"] + np.float32(1)
    exporter = exporters.build({"type": "training", "name": "s", "runs": "1d", "variables": ["t2m"], "members": [2]})
    exporter.write(MadeRuns([first, second]), tmp_path)
    found = xr.open_zarr(tmp_path / "s.zarr", chunks=None)
    assert [str(t)[:13] for t in found["time"].values] == [
        *("2026-11-20T00", "2026-11-20T06", "2026-11-20T12"), *("2026-11-20T06", "2026-11-20T12", "2026-11-20T18")
    ]  # fmt: skip
    np.testing.assert_array_equal(found["data"].values[3:, 0, 0], second["t2m"].isel(member=2).values)
