"""The regrid phase on a small demo archive: what it publishes, what it reads, and what it refuses or holds back."""

import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import xarray as xr

from tasks.executor import Threads
from tasks.forecasts import derived
from tasks.forecasts.products import TargetGrid
from tasks.forecasts.regrid import Regrid
from tasks.forecasts.regrid_block import Known, make
from tasks.forecasts.regrid_target import part_of, request_of, target_of
from tasks.forecasts.regrid_template import block_shape
from tasks.forecasts.sources.demo import archive
from tasks.forecasts.template import load
from tasks.grids.apply import apply
from tasks.grids.store import read
from tasks.grids.weights import answer
from tasks.lake import open_cube
from tasks.lake.errors import ExitCode, RecipeError, UsageError
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.lake.recipe import parse
from tasks.lake.run_axis import FIELD_STATUS
from tasks.plan import Options
from tasks.report import Report
from tasks.runner import run_phase

from .cdo import cdo, needs_cdo, write

RUN = "2026-11-20T00"
STEPS = [0, 3, 6, 9, 12]
GLOBAL = {"name": "g", "spacing": 5, "method": "conservative", "tile": 8}
FINE = {**GLOBAL, "spacing": 1, "tile": 16}
PRODUCTS = [
    {"type": "wind_speed", "name": "ws10", "u": "u10", "v": "v10", "units": "km h-1"},
    {"type": "wind_direction", "name": "wd10", "u": "u10", "v": "v10"},
    {"type": "rate", "name": "tp_rate", "of": "tp", "units": "mm h-1"},
    {"type": "amount", "name": "tp_6h", "of": "tp", "window": 6, "units": "mm"},
    {"type": "convert", "name": "t2m_c", "of": "t2m", "units": "degC"},
]
STATISTICS = [{"of": ["t2m", "ws10"], "mean": True, "quantiles": [0.9]}, {"of": ["tp_6h"], "above": [1]}]


def document(**changes: Any) -> dict[str, Any]:
    """The recipe: four variables, two members, five steps."""
    names = {"t2m": "2t", "u10": "10u", "v10": "10v", "tp": "tp"}
    variables: list[dict[str, Any]] = [{"name": n, "param": p} for n, p in names.items()]
    variables[3] |= {"window": "accum", "window_start": "run"}
    return {
        "name": "small", "kind": "forecast", "source": {"type": "demo"}, "transfer": "copy",
        "runs": {"start": "2026-11-20T00:00:00Z", "every": 6, "default": RUN},
        "select": {"members": [0, 1], "steps": STEPS, "variables": variables},
        "grids": [GLOBAL], "products": PRODUCTS, "statistics": STATISTICS,
    } | changes  # fmt: skip


def run(lake: Path, phase: str, *, force: bool = False, **changes: Any) -> Report:
    """Run one phase in threads of this process."""
    threads = Threads(2)
    try:
        return run_phase(Lake(str(lake)), parse(document(**changes)), phase, Window(), Options(force=force), threads)
    finally:
        threads.close()


def context(lake: Path, **changes: Any) -> Context[Any]:
    return Context(Lake(str(lake)), parse(document(**changes)))


