"""The demo's archive: real in form, plausible in content, the same every time."""

from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest

from tasks.forecasts import synthetic
from tasks.forecasts.decode import decode, header, verify
from tasks.forecasts.scan import scan
from tasks.forecasts.sources.demo import MEMBERS, STEPS, Demo, archive
from tasks.lake.recipe import load

RUN = datetime(2026, 11, 20, tzinfo=UTC)
RANGES = {"2t": (220, 320), "msl": (95000, 105000), "10u": (-45, 45), "10v": (-45, 45), "tp": (0, 0.3), "t": (190, 320)}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The archive of a run by key."""
    return dict(archive(RUN))


@pytest.fixture(scope="module")
def fields(files: dict[str, bytes]) -> dict[tuple, np.ndarray]:
    """Decoded values by (param, level, member, step)."""
    demo, found = Demo(), {}
    for step in STEPS:
        (file,) = demo.files("", RUN, step)
        data = files[file.url]
        for row in demo.parse(file, RUN, files[file.index_url], len(data)).to_pylist():
            message = data[row["offset"] : row["offset"] + row["length"]]
            verify(message)
            head = header(message)
            assert (head.short_name, head.member, head.end_step) == (row["param"], row["member"], step)
            assert (head.init_time, head.packing_type, head.shape) == (RUN, "grid_ccsds", (91, 180))
            assert row["level"] in (None, head.level)
            assert (row["window"], row["window"] == "accum") == (head.step_type, head.short_name == "tp")
            found[row["param"], row["level"], row["member"], step] = decode(message)
    return found


def test_every_field_is_there_once(files: dict[str, bytes], fields: dict[tuple, np.ndarray]):
    assert len(fields) == len(STEPS) * len(MEMBERS) * 8
    assert sum(len(scan(data)) for key, data in files.items() if key.endswith(".grib2")) == len(fields)
    assert [len(files)] == [2 * len(STEPS)]


def test_the_index_is_ecmwfs(files: dict[str, bytes]):
    key = "20261120/00z/demo/2p0/enfo/20261120000000-24h-enfo-ef.index"
    lines = [orjson.loads(line) for line in files[key].splitlines()]
    assert {line["type"] for line in lines} == {"cf", "pf"}
    assert all(("number" in line) == (line["type"] == "pf") for line in lines)
    assert all(("levelist" in line) == (line["levtype"] == "pl") for line in lines)
    assert all(isinstance(v, str) != k.startswith("_") for line in lines for k, v in line.items())
    offsets = [line["_offset"] for line in lines]
    assert offsets != sorted(offsets)


def test_a_run_is_the_same_every_time_and_another_is_not(files: dict[str, bytes]):
    assert dict(archive(RUN)) == files
    other = dict(archive(RUN + timedelta(hours=12)))
    assert not set(other) & set(files)
    assert not set(other.values()) & set(files.values())


def test_values_are_plausible(fields: dict[tuple, np.ndarray]):
    for (param, _, _, _), values in fields.items():
        low, high = RANGES[param]
        assert np.isfinite(values).all()
        assert low <= values.min(), param
        assert values.max() <= high, param
    for member in MEMBERS:
        layers = [fields["t", level, member, 24].mean() for level in (850, 500, 250)]
        assert layers == sorted(layers, reverse=True)


def test_precipitation_starts_at_zero_and_never_decreases(fields: dict[tuple, np.ndarray]):
    for member in MEMBERS:
        totals = np.array([fields["tp", None, member, step] for step in STEPS])
        assert not totals[0].any()
        assert (np.diff(totals, axis=0) >= 0).all()
        assert totals[-1].max() > 0.01


def test_members_diverge(fields: dict[tuple, np.ndarray]):
    for param, level in (("msl", None), ("2t", None), ("t", 850.0)):
        spread = [np.std([fields[param, level, m, s] for m in MEMBERS], axis=0).mean() for s in (0, 12, 24)]
        assert spread == sorted(spread)
        assert spread[-1] > 1.5 * spread[0] > 0


def test_the_next_run_continues_the_last(fields: dict[tuple, np.ndarray]):
    later = synthetic.weather(RUN + timedelta(hours=12), 0, 0)
    error = np.abs(fields["msl", None, 0, 12] - later.msl)
    # A forecast is not the analysis that follows it, but near it (Pa).
    assert 1 < error.max() < 600
    assert error.mean() < 60


def test_wind_goes_round_lows_the_right_way():
    now = synthetic.weather(RUN, 0, 0)
    for rows, side in ((slice(12, 25), 1), (slice(66, 79), -1)):
        j, i = np.unravel_index(np.argmin(now.msl[rows]), now.msl[rows].shape)
        j += rows.start
        east, west = (i + 4) % 180, (i - 4) % 180
        assert (now.v10[j, east] - now.v10[j, west]) * side > 5


def test_any_run_can_be_made():
    for run in (datetime(1999, 12, 31, 18, tzinfo=UTC), datetime(2040, 2, 29, 6, tzinfo=UTC)):
        for member in (0, 3):
            made = synthetic.weather(run, 24, member)
            assert 220 < made.t2m.min() < made.t2m.max() < 320
            assert 95000 < made.msl.min() < made.msl.max() < 105000


def test_the_recipe_asks_for_what_the_archive_has():
    recipe = load("demo")
    assert tuple(recipe.select.members) == MEMBERS  # type: ignore[attr-defined]
    assert {v.param for v in recipe.select.variables} == set(RANGES)  # type: ignore[attr-defined]
    assert Demo().roots() == ()
    assert Demo(root="file:///archive").roots() == ("file:///archive",)
