"""Defects injected into a small ensemble: each is caught by the check it is for, named, and handled per policy."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
import zarr

from tasks.checks.statistics import Summary
from tasks.checks.verdict import Verdict
from tasks.forecasts import completeness, release
from tasks.forecasts.climatology import summary_key
from tasks.forecasts.subjects import subjects
from tasks.forecasts.template import load, refined_cube
from tasks.lake import open_cube
from tasks.lake.phase import Context
from tasks.lake.run_axis import FIELD_STATUS

from .small_archive import COLUMNS, MEMBERS, ROWS, RUN, SCOPE, STEPS, Place, Run, variables

OPEN = {"quarantine_at_most": 1.0, "damaged": "quarantine", "run": [{"type": "decoder", "fields": 2}]}


def verdict(place: Place) -> Verdict:
    return release.verdict(Context(place.lake, place.recipe), SCOPE)


def statuses(place: Place) -> dict[str, np.ndarray]:
    return completeness.load(Context(place.lake, place.recipe), SCOPE)


def at(cell: str) -> tuple[str, int, int, int]:
    """``t/003-m01-l500`` -> (variable, positions of step, member and level)."""
    variable, _, rest = cell.partition("/")
    parts = rest.split("-")
    level = [850, 500].index(int(parts[2][1:])) if len(parts) > 2 else 0
    return variable, STEPS.index(int(parts[0])), int(parts[1][1:]), level


# -- spoiled at the provider ----------------------------------------------------------------------------------


def truncated(message: bytes) -> bytes:
    return message[: len(message) // 2] + bytes(len(message) - len(message) // 2)


def a_web_page(message: bytes) -> bytes:
    return b"<html><body>503 Slow Down</body></html>".ljust(len(message))


CORRUPT: dict[str, tuple[str, Callable[[Run, str], None], str]] = {
    # cell, what is done to its message, words of the reason
    "truncated message": ("t2m/003-m01", lambda run, c: setattr(run[c], "spoil", truncated), "7777"),
    "a web page instead": ("t2m/006-m01", lambda run, c: setattr(run[c], "spoil", a_web_page), "not start with GRIB"),
    "the next step's header": ("t2m/009-m01", lambda run, c: run[c].header.update(stepRange=12), "on lead_time"),
    "yesterday's header": ("t2m/012-m01", lambda run, c: run[c].header.update(dataDate=20261119), "on init_time"),
    "another parameter": ("msl/003-m01", lambda run, c: run[c].header.update(shortName="10v"), "on variable"),
    "another member": ("msl/006-m01", lambda run, c: run[c].header.update(perturbationNumber=2), "on member"),
    "another level": ("t/003-m01-l500", lambda run, c: run[c].header.update(level=700), "on level"),
    "another grid": (
        "msl/009-m01",
        lambda run, c: (
            run[c].header.update(Ni=24, iDirectionIncrementInDegrees=15, longitudeOfLastGridPointInDegrees=345),
            setattr(run[c], "values", run[c].values[:, ::2]),
        ),
        "shape",
    ),
}  # fmt: skip


def patch(run: Run, cell: str) -> None:
    run[cell].missing = np.zeros((ROWS, COLUMNS), bool)
    run[cell].missing[5:9, 10:20] = True


def scale(factor: float, offset: float = 0.0) -> Callable[[Run, str], None]:
    def change(run: Run, cell: str) -> None:
        run[cell].values = run[cell].values * factor + offset

    return change


def point(value: float) -> Callable[[Run, str], None]:
    def change(run: Run, cell: str) -> None:
        run[cell].values[7, 9] = value

    return change


def like(other: str) -> Callable[[Run, str], None]:
    def change(run: Run, cell: str) -> None:
        run[cell].values = run[other].values.copy()

    return change


QUARANTINED: dict[str, tuple[str, str, Callable[[Run, str], None], str]] = {
    # cell, check, what is done to its values, words of the reason
    "NaN patch": ("u10/003-m00", "missing", patch, "40 of 1152 values are missing"),
    "values x 100": ("u10/006-m00", "range", scale(100), "outside -120..120"),
    "Kelvin as Celsius": ("t2m/003-m00", "range", scale(1, -273.15), "outside 175..335 K"),
    "constant field": ("u10/009-m00", "flat", scale(0, 3.0), "every point holds 3"),
    "a fill value": ("msl/003-m00", "range", point(9.999e9), "largest 9.999e+09"),
    "cloud of 130 %": ("tcc/003-m00", "range", scale(1, 0.8), "outside"),
    "accumulation that falls": ("tp/009-m01", "accumulation", scale(0.2), "the accumulated field is wrong"),
    "negative accumulation": ("tp/015-m02", "range", scale(-1), "outside"),
    "step served twice": ("msl/012-m02", "frozen", like("msl/009-m02"), "identical to +9 h in every bit"),
    "member served twice": ("u10/012-m02", "duplicate", like("u10/012-m01"), "identical to member 1 in every bit"),
    "level served twice": ("t/006-m00-l500", "duplicate", like("t/006-m00-l850"), "identical to level 850"),
    "maximum below minimum": ("mx2t/009-m00", "order", scale(1, -20.0), "below mn2t"),
}  # fmt: skip


def upside_down(run: Run, cell: str) -> None:
    run[cell].values = run[cell].values[::-1] * 1.0


FLAGGED: dict[str, tuple[str, str, Callable[[Run, str], None], str]] = {
    "a lone peak": ("t2m/009-m02", "spike", point(330.0), "sticks out of the neighbours"),
    "a map upside down": (
        "t/006-m01-l850", "jump", upside_down, "mean change since",
    ),
}  # fmt: skip

ABSENT = {"a field not in the index": "t/009-m02-l850", "a member missing": "tcc/*-m02"}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One run with all of these defects, each in cells of its own, refined, validated and published."""
    base = tmp_path_factory.mktemp("spoiled")
    run = Run()
    for _, (cell, _, change, _) in [*QUARANTINED.items(), *FLAGGED.items()]:
        change(run, cell)
    for cell, change, _ in CORRUPT.values():
        change(run, cell)
    run["t/009-m02-l850"].listed = False
    for message in run.of("tcc", 2):
        message.listed = False
    run.write(base / "archive")
    place = Place.of(base / "lake", base / "archive", checks=OPEN, incomplete="accept")
    reports = place("ingest", "refine", "validate")
    assert [r.status for r in reports] == ["done"] * 3, [r.problems for r in reports]
    return place