def refine(lake: Path, **changes: Any) -> Path:
    """Ingest, refine and validate."""
    for phase in ("ingest", "refine", "validate"):
        report = run(lake, phase, **changes)
        assert report.exit_code is ExitCode.DONE, report.problems
    return lake


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a published run. Tests regrid it to grids of their own names."""
    return refine(tmp_path_factory.mktemp("regrid") / "lake")


@pytest.fixture(scope="module")
def source(refined: Path) -> xr.Dataset:
    return open_cube(str(refined), "small").isel(init_time=0).load()


@pytest.fixture(scope="module")
def regridded(refined: Path) -> xr.Dataset:
    report = run(refined, "regrid")
    assert report.exit_code is ExitCode.DONE, report.problems
    assert not report.notes
    return open_cube(str(refined), "small", "g").isel(init_time=0).load()


def test_the_cube_holds_variables_products_and_statistics(regridded: xr.Dataset):
    members = {"t2m", "u10", "v10", "tp", "ws10", "wd10", "tp_rate", "tp_6h", "t2m_c"}
    reduced = {"t2m_mean", "t2m_q90", "ws10_mean", "ws10_q90", "tp_6h_above_1"}
    assert {n for n in regridded.data_vars if "latitude" in regridded[n].dims} == members | reduced
    for name in members:
        assert regridded[name].dims == ("lead_time", "member", "latitude", "longitude")
    for name in reduced:
        assert regridded[name].dims == ("lead_time", "latitude", "longitude")
    assert regridded["ws10"].attrs["units"] == "km h-1"
    assert regridded["tp_rate"].attrs["units"] == "mm h-1"
    assert regridded["tp_6h_above_1"].attrs["threshold_units"] == "mm"


def test_values_are_weights_times_fields(refined: Path, source: xr.Dataset, regridded: xr.Dataset):
    at = context(refined)
    request = request_of(load(at), at.recipe, at.recipe.grids[0])
    weights = read(at.lake.url, request.key)
    for name in ("t2m", "u10", "v10", "tp"):
        np.testing.assert_array_equal(regridded[name].values, apply(weights, source[name].values))


def test_products_follow_their_definitions(refined: Path, source: xr.Dataset, regridded: xr.Dataset):
    """Speed of the source, then regridded; direction of the regridded components; amounts between lead times."""
    at = context(refined)
    weights = read(at.lake.url, request_of(load(at), at.recipe, at.recipe.grids[0]).key)
    speed = apply(weights, derived.wind_speed(source["u10"].values, source["v10"].values))
    np.testing.assert_allclose(regridded["ws10"], speed * 3.6, rtol=1e-6)
    assert (regridded["ws10"].values >= np.hypot(regridded["u10"].values, regridded["v10"].values) * 3.6 - 1e-3).all()
    direction = derived.wind_direction(regridded["u10"].values, regridded["v10"].values)
    np.testing.assert_array_equal(regridded["wd10"], direction)
    np.testing.assert_allclose(regridded["t2m_c"], regridded["t2m"] - 273.15, atol=1e-4)
    tp = regridded["tp"].values.astype("float64")
    assert np.isnan(regridded["tp_rate"][0]).all()
    np.testing.assert_allclose(regridded["tp_rate"][1:], np.maximum(np.diff(tp, axis=0), 0) / 3 * 1000, atol=1e-5)
    assert np.isnan(regridded["tp_6h"][:2]).all()
    np.testing.assert_allclose(regridded["tp_6h"][2:], np.maximum(tp[2:] - tp[:-2], 0) * 1000, atol=1e-5)


def test_statistics_are_those_of_the_regridded_members(regridded: xr.Dataset):
    np.testing.assert_allclose(regridded["t2m_mean"], regridded["t2m"].mean("member"), rtol=1e-6)
    np.testing.assert_allclose(regridded["ws10_q90"], np.quantile(regridded["ws10"], 0.9, axis=1), rtol=1e-5)
    np.testing.assert_allclose(regridded["tp_6h_above_1"][2:], (regridded["tp_6h"][2:] > 1).mean("member"), rtol=1e-6)


def test_the_status_of_what_was_made_says_where_it_has_values(regridded: xr.Dataset):
    """A rate begins with the second lead time, an amount over 6 h with the third; variables keep theirs."""
    unknown, present = FIELD_STATUS["unknown"], FIELD_STATUS["present"]
    for name, first in {
        "t2m": 0,
        "ws10": 0,
        "t2m_c": 0,
        "tp_rate": 1,
        "tp_6h": 2,
        "t2m_mean": 0,
        "tp_6h_above_1": 2,
    }.items():
        found = regridded[f"{name}_status"].values
        assert (found[first:] == present).all(), name
        assert (found[:first] == unknown).all(), name


@needs_cdo
def test_everything_as_cdo_makes_it(source: xr.Dataset, regridded: xr.Dataset, tmp_path: Path):
    """``remapcon`` of the fields and of ``sqrt(u*u+v*v)``; ``deltat`` of the regridded accumulation; ``ensmean``."""
    lat, lon = source["latitude"].values, source["longitude"].values
    # CDO takes a global grid from the south pole and Greenwich; ours begins at 90 N and 180 W.
    grid = "gridtype=lonlat\nxsize=72\nysize=36\nxfirst=-177.5\nxinc=5\nyfirst=87.5\nyinc=-5\n"
    (tmp_path / "grid").write_text(grid)
    files, means = [], []
    for m in (0, 1):
        names = ("t2m", "u10", "v10", "tp")
        fields = {n: source[n].values[:, m] for n in names}
        files.append(write(tmp_path / f"in{m}.nc", fields, lat, lon))
        means.append(tmp_path / f"out{m}.nc")
        chain = [f"-remapcon,{tmp_path / 'grid'}", "-aexpr,ws=sqrt(u10*u10+v10*v10)"]
        found = cdo(chain, [files[m]], means[m])
        for name in names:
            scale = np.abs(fields[name]).max()
            np.testing.assert_allclose(regridded[name].values[:, m], found[name], atol=2e-6 * scale, err_msg=name)
        np.testing.assert_allclose(regridded["ws10"].values[:, m], found["ws"] * 3.6, atol=3e-4)
        gained = cdo(["-deltat", "-selname,tp"], [means[m]], tmp_path / "delta.nc")["tp"]
        np.testing.assert_allclose(regridded["tp_rate"].values[1:, m], gained / 3 * 1000, atol=1e-5)
    mean = cdo(["ensmean"], means, tmp_path / "mean.nc")
    np.testing.assert_allclose(regridded["t2m_mean"], mean["t2m"], rtol=1e-6)


def test_members_and_statistics_come_in_one_commit(refined: Path, regridded: xr.Dataset):
    del regridded
    at = context(refined)
    path = target_of(load(at), at.recipe, at.recipe.grids[0]).path
    history = [s.message for s in at.lake.cube(path).repository.ancestry(branch="main")]
    assert [m for m in history if m.startswith("publish")] == [f"publish {RUN}"]


@pytest.fixture(scope="module")
def whole(refined: Path) -> xr.Dataset:
    """A finer grid in a single block, in a single pass."""
    report = run(refined, "regrid", grids=[{**FINE, "name": "whole"}])
    assert report.exit_code is ExitCode.DONE, report.problems
    return open_cube(str(refined), "small", "whole").isel(init_time=0).load()


def test_many_blocks_hold_what_one_does(refined: Path, whole: xr.Dataset):
    """Blocks of at most 1 MB; every partition reads its window of the source, and no cell is counted twice."""
    grids = [{**FINE, "name": "blocks", "shard_mb": 1}]
    report = run(refined, "regrid", grids=grids)
    assert report.exit_code is ExitCode.DONE, report.problems
    assert report.partitions["done"] == 3 * 3
    xr.testing.assert_identical(open_cube(str(refined), "small", "blocks").isel(init_time=0).load(), whole)
    at = context(refined, grids=grids)
    key = request_of(load(at), at.recipe, at.recipe.grids[0]).key
    parts = [part_of(at.lake.url, key, (64, 368), (y, 0)) for y in range(3)]
    assert max(int(np.prod(p.weights.source_shape)) for p in parts) < 0.4 * 91 * 180
    counted = sum(float(p.source_areas.sum()) for p in parts if p.source_areas is not None)
    np.testing.assert_allclose(counted, 4 * np.pi, rtol=1e-12)


@pytest.mark.parametrize(
    ("shard_mb", "outer", "shape", "block"),
    [
        (256, 10, (36, 72), (64, 96)),  # everything
        (256, 4335, (721, 1440), (96, 128)),  # an ensemble: near squares of tiles
        (256, 209, (721, 1440), (192, 1440)),  # whole rows of tiles, as equal as they can be
        (1, 4335, (721, 1440), (32, 32)),  # never less than a tile
        (1, 10, (100_000,), (20_480,)),  # points
    ],
)
def test_blocks_are_whole_tiles_of_a_bounded_size(
    shard_mb: int, outer: int, shape: tuple[int, ...], block: tuple[int, ...]
):
    spec = TargetGrid(name="g", spacing=1, shard_mb=shard_mb)
    assert block_shape(spec, shape, outer) == block
    if block != (32, 32):
        inside = np.prod([min(b, n) for b, n in zip(block, shape, strict=True)])
        assert 4 * outer * inside <= shard_mb * 1e6


def test_a_source_chunk_is_read_once_for_all_that_is_made_of_it(refined: Path):
    """Speed, direction, components and their statistics: each piece of u10 and v10 is asked for once."""
    at = context(refined)
    target = target_of(load(at), at.recipe, at.recipe.grids[0])
    group = target.group("u10+v10")
    part = part_of(at.lake.url, request_of(load(at), at.recipe, at.recipe.grids[0]).key, target.block(group), (0, 0))
    asked: list[tuple[str, str]] = []

    def ask(name: str, place: tuple[slice | int, ...]) -> np.ndarray:
        asked.append((name, str(place)))
        leads = place[0]
        assert isinstance(leads, slice)
        return np.ones((leads.stop - leads.start, *part.weights.source_shape), "float32")

    known = {n: Known("m s**-1") for n in group.variables}
    made = list(make(group, group.items, part, ask, (5, 2), known, STEPS, 2, 0.5))
    assert {name for name, _, _ in made} == set(group.arrays)
    assert len(asked) == len(set(asked)) == 2 * 2 * 3


def test_memory_is_projected_and_a_group_is_split_when_it_must_be(refined: Path, whole: xr.Dataset):
    """The same values in several passes; the plan says so, with the numbers."""
    regrid = Regrid()
    grids = [{**FINE, "name": "split"}]
    before = {p.key.split("/")[2]: p.memory for p in regrid.plan(context(refined, grids=grids), RUN).partitions}
    limit = before["u10+v10"] * 0.9
    changes = {"grids": grids, "regrid": {"memory_gb": limit / 1e9}}
    plan = regrid.plan(context(refined, **changes), RUN)
    [note] = plan.notes
    assert "split/u10+v10 is made in 4 passes over its source: in one it would take 2" in note
    assert f"the limit is {limit / 1e6:.1f} MB" in note
    assert max(p.memory for p in plan.partitions) <= limit
    report = run(refined, "regrid", **changes)
    assert report.exit_code is ExitCode.DONE, report.problems
    xr.testing.assert_identical(open_cube(str(refined), "small", "split").isel(init_time=0).load(), whole)


def test_no_partition_takes_more_memory_than_projected(refined: Path, whole: xr.Dataset):
    """Peaks of what Python and numpy allocate, against the plan's numbers."""
    del whole
    regrid, at = Regrid(), context(refined, grids=[{**FINE, "name": "whole"}])
    regrid.prepare(at, RUN, partitions := regrid.plan(at, RUN).partitions)
    shares = []
    for partition in partitions:
        # Once before: what is loaded on first use (the table of units) is the worker's, not the partition's.
        regrid.process(at, partition)
        part_of.cache_clear()
        tracemalloc.start()
        try:
            regrid.process(at, partition)
            shares.append(tracemalloc.get_traced_memory()[1] / partition.memory)
        finally:
            tracemalloc.stop()
    assert max(shares) < 1
    assert max(shares) > 0.4


