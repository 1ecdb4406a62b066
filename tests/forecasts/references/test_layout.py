"""Manifests as dense arrays: every row in its place, whatever the order; what has no place is refused."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tasks.forecasts import manifest
from tasks.forecasts.recipe import ForecastRecipe
from tasks.forecasts.references.layout import ABSENT, RunReferences, collect
from tasks.lake.errors import CorruptInput

from .archives import SCOPE, context_of, demo_recipe, manifests, write_demo


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> ForecastRecipe:
    return demo_recipe(write_demo(tmp_path_factory.mktemp("archive")).as_uri())


@pytest.fixture(scope="module")
def tables(recipe: ForecastRecipe, tmp_path_factory: pytest.TempPathFactory) -> list[pa.Table]:
    return list(manifests(context_of(tmp_path_factory.mktemp("lake"), recipe)))


def test_every_row_is_in_its_place(recipe: ForecastRecipe, tables: list[pa.Table]):
    run, samples = collect(recipe, SCOPE, iter(tables))
    assert run.source.shape == (3, 3 * (5 + 3))
    assert not np.any(run.source == ABSENT)
    assert run.reach == run.expected == 6
    blocks = {b.variable.name: b for b in run.blocks}
    for row in pa.concat_tables(tables).to_pylist():
        block = blocks[row["variable"]]
        lead = run.lead_times.index(row["lead_time"].total_seconds() / 3600)
        level = block.levels.index(row["level"]) if block.is_layered else 0
        place = (row["member"], lead, level)
        assert run.objects[run.cut(run.source, block)[place]].url == row["url"]
        assert run.cut(run.offset, block)[place] == row["offset"]
        assert run.cut(run.length, block)[place] == row["length"]
    assert samples is not None
    assert sorted(samples["variable"].to_pylist()) == sorted(blocks)
    assert {r.total_seconds() for r in samples["lead_time"].to_pylist()} == {6 * 3600}
    assert blocks["t"].levels == (850, 500, 250)
    assert (blocks["t"].param, blocks["t"].level_type) == ("t", "isobaricInhPa")


def test_order_does_not_matter(recipe: ForecastRecipe, tables: list[pa.Table]):
    def shuffled() -> Iterator[pa.Table]:
        rng = np.random.default_rng(3)
        for table in reversed(tables):
            yield table.take(pa.array(rng.permutation(len(table))))

    one, two = collect(recipe, SCOPE, tables)[0], collect(recipe, SCOPE, shuffled())[0]
    for name in ("offset", "length", "sub"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert [two.objects[n].url for n in two.source.ravel()] == [one.objects[n].url for n in one.source.ravel()]


def test_a_missing_field_is_absent_and_the_run_ends_with_its_last(recipe: ForecastRecipe, tables: list[pa.Table]):
    run: RunReferences = collect(recipe, SCOPE, [tables[0], tables[1].slice(1)])[0]
    assert np.sum(run.source == ABSENT) == len(tables[2]) + 1
    assert (run.reach, run.expected) == (3, 6)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("variable", "q", "the variable q, which the recipe has not"),
        ("member", 7, "the member 7, which"),
        ("member", None, "the member None, which"),
        ("lead_time", 9 * 3600, "the lead_time 9:00:00, which"),
        ("level", 700.0, "the level 700.0, which"),
    ],
)
def test_a_row_without_a_place_is_refused(
    recipe: ForecastRecipe, tables: list[pa.Table], column: str, value: object, message: str
):
    layered = [name == "t" for name in tables[1]["variable"].to_pylist()]
    table = tables[1].filter(pa.array(layered))
    kind = pa.int64() if column == "lead_time" else manifest.MANIFEST.field(column).type
    first = [value] if column != "variable" else ["q"]
    rest = table[column].slice(1).cast(kind if column != "variable" else pa.string()).to_pylist()
    plain = pa.string() if column == "variable" else kind
    values = pa.array(first + rest, plain).cast(manifest.MANIFEST.field(column).type)
    index = table.schema.get_field_index(column)
    changed = table.set_column(index, manifest.MANIFEST.field(column), values)
    with pytest.raises(CorruptInput, match=message):
        collect(recipe, SCOPE, [changed])


def test_a_field_that_comes_twice_is_refused(recipe: ForecastRecipe, tables: list[pa.Table]):
    for twice in (
        [tables[0], tables[1], tables[0].slice(0, 1)],
        [pa.concat_tables([tables[0], tables[0].slice(2, 1)])],
    ):
        with pytest.raises(CorruptInput, match="hold a field twice"):
            collect(recipe, SCOPE, twice)


def test_a_field_at_changing_places_of_its_message_is_refused(recipe: ForecastRecipe, tables: list[pa.Table]):
    subs = [int(n == "u10") for n in tables[0]["variable"].to_pylist()]
    run = collect(recipe, SCOPE, [manifest.with_column(tables[0], "sub", subs), *tables[1:]])[0]
    blocks = {b.variable.name: b for b in run.blocks}
    assert run.sub_of(blocks["v10"]) == 0
    with pytest.raises(CorruptInput, match="u10 is not at the same place"):
        run.sub_of(blocks["u10"])


def test_two_runs_differ_in_their_digest(recipe: ForecastRecipe, tables: list[pa.Table]):
    whole, part = collect(recipe, SCOPE, tables)[0], collect(recipe, SCOPE, tables[:2])[0]
    assert whole.digest == collect(recipe, SCOPE, tables)[0].digest
    assert whole.digest != part.digest
