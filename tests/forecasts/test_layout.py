"""What a refined cube keeps of the values: mantissa bits by unit, or 16-bit integers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tasks.forecasts import refine
from tasks.forecasts.refine import Refine
from tasks.forecasts.rounding import by_unit, keep_bits
from tasks.forecasts.template import load, refined_cube
from tasks.lake.errors import ExitCode
from tasks.lake.phase import Context

from .small_archive import Place, Run, variables


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    Run().write(folder)
    return folder


def place(lake: Path, archive: Path, chosen: list[dict[str, Any]], **layout: Any) -> Place:
    return Place.of(lake, archive, select={"members": [0, 1, 2], "variables": chosen}, layout=layout)


def published(place: Place) -> xr.Dataset:
    context = Context(place.lake, place.recipe)
    return refined_cube(context, load(context).cube(place.recipe)).open()


def done(reports: Any) -> None:
    assert [r.exit_code for r in reports] == [ExitCode.DONE] * len(reports), [r.problems for r in reports]


def test_bits_are_kept_by_unit_unless_the_recipe_says(tmp_path: Path, archive: Path) -> None:
    chosen = variables("t2m", "u10", "tp", "msl")
    chosen[0]["keep_bits"] = 23
    exact, rounded = place(tmp_path / "exact", archive, chosen, rounding="none"), place(tmp_path / "a", archive, chosen)
    done(exact("ingest", "refine", "validate"))
    done(rounded("ingest", "refine", "validate"))
    before, after = published(exact), published(rounded)
    for name, bits in {"t2m": None, "u10": 6, "tp": 7, "msl": 11}.items():
        wanted = before[name].values.copy()
        if bits is not None:
            keep_bits(wanted, bits)
            assert (wanted != before[name].values).any()
        np.testing.assert_array_equal(after[name].values, wanted, err_msg=name)
        assert after[name].attrs.get("keep_bits") == bits
        assert "keep_bits" not in before[name].attrs


@pytest.mark.parametrize(
    ("units", "short_name", "bits"),
    [
        ("m s**-1", "10u", 6), ("Pa", "msl", 11), ("gpm", "gh", 11), ("K", "2t", 11), ("m", "tp", 7), ("m", "orog", 11),
        ("%", "r", 7), ("kg m**-2 s**-1", "tprate", 7), ("(Code table 4.201)", "ptype", None), ("~", "al", None),
    ],
)  # fmt: skip
def test_bits_by_unit(units: str, short_name: str, bits: int | None) -> None:
    assert by_unit(units, short_name) == bits


def test_packed_values_are_within_half_a_step_all_the_way(tmp_path: Path, archive: Path) -> None:
    chosen = variables("t2m", "msl")
    packed = [chosen[0] | {"packed": {"step": 0.01, "offset": 250}}, chosen[1]]
    exact = place(tmp_path / "exact", archive, chosen, rounding="none")
    small = place(tmp_path / "small", archive, packed, rounding="none")
    done(exact("ingest", "refine", "validate"))
    done(small("ingest", "refine", "validate"))
    before, after = published(exact), published(small)
    assert after["t2m"].dtype == np.float32
    apart = np.abs(after["t2m"].values - before["t2m"].values)
    # Half a step, and the last bit of a float32 of 300.
    assert 0 < apart.max() <= 0.005 + 2e-5
    np.testing.assert_array_equal(after["msl"], before["msl"])


def test_missing_values_stay_missing_when_packed(tmp_path: Path) -> None:
    run = Run()
    hole = np.zeros(run["t2m/003-m01"].values.shape, bool)
    hole[3:5, 7:20] = True
    run["t2m/003-m01"].missing = hole
    run.write(tmp_path / "archive")
    chosen = [variables("t2m")[0] | {"packed": {"step": 0.01, "offset": 250}}]
    small = place(tmp_path / "lake", tmp_path / "archive", chosen)
    done(small("ingest", "refine"))
    context = Context(small.lake, small.recipe)
    cube = refined_cube(context, load(context).cube(small.recipe))
    values = cube.open("run/2026-11-20T00", published_only=False)["t2m"].isel(init_time=-1).values
    np.testing.assert_array_equal(np.isnan(values[1, 1]), hole)
    assert np.isfinite(values[0]).all()


def test_values_that_a_packing_cannot_hold_are_refused(tmp_path: Path, archive: Path) -> None:
    chosen = [variables("t2m")[0] | {"packed": {"step": 0.001, "offset": 250}}]
    small = place(tmp_path / "lake", archive, chosen)
    _, report = small("ingest", "refine")
    assert report.exit_code is ExitCode.FAILED
    assert any("t2m has values that its packing cannot hold: expected 217.233 to 282.767" in p for p in report.problems)


def test_a_cube_is_not_packed_in_two_ways(tmp_path: Path, archive: Path) -> None:
    chosen = variables("t2m")
    done(place(tmp_path / "lake", archive, chosen)("ingest", "refine"))
    other = place(tmp_path / "lake", archive, [chosen[0] | {"packed": {"step": 0.01, "offset": 250}}])
    other("ingest")
    with pytest.raises(Exception, match=r"t2m of cube .* is packed in another way"):
        other("refine")


def test_a_block_that_does_not_fit_is_said_beforehand_and_refused(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = place(tmp_path / "lake", archive, variables("t2m"))
    done(small("ingest"))
    context = Context(small.lake, small.recipe)
    plan = Refine().plan(context, "2026-11-20T00")
    assert plan.notes == ()
    needed = max(p.memory for p in plan.partitions)
    assert needed > 2 * 4 * 6 * 24 * 48
    monkeypatch.setattr(refine, "share", lambda: needed - 1)
    (note,) = Refine().plan(context, "2026-11-20T00").notes
    assert "more than a worker of this machine has for it" in note
    (report,) = small("refine")
    assert report.exit_code is ExitCode.FAILED
    assert any("needs more memory than a worker has for a partition" in p for p in report.problems)
    monkeypatch.setattr(refine, "share", lambda: needed)
    done(small("refine"))