def test_a_plan_that_fits_in_no_memory_is_refused(refined: Path):
    changes = {"grids": [{**GLOBAL, "name": "refused"}], "regrid": {"memory_gb": 0.0005}}
    with pytest.raises(
        UsageError, match=r"needs more memory than a worker has.* at most 0\.5 MB, found [12]\.\d MB for 25,920 values"
    ):
        run(refined, "regrid", **changes)


def test_every_grid_has_its_own_selection_and_method(refined: Path):
    grids = [
        {"name": "a", "spacing": 10, "method": "bilinear", "variables": ["ws10", "tp_6h"], "keep_bits": 7},
        {"name": "b", "spacing": 5, "bbox": [-20, 30, 40, 70], "method": "nearest", "variables": ["t2m"]},
    ]
    report = run(refined, "regrid", grids=grids)
    assert report.exit_code is ExitCode.DONE, report.problems
    first, second = (open_cube(str(refined), "small", name).isel(init_time=0).load() for name in "ab")
    found = {n for n in first.data_vars if "latitude" in first[n].dims}
    assert found == {"ws10", "ws10_mean", "ws10_q90", "tp_6h", "tp_6h_above_1"}
    bits = first["ws10"].values.view("uint32") & np.uint32(2**16 - 1)
    assert not bits.any()
    assert {n for n in second.data_vars if "latitude" in second[n].dims} == {"t2m", "t2m_mean", "t2m_q90"}
    assert second["t2m"].shape[-2:] == (8, 12)


