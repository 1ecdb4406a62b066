"""Selection by variable, level, step, member and box, through ingest, refine and validate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.forecasts.crop import cropped
from tasks.forecasts.recipe import ForecastRecipe
from tasks.forecasts.runs import index_of
from tasks.forecasts.selection import Select, spread
from tasks.forecasts.template import load, refined_cube
from tasks.grids.grid import Grid
from tasks.grids.order import Order
from tasks.lake import recipe as recipes
from tasks.lake.errors import ExitCode, UsageError
from tasks.lake.phase import Context

from .cdo import cdo, needs_cdo, write
from .small_archive import COLUMNS, LATITUDE, MEMBERS, RUN, Place, Run, document, variables

LONGITUDE = np.arange(COLUMNS) * 7.5


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    Run().write(folder)
    return folder


def dataset(place: Place) -> Any:
    """The refined cube of the run's branch, lazily."""
    context = Context(place.lake, place.recipe)
    cube = refined_cube(context, load(context).cube(place.recipe))
    return cube.open("run/2026-11-20T00", published_only=False).isel(init_time=index_of(place.recipe, RUN))


def place(lake: Path, archive: Path, **select: Any) -> Place:
    return Place.of(lake, archive, select={"members": list(MEMBERS), "variables": variables()} | select)


def test_variables_levels_steps_and_members_are_taken_as_asked(tmp_path: Path, archive: Path) -> None:
    part = place(tmp_path / "part", archive, only=["t", "msl"], levels=[500], steps=["3-9/3"], members=["1-2"])
    assert [r.exit_code for r in part("ingest", "refine")] == [ExitCode.DONE] * 2
    found = dataset(part)
    assert {n for n in found.data_vars if not n.endswith("_status")} == {"t", "msl"}
    assert found["t"].dims == ("lead_time", "member", "latitude", "longitude")
    assert found["member"].values.tolist() == [1, 2]
    whole = place(tmp_path / "whole", archive)
    whole("ingest", "refine")
    all_of_it = dataset(whole)
    wanted = all_of_it["t"].sel(level=500, member=[1, 2]).isel(lead_time=[1, 2, 3])
    np.testing.assert_array_equal(found["t"], wanted)
    np.testing.assert_array_equal(found["msl"], all_of_it["msl"].sel(member=[1, 2]).isel(lead_time=[1, 2, 3]))


def test_one_variable_more_adds_just_that(tmp_path: Path, archive: Path) -> None:
    few = place(tmp_path / "lake", archive, only=["t2m"])
    few("ingest", "refine")
    before = Context(few.lake, few.recipe).ledger.read_all("refine")
    more = place(tmp_path / "lake", archive, only=["t2m", "msl"])
    _, report = more("ingest", "refine")
    after = Context(more.lake, more.recipe).ledger.read_all("refine")
    assert report.partitions["done"] == len(MEMBERS)
    kept = [k for k in before if "/t2m" in k]
    assert len(kept) == len(MEMBERS)
    assert [after[k].finished for k in kept] == [before[k].finished for k in kept]
    assert np.isfinite(dataset(more)["t2m"]).all()
    assert np.isfinite(dataset(more)["msl"]).all()


@pytest.mark.parametrize("layout", [{}, {"longitude": "-180", "latitude": "south-north"}], ids=["source", "turned"])
@pytest.mark.parametrize("box", [(-20, 30, 40, 70), (170, -60, -120, 10), (0, -90, 360, 0)], ids=str)
@needs_cdo
def test_a_box_holds_what_cdo_cuts_out(
    tmp_path: Path, archive: Path, box: tuple[float, ...], layout: dict[str, str]
) -> None:
    part = Place.of(
        tmp_path / "part", archive,
        select={"members": list(MEMBERS), "variables": variables("t2m"), "bbox": list(box)},
        layout=layout | {"rounding": "none"},
    )  # fmt: skip
    reports = part("ingest", "refine", "validate")
    assert [r.exit_code for r in reports] == [ExitCode.DONE] * 3, reports[-1].problems
    found = dataset_of_main(part)["t2m"].isel(init_time=0, member=1)
    whole = place(tmp_path / "whole", archive, only=["t2m"])
    whole("ingest", "refine")
    field = dataset(whole)["t2m"].isel(member=1).values
    source = write(tmp_path / "whole.nc", {"t2m": field}, LATITUDE, LONGITUDE)
    west, south, east, north = box
    east = east if east > west else east + 360
    cut = cdo([f"-sellonlatbox,{west},{east},{south},{north}"], [source], tmp_path / "cut.nc")["t2m"]
    if layout:
        cut = cut[:, ::-1]
    assert found.shape == cut.shape
    np.testing.assert_array_equal(found, cut.astype("float32"))
    assert found.longitude.values[0] >= west
    assert (np.diff(found.longitude) > 0).all()


def dataset_of_main(place: Place) -> Any:
    context = Context(place.lake, place.recipe)
    return refined_cube(context, load(context).cube(place.recipe)).open()


def test_the_edges_of_a_box_are_those_of_the_whole_grid() -> None:
    grid = Grid("rectilinear", LATITUDE, LONGITUDE)
    part, order = cropped(grid, Order(), (-20.0, 30.0, 40.0, 70.0))
    rows = (LATITUDE >= 30) & (LATITUDE <= 70)
    np.testing.assert_array_equal(part.latitude_bounds, grid.latitude_bounds[rows])
    np.testing.assert_allclose(part.longitude, np.arange(-15, 45, 7.5))
    np.testing.assert_allclose(np.diff(part.longitude_bounds), 7.5)
    field = np.arange(grid.size, dtype="float32").reshape(grid.shape)
    np.testing.assert_array_equal(order(field), np.roll(field, 2, axis=1)[rows][:, :8])