@pytest.mark.parametrize("what", CORRUPT)
def test_a_message_that_cannot_be_used_is_kept_apart(spoiled: Place, what: str) -> None:
    cell, _, words = CORRUPT[what]
    variable, *where = at(cell)
    assert statuses(spoiled)[variable][tuple(where)] == FIELD_STATUS["corrupt"]
    key = f"quarantine/small/{SCOPE}/{cell}"
    record = orjson.loads(spoiled.lake.objects.get(f"{key}.json"))
    assert words in record["reason"]
    assert record["status"] == "corrupt"
    assert record["source"]["url"].endswith(".grib2")
    assert len(spoiled.lake.objects.get(f"{key}.grib2")) == record["source"]["length"]


@pytest.mark.parametrize("what", QUARANTINED)
def test_a_bad_field_is_named_and_taken_out(spoiled: Place, what: str) -> None:
    cell, check, _, words = QUARANTINED[what]
    found = verdict(spoiled)
    assert cell in {s.key for s in found.quarantined}
    variable, *where = at(cell)
    assert statuses(spoiled)[variable][tuple(where)] == FIELD_STATUS["rejected"]
    rows = [r for r in found.table if (r.variable, r.check) == (variable, check)]
    level = 500.0 if "l500" in cell else None
    assert (STEPS[where[0]], where[1], level) in rows[0].cells
    documents = orjson.loads(spoiled.lake.objects.get(f"verdicts/small/{SCOPE}/{variable}.json"))
    sentences = [f["sentence"] for f in documents["findings"] if f["check"] == check]
    assert words in sentences[0], sentences
    assert rows[0].source.endswith(tuple("0123456789"))
    record = orjson.loads(spoiled.lake.objects.get(f"quarantine/small/{SCOPE}/{cell}.json"))
    assert record["status"] == "rejected"
    assert spoiled.lake.objects.get(f"quarantine/small/{SCOPE}/{cell}.grib2")[:4] == b"GRIB"