# -- held back and refused ---------------------------------------------------------------------------------


def test_weights_that_do_not_conserve_hold_the_run(tmp_path: Path):
    """Weights of the lake that somebody tampered with: one target cell gets three times what it should."""
    lake = refine(tmp_path / "lake")
    at = context(lake)
    request = request_of(load(at), at.recipe, at.recipe.grids[0])
    made = answer(request)
    made.matrix.data[made.matrix.indptr[1000] : made.matrix.indptr[1001]] *= 3
    at.lake.objects.put(request.key, made.save())
    read.cache_clear()
    report = run(lake, "regrid")
    assert report.exit_code is ExitCode.HELD
    [problem] = report.problems
    assert "held back: g: the mean of t2m at step" in problem
    assert "is not conserved" in problem
    with pytest.raises(UsageError, match="zone 'g'"):
        open_cube(str(lake), "small", "g")
    again = run(lake, "regrid")
    assert (again.exit_code, again.partitions["done"]) == (ExitCode.HELD, 0)
    exports = [{"type": "netcdf", "name": "n", "zone": "g", "variables": ["t2m"]}]
    with pytest.raises(UsageError, match=r"nothing to export of zone g: run .* is regridded but held back"):
        run(lake, "export", exports=exports)
    at.lake.objects.delete(request.key)
    read.cache_clear()
    part_of.cache_clear()
    good = run(lake, "regrid", force=True)
    assert good.exit_code is ExitCode.DONE, good.problems