def test_a_box_of_points_and_of_a_projection() -> None:
    lat, lon = np.meshgrid(np.linspace(20, 60, 9), np.linspace(-30, 30, 13), indexing="ij")
    values = np.arange(lat.size, dtype="float32")
    points, order = cropped(Grid("unstructured", lat.ravel(), lon.ravel()), Order(), (-12.0, 33.0, 12.0, 52.0))
    inside = (np.abs(lat) >= 33) & (lat <= 52) & (np.abs(lon) <= 12)
    np.testing.assert_array_equal(order(values), values[inside.ravel()])
    np.testing.assert_array_equal(points.latitude, lat[inside])
    part, order = cropped(Grid("curvilinear", lat, lon), Order(), (-12.0, 33.0, 12.0, 52.0))
    field = values.reshape(lat.shape)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    np.testing.assert_array_equal(order(field), field[np.ix_(rows, columns)])
    assert part.shape == (len(rows), len(columns))
    with pytest.raises(UsageError, match="the box holds no cell"):
        cropped(Grid("unstructured", lat.ravel(), lon.ravel()), Order(), (100.0, 33.0, 120.0, 52.0))


@given(
    st.integers(3, 12), st.integers(4, 20), st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
def test_ordering_and_cutting_is_ordering_then_cutting(ny: int, nx: int, flip: bool, roll: bool, data: Any) -> None:
    field = np.arange(ny * nx, dtype="float32").reshape(ny, nx)
    columns = np.roll(np.arange(nx), data.draw(st.integers(0, nx - 1))) if roll else None
    order = Order(flip, columns)
    first = data.draw(st.integers(0, ny - 1))
    rows = slice(first, data.draw(st.integers(first + 1, ny)))
    taken = np.array(data.draw(st.lists(st.integers(0, nx - 1), min_size=1, unique=True)))
    np.testing.assert_array_equal(order.cut(rows, taken)(field), order(field)[rows][:, taken])


def test_ranges_of_numbers() -> None:
    assert spread(["0-12/6", 24, "48"]) == [0, 6, 12, 24, "48"]
    assert spread("0-3") == [0, 1, 2, 3]
    assert Select.model_validate({"variables": variables("t2m"), "steps": ["0-6/3", "12"]}).steps == (0, 3, 6, 12)


@pytest.mark.parametrize(
    ("select", "sentence"),
    [
        ({"only": ["nosuch"]}, "has no variable nosuch; there are t2m"),
        ({"levels": [100]}, "takes no level of t, which has 850, 500"),
        ({"bbox": [0, 50, 10, 40]}, "south < north"),
        ({"steps": ["0-x"]}, "valid integer"),
    ],
)
def test_what_is_not_there_is_refused_by_name(select: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Select.model_validate({"variables": variables()} | select)


def test_a_narrowed_selection_is_the_same_as_one_written_out(tmp_path: Path) -> None:
    def parsed(**select: Any) -> ForecastRecipe:
        return ForecastRecipe.model_validate(document(tmp_path, select=select))

    narrowed = parsed(variables=variables(), only=["t"], levels=[500])
    written = parsed(variables=[v | {"levels": [500]} for v in variables("t")])
    assert narrowed.digest == written.digest
    assert ForecastRecipe.model_validate(narrowed.model_dump(mode="json")).digest == written.digest


def test_a_message_on_another_grid_is_no_part_of_a_box(tmp_path: Path) -> None:
    run = Run()
    other = run["t2m/003-m01"]
    # Twice the columns: the rows and columns of the box are there, and are other places.
    other.values = np.repeat(other.values, 2, axis=1)
    other.header |= {
        "Ni": 2 * COLUMNS,
        "iDirectionIncrementInDegrees": 3.75,
        "longitudeOfLastGridPointInDegrees": 356.25,
    }
    run.write(tmp_path / "archive")
    part = place(tmp_path / "lake", tmp_path / "archive", only=["t2m"], bbox=[10, 30, 60, 70])
    _, report = part("ingest", "refine")
    assert report.exit_code is ExitCode.FAILED
    assert any("on another grid" in p for p in report.problems), report.problems


def test_what_is_made_of_other_variables_goes_with_them() -> None:
    whole = recipes.load("demo")
    assert isinstance(whole, ForecastRecipe)
    recipe = recipes.load("demo", {"select.only": ["t2m", "tp"]})
    assert isinstance(recipe, ForecastRecipe)
    assert [v.name for v in recipe.select.variables] == ["t2m", "tp"]
    assert {p.name for p in recipe.products} == {"tp_rate", "tp_12h"}
    assert [row.of for row in recipe.statistics] == [("t2m",), ("tp_12h",)]
    kept = {e.name: e for e in recipe.exports}
    assert kept["points"].variables == ("t2m", "tp")  # type: ignore[attr-defined]
    assert kept["netcdf"].variables == ("t2m",)  # type: ignore[attr-defined]
    assert "map" in kept
    wind = recipes.load("demo", {"select.only": ["u10", "v10"]})
    assert isinstance(wind, ForecastRecipe)
    assert {p.name for p in wind.products} == {"ws10", "wd10"}
    assert "map" not in {e.name for e in wind.exports}
    assert [g.name for g in wind.grids] == [g.name for g in whole.grids]