@pytest.mark.parametrize("what", FLAGGED)
def test_a_doubtful_field_is_flagged(spoiled: Place, what: str) -> None:
    cell, check, _, words = FLAGGED[what]
    variable, *where = at(cell)
    assert statuses(spoiled)[variable][tuple(where)] == FIELD_STATUS["flagged"]
    row = next(r for r in verdict(spoiled).table if (r.variable, r.check) == (variable, check))
    assert words in row.sentence
    assert row.action == "flag"


def test_what_is_absent_is_said_so(spoiled: Place) -> None:
    found = statuses(spoiled)
    assert found["t"][STEPS.index(9), 2, 0] == FIELD_STATUS["missing"]
    assert (found["tcc"][:, 2] == FIELD_STATUS["missing"]).all()
    assert found["mx2t"][0, 0, 0] == FIELD_STATUS["not_produced"]
    sentence = next(r.sentence for r in verdict(spoiled).table if (r.variable, r.check) == ("tcc", "present"))
    assert "member 2: the field is absent; 5 other fields likewise, of 18 expected" in sentence


def test_readers_see_the_rest_and_what_became_of_each_field(spoiled: Place) -> None:
    cube = open_cube(spoiled.lake.url, "small").isel(init_time=0)
    assert int(cube["status"]) == 2
    bad = {c for c, *_ in QUARANTINED.values()} | {c for c, *_ in CORRUPT.values()}
    for variable in ("t2m", "msl", "u10", "tp", "t", "mx2t"):
        status = cube[f"{variable}_status"].values
        assert status.shape == cube[variable].shape[:-2]
        empty = np.isnan(cube[variable].values).all(axis=(-2, -1))
        usable = np.isin(status, (FIELD_STATUS["present"], FIELD_STATUS["flagged"]))
        np.testing.assert_array_equal(empty, ~usable)
    for cell in bad:
        variable, time, member, level = at(cell)
        where = (time, member, level) if variable == "t" else (time, member)
        assert np.isnan(cube[variable].values[where]).all(), cell
    assert np.isnat(cube["ingested_forecast_length"].values), "not even the first step is whole"
    context = Context(spoiled.lake, spoiled.recipe)
    snapshot = refined_cube(context, load(context).cube(spoiled.recipe)).tip("main")
    assert snapshot is not None
    assert snapshot[1]["verdict"] == "quarantined"
    assert snapshot[1]["reasons"] == list(verdict(spoiled).reasons)


def test_the_report_names_every_bad_cell(spoiled: Place) -> None:
    page = spoiled.lake.objects.get(f"verdicts/small/{SCOPE}/report.html").decode()
    for cell, *_ in QUARANTINED.values():
        assert f"<code>{cell}</code>" in page, cell
    assert "<h2>Quarantine (" in page
    assert 'aria-label="Histogram of t2m"' in page


# -- spoiled on the way ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A clean run, copied and refined, not validated."""
    base = tmp_path_factory.mktemp("refined")
    Run().write(base / "archive")
    select = {"members": list(MEMBERS), "variables": variables("t2m", "msl", "t")}
    place = Place.of(base / "lake", base / "archive", transfer="copy", checks=OPEN, select=select)
    reports = place("ingest", "refine")
    assert [r.status for r in reports] == ["done"] * 2, [r.problems for r in reports]
    return place


def test_a_clean_run_is_accepted(refined: Place, tmp_path: Path) -> None:
    place = copied(refined, tmp_path)
    assert place("validate")[0].status == "done"
    found = verdict(place)
    assert (found.state, found.score, found.reasons, found.quarantined) == ("accepted", 1.0, (), ())
    assert set(np.unique(statuses(place)["t"])) == {FIELD_STATUS["present"]}
    assert open_cube(place.lake.url, "small")["ingested_forecast_length"].values[0] == np.timedelta64(15, "h")