def test_a_missing_field_makes_no_rate_and_is_said(tmp_path: Path):
    """The archive lacks tp of member 1 at 6 h: no rate at 6 and 9 h for that member, and everything else is there."""
    folder = tmp_path / "archive"
    for key, data in archive(datetime(2026, 11, 20, tzinfo=UTC)):
        if key.endswith("-6h-enfo-ef.index"):
            lines = [orjson.loads(line) for line in data.splitlines()]
            kept = [row for row in lines if not (row["param"] == "tp" and row.get("number") == "1")]
            assert len(kept) == len(lines) - 1
            data = b"".join(orjson.dumps(row) + b"\n" for row in kept)
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    changes = {
        "source": {"type": "demo", "root": folder.as_uri()},
        "transfer": "virtual",
        "incomplete": "accept",
        "checks": {"accept_above": 0.1, "flag_above": 0.05},
    }
    lake = tmp_path / "lake"
    for phase in ("ingest", "refine", "validate"):
        run(lake, phase, **changes)
    report = run(lake, "regrid", **changes)
    assert report.exit_code is ExitCode.DONE, report.problems
    assert any("tp_rate has no value at step 6, 9: tp lacks a field" in note for note in report.notes)
    found = open_cube(str(lake), "small", "g").isel(init_time=0).load()
    gone = np.isnan(found["tp_rate"].values).all(axis=(2, 3))
    assert gone.tolist() == [[True, True], [False, False], [False, True], [False, True], [False, False]]
    assert not np.isnan(found["tp_6h_above_1"][2:]).any()
    assert not np.isnan(found["t2m"]).any()


def test_a_product_does_not_change_its_meaning_under_its_name(refined: Path):
    grid = {**GLOBAL, "name": "meaning", "variables": ["tp_6h"]}
    assert run(refined, "regrid", grids=[grid]).exit_code is ExitCode.DONE
    changed = [{**p, "units": "m"} if p["name"] == "tp_6h" else p for p in PRODUCTS]
    with pytest.raises(UsageError, match=r"tp_6h is another product in the runs that .* give the new one another name"):
        run(refined, "regrid", grids=[grid], products=changed)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"products": [{"type": "rate", "name": "r", "of": "rain"}]}, "made of 'rain', which is not selected"),
        ({"products": [{"type": "gust", "name": "r"}]}, "gust"),
        ({"products": [*PRODUCTS, {"type": "amount", "name": "t2m", "of": "tp"}]}, "would be called t2m"),
        ({"statistics": [{"of": ["t2m"]}]}, "names none"),
        ({"statistics": [{"of": ["x"], "mean": True}]}, "statistics are asked of 'x'"),
        ({"grids": [{**GLOBAL, "variables": ["x"]}]}, "grid 'g' names x"),
        ({"regrid": {"vectors": [["u10", "w"]]}}, "regrid.vectors names 'w'"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        parse(document(**{"statistics": STATISTICS[:1], **changes}))


def test_statistics_need_members():
    select = {**document()["select"], "members": None}
    with pytest.raises(RecipeError, match="statistics are over the members"):
        parse(document(select=select))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"products": [{"type": "rate", "name": "r", "of": "t2m"}]}, "r cannot be made: t2m is no accumulation"),
        ({"grids": [{**GLOBAL, "name": "patch", "method": "patch"}]}, "native backend cannot make these weights"),
        ({"products": [{"type": "convert", "name": "r", "of": "t2m", "units": "m"}]}, "cannot be converted to 'm'"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(refined: Path, changes: dict[str, Any], sentence: str):
    whole: dict[str, Any] = {"statistics": [], "products": [], **changes}
    try:
        found = " ".join(run(refined, "regrid", **whole).problems)
    except UsageError as error:
        found = str(error)
    assert sentence in found