def copied(place: Place, tmp_path: Path) -> Place:
    path = Path(shutil.copytree(place.lake.objects.location.prefix, tmp_path / "lake"))
    return Place(type(place.lake)(str(path)), place.recipe)


def test_a_bit_that_flipped_in_the_copy_is_found(refined: Place, tmp_path: Path) -> None:
    place = copied(refined, tmp_path)
    victim = next(Path(place.lake.objects.location.prefix).glob("raw/**/*-9h-*.grib2"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    shutil.rmtree(Path(place.lake.objects.location.prefix) / "staging")
    report = place("refine")[0]
    assert report.status == "done", report.problems
    assert place("validate")[0].status == "done"
    found = statuses(place)
    bad = [(v, *map(int, w)) for v, s in found.items() for w in np.argwhere(s == FIELD_STATUS["corrupt"])]
    assert len(bad) == 1
    assert bad[0][1] == STEPS.index(9)


def tampered(place: Place, change: Callable[[zarr.Group, int], None]) -> None:
    """Change what is stored in the run's branch, as a fault of ours would, leaving its metadata alone."""
    context = Context(place.lake, place.recipe)
    cube = refined_cube(context, load(context).cube(place.recipe))
    tip = cube.tip(f"run/{SCOPE}")
    assert tip is not None
    session = cube.repository.writable_session(f"run/{SCOPE}")
    group = zarr.open_group(session.store, mode="a")
    change(group, group["init_time"].shape[0] - 1)
    session.commit("tampered", metadata=tip[1], allow_empty=True)


def swap_members(group: zarr.Group, run: int) -> None:
    values = group["msl"][run]
    group["msl"][run] = values[:, [1, 0, 2]]


def shift(group: zarr.Group, run: int) -> None:
    group["msl"][run] = np.roll(group["msl"][run], 5, axis=-1)


def flip(group: zarr.Group, run: int) -> None:
    group["msl"][run] = group["msl"][run][..., ::-1, :]


def late_by_one(group: zarr.Group, run: int) -> None:
    group["msl"][run] = np.roll(group["msl"][run], 1, axis=0)


def swap_levels(group: zarr.Group, run: int) -> None:
    group["t"][run] = group["t"][run][:, :, ::-1]


def collapse_levels(group: zarr.Group, run: int) -> None:
    values = group["t"][run]
    group["t"][run] = np.repeat(values[:, :, 1:], 2, axis=2)


ON_THE_WAY = {
    "swapped members": (swap_members, "msl", "decoder"),
    "shifted longitude": (shift, "msl", "decoder"),
    "flipped latitude": (flip, "msl", "decoder"),
    "wrong step": (late_by_one, "msl", "decoder"),
    "swapped levels": (swap_levels, "t", "decoder"),
    "pressure levels collapsed": (collapse_levels, "t", "duplicate"),
}


@pytest.mark.parametrize("what", ON_THE_WAY)
def test_what_went_wrong_on_the_way_is_found(refined: Place, tmp_path: Path, what: str) -> None:
    change, variable, check = ON_THE_WAY[what]
    found = findings_after(copied(refined, tmp_path), change, variable)
    finding = found[check]
    assert finding.score < 0.8
    assert finding.fatal == (check == "decoder")


COORDINATES = {
    "latitudes upside down": (lambda g, _: g["latitude"].__setitem__(..., g["latitude"][...][::-1]), "latitude is"),
    "longitudes shifted": (lambda g, _: g["longitude"].__setitem__(..., g["longitude"][...] + 7.5), "longitude is"),
    "another valid time": (lambda g, run: g["valid_time"].__setitem__((run, 2), 0), "valid_time at +6 h is 1970"),
    "another run's init_time": (lambda g, run: g["init_time"].__setitem__(run, 1), "init_time is 1970"),
    "other units": (lambda g, _: g["msl"].attrs.update(units="hPa"), "units: expected Pa, found hPa"),
}  # fmt: skip


@pytest.mark.parametrize("what", COORDINATES)
def test_coordinates_that_lie_reject_the_run(refined: Place, tmp_path: Path, what: str) -> None:
    change, words = COORDINATES[what]
    place = copied(refined, tmp_path)
    check = "structure" if "units" in what else "coordinates"
    finding = findings_after(place, change, "msl")[check]
    assert words in finding.sentence
    assert (finding.score, finding.fatal, finding.cells) == (0.0, True, ())


def findings_after(place: Place, change: Callable[[zarr.Group, int], None], variable: str):
    """What the checks say of one variable of the branch after something was changed in it: by check."""
    from tasks.checks.acceptance import CheckConfig
    from tasks.checks.inspection import inspect
    from tasks.checks.verdict import suite
    from tasks.forecasts.refine import run_manifest

    context = Context(place.lake, place.recipe)
    tampered(place, change)
    found = subjects(context, load(context), run_manifest(context, SCOPE), SCOPE, [variable])
    config = CheckConfig.model_validate({"run": [{"type": "decoder", "fields": 1000}]})
    return {f.check: f for f in inspect(found, suite(config))}


# -- not like the runs before ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(refined: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The clean run validated, and nine made-up earlier runs that were like it, as the climatology keeps them."""
    place = copied(refined, tmp_path_factory.mktemp("history"))
    assert place("validate")[0].status == "done"
    rng = np.random.default_rng(1)
    runs = [f"{RUN - timedelta(hours=12 * n):%Y-%m-%dT%H}" for n in range(9, 0, -1)]
    for variable in ("t2m", "msl"):
        data = place.lake.objects.get(summary_key("small", SCOPE, variable))
        now = Summary.from_bytes(data).__dict__
        for number, run in enumerate(runs):
            other = {
                **now,
                "statistics": now["statistics"] * (1 + 1e-3 * rng.standard_normal(now["statistics"].shape)),
                "pattern": now["pattern"] + 0.1 * rng.standard_normal(now["pattern"].shape),
                # The last of them held, at +6 h, what today's +3 h holds.
                "digests": np.roll(now["digests"], 1, axis=0) * (number == 8 and variable == "msl"),
            }  # fmt: skip
            other = {k: np.asarray(v, now[k].dtype) for k, v in other.items()}
            place.lake.objects.put(summary_key("small", run, variable), Summary(**other).to_bytes())
    place.lake.objects.put("verdicts/small/accepted.json", orjson.dumps({"accepted": runs}))
    return place


def test_a_run_like_the_others_is_no_news(history: Place, tmp_path: Path) -> None:
    found = findings_after(copied(history_branch(history), tmp_path), lambda _g, _r: None, "t2m")
    assert found["climate"].score == 1
    assert "like those of the last 9 accepted runs" in found["climate"].sentence
    assert found["stale"].score == 1


def history_branch(history: Place) -> Place:
    """The history with the branch of the run, which publishing dropped, made again."""
    from tasks.forecasts.validate import Validate

    Validate().prepare(Context(history.lake, history.recipe), SCOPE, ())
    return history


UNLIKE = {
    "all of it warmer": lambda g, run: g["t2m"].__setitem__(run, g["t2m"][run] + 40.0),
    "all of it upside down": lambda g, run: g["t2m"].__setitem__(run, g["t2m"][run][..., ::-1, :]),
    "all of it from elsewhere": lambda g, run: g["t2m"].__setitem__(run, 0.2 * g["t2m"][run] + 200.0),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_a_run_unlike_the_others_is_found(history: Place, tmp_path: Path, what: str) -> None:
    found = findings_after(copied(history_branch(history), tmp_path), UNLIKE[what], "t2m")
    assert found["climate"].score < 0.1
    assert "accepted runs" in found["climate"].sentence
    assert len(found["climate"].cells) == len(STEPS) * len(MEMBERS)


def test_a_stale_run_served_again_is_found(history: Place, tmp_path: Path) -> None:
    found = findings_after(copied(history_branch(history), tmp_path), lambda _g, _r: None, "msl")
    last = f"{RUN - timedelta(hours=12):%Y-%m-%dT%H}"
    assert found["stale"].sentence.startswith(f"msl at +0 h, member 0: is run {last} at +3 h again")
    assert found["stale"].score < 0.5
