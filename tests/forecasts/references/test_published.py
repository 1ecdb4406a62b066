"""Published reference files with their known defects, made on purpose the way public code makes them, and repaired."""

import base64
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.forecasts.references.kerchunk_parquet import to_parquet
from tasks.forecasts.references.published import load_published
from tasks.forecasts.references.reading import open_member, read_table
from tasks.lake.errors import CorruptInput, NotThereYet, UsageError
from tasks.lake.phase import Context

from .archives import SCOPE, STEPS, Field, context_of, demo_recipe, fields, write_demo

ROOT = Path(__file__).resolve().parents[3]
FOLDER = "20261120/00z/demo/2p0/enfo"
TEMPLATE_URL = "s3://ecmwf-forecasts/20240529/00z/ifs/0p25/enfo/20240529000000-0h-enfo-ef.grib2"

type Rows = dict[str, bytes]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def context(archive: Path, tmp_path: Path) -> Context[Any]:
    return context_of(tmp_path / "lake", demo_recipe(archive.as_uri()))


def lines(archive: Path, step: int) -> list[dict[str, Any]]:
    """An index as it stands there."""
    text = (archive / FOLDER / f"20261120000000-{step}h-enfo-ef.index").read_text()
    return [orjson.loads(line) for line in text.splitlines()]


def word(line: dict[str, Any]) -> str:
    return f"ens{int(line['number']):02d}" if "number" in line else "control"


def index_rows(archive: Path, member: str, *, collapsed: bool, suffix: str = ".grib2") -> Rows:
    """Keys by step: with levels or, as in published files, without."""
    rows: Rows = {}
    for step in STEPS:
        url = f"file://{archive}/{FOLDER}/20261120000000-{step}h-enfo-ef{suffix}"
        for line in lines(archive, step):
            if word(line) == member:
                level = f"/{line['levelist']}" if "levelist" in line and not collapsed else ""
                key = f"step_{step:03d}/{line['param']}/{line['levtype']}{level}/{member}/0.0.0"
                rows[key] = orjson.dumps([url, line["_offset"], line["_length"]])
    return rows


def template_rows(seconds: int = 1716940800) -> Rows:
    """The Zarr tree of a template: one level, references and times of its own date, a variable that is gone."""
    rows: Rows = {".zgroup": b'{"zarr_format":2}'}
    for name, param, kind in (
        ("t", "t", "isobaricInhPa"),
        ("t2m", "2t", "heightAboveGround"),
        ("mx2t6", "mx2t6", "surface"),
    ):
        group = f"{name}/instant/{kind}"
        attributes = {
            "GRIB_shortName": param, "GRIB_units": "K", "units": "K", "long_name": f"{name} of the template",
            "_ARRAY_DIMENSIONS": ["step", "latitude", "longitude"],
        }  # fmt: skip
        array = {
            "zarr_format": 2, "shape": [1, 91, 180], "chunks": [1, 91, 180], "dtype": "<f8", "fill_value": None,
            "order": "C", "compressor": None, "filters": [{"id": "grib", "var": name}],
        }  # fmt: skip
        rows[f"{group}/{name}/.zattrs"] = orjson.dumps(attributes)
        rows[f"{group}/{name}/.zarray"] = orjson.dumps(array)
        rows[f"{group}/{name}/0.0.0"] = orjson.dumps([TEMPLATE_URL, 17, 4711])
        rows[f"{group}/time/0"] = b"base64:" + base64.b64encode(struct.pack("<q", seconds))
    return rows


def file_of(folder: Path, rows: Rows, name: str = "2026112000z-ens_01.parquet") -> str:
    """Written as the publisher does, with pandas' types."""
    pq.write_table(pa.table({"key": list(rows), "value": pa.array(rows.values(), pa.binary())}), folder / name)
    return str(folder / name)


def by_index(archive: Path, member: int) -> Rows:
    """What the file should have said, from the index lines alone."""
    return index_rows(archive, "control" if member == 0 else f"ens{member:02d}", collapsed=False)


def as_rows(table: pa.Table) -> Rows:
    return dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))


def steps_of(table: pa.Table) -> Rows:
    return {k: v for k, v in as_rows(table).items() if k.startswith("step_")}


def assert_right(table: pa.Table, archive: Path, member: int, tmp_path: Path) -> None:
    """Every reference is the index's, and every field what ecCodes reads from the files."""
    assert steps_of(table) == by_index(archive, member)
    path = tmp_path / "made.parquet"
    path.write_bytes(to_parquet(table))
    leaves = {node.path.split("/")[1]: node.dataset for node in open_member(str(path)).leaves}
    names = {"2t": "t2m", "10u": "u10", "10v": "v10"}
    mine: list[Field] = [f for f in fields(archive) if f.member == member]
    assert len(mine) == 24
    for field in mine:
        name = names.get(field.short_name, field.short_name)
        place: dict[str, Any] = {"step": np.timedelta64(field.step, "h")}
        if name == "t":
            place["isobaricInhPa"] = field.level
        np.testing.assert_array_equal(leaves[name][name].sel(place).values, field.values)
        assert leaves[name]["time"].values == np.datetime64("2026-11-20T00", "ns")


def test_a_file_as_published_is_repaired(archive: Path, context: Context[Any], tmp_path: Path):
    """Levels collapsed, the template's references and times, URLs without .grib2: all at once."""
    place = file_of(tmp_path, template_rows() | index_rows(archive, "ens01", collapsed=True, suffix=""))
    table, report = load_published(place, context, SCOPE)
    assert_right(table, archive, 1, tmp_path)
    assert report.repaired == {
        "url": "15 references had URLs without .grib2",
        "levels": "levels were collapsed to one: t at isobaricInhPa (1 of 3); 9 fields are told apart again",
        "template": "references of the template's own date were left: 3 of 2024052900",
        "time": "time coordinates were of another run (1 values)",
    }
    assert report.unrepaired == ["mx2t6/instant/surface/mx2t6: the index has no mx2t6; left out"]
    assert not any("20240529" in value.decode("latin-1") for value in as_rows(table).values())
    # What the file says of its variables is kept.
    attributes = orjson.loads(as_rows(table)["t2m/instant/heightAboveGround/t2m/.zattrs"])
    assert attributes["long_name"] == "t2m of the template"


def test_a_right_file_has_nothing_to_repair(archive: Path, context: Context[Any], tmp_path: Path):
    place = file_of(tmp_path, index_rows(archive, "ens01", collapsed=False))
    table, report = load_published(place, context, SCOPE)
    assert_right(table, archive, 1, tmp_path)
    assert (report.repaired, report.unrepaired) == ({}, [])
    again = tmp_path / "2026112000z-ens_01.parquet"
    again.write_bytes(to_parquet(table))
    twice, report = load_published(str(again), context, SCOPE)
    assert twice.equals(table)
    assert (report.repaired, report.unrepaired) == ({}, [])


def test_a_lost_control_is_found_again(archive: Path, context: Context[Any], tmp_path: Path):
    place = file_of(tmp_path, template_rows(), "2026112000z-control.parquet")
    table, report = load_published(place, context, SCOPE)
    assert_right(table, archive, 0, tmp_path)
    assert report.repaired["control"] == "the control was lost: none of its 24 fields was there"


def test_references_of_another_run_hour_are_repaired(archive: Path, context: Context[Any], tmp_path: Path):
    rows = index_rows(archive, "ens01", collapsed=False)
    key = next(iter(rows))
    rows[key] = rows[key].replace(b"/20261120/00z/", b"/20261119/12z/")
    table, report = load_published(file_of(tmp_path, rows), context, SCOPE)
    assert_right(table, archive, 1, tmp_path)
    assert report.repaired == {"run": "1 references were of another run than 2026112000"}


def test_wrong_ranges_and_missing_fields_are_repaired(archive: Path, context: Context[Any], tmp_path: Path):
    rows = index_rows(archive, "ens01", collapsed=False)
    first, second = list(rows)[:2]
    url, offset, length = orjson.loads(rows[first])
    rows[first] = orjson.dumps([url, offset + 1, length])
    del rows[second]
    table, report = load_published(file_of(tmp_path, rows), context, SCOPE)
    assert_right(table, archive, 1, tmp_path)
    assert report.repaired["ranges"] == "1 byte ranges were not those of the index"
    assert report.repaired["missing"].startswith("1 fields of the index were not there: ")


def test_what_the_index_has_not_is_named(archive: Path, context: Context[Any], tmp_path: Path):
    rows = index_rows(archive, "ens01", collapsed=False)
    rows["step_003/sst/sfc/ens01/0.0.0"] = next(iter(rows.values()))
    table, report = load_published(file_of(tmp_path, rows), context, SCOPE)
    assert_right(table, archive, 1, tmp_path)
    assert report.unrepaired == ["1 references are of fields that the index has not: sst at sfc, step 3"]


@pytest.mark.parametrize("broken", ["gone", "truncated", "page"])
def test_a_step_without_a_good_index_is_named(broken: str, archive: Path, tmp_path: Path):
    own = write_demo(tmp_path / "own")
    index = own / FOLDER / "20261120000000-3h-enfo-ef.index"
    if broken == "gone":
        index.unlink()
    else:
        index.write_bytes(index.read_bytes()[:-30] if broken == "truncated" else b"<html>Not found</html>")
    context = context_of(tmp_path / "lake", demo_recipe(own.as_uri()))
    rows = index_rows(archive, "ens01", collapsed=False)
    table, report = load_published(file_of(tmp_path, rows), context, SCOPE)
    assert sorted({key.split("/")[0] for key in steps_of(table)}) == ["step_000", "step_006"]
    (sentence,) = report.unrepaired
    assert sentence.startswith("step 3: ")
    assert {"gone": "not there", "truncated": "truncated", "page": "web page"}[broken] in sentence
    assert sentence.endswith("8 references of the file could not be checked and were left out")


def test_a_run_that_the_provider_has_not_is_said(tmp_path: Path, archive: Path):
    context = context_of(tmp_path / "lake", demo_recipe((tmp_path / "empty").as_uri()))
    place = file_of(tmp_path, index_rows(archive, "ens01", collapsed=False))
    with pytest.raises(NotThereYet, match="have no field of member 1"):
        load_published(place, context, SCOPE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"PAR1 no more", "is not Parquet"),
        (lambda: parquet({"a": [1]}), r"is no reference file: expected \['key', 'value'\], found \['a'\]"),
        (lambda: parquet({"key": [".zgroup"], "value": [b"{}"]}), "refers to nothing"),
        (lambda: parquet({"key": ["step_000/t/pl/ens01/0.0.0"], "value": [b"["]}), "is no reference"),
    ],
)
def test_what_is_no_reference_file_is_refused(
    content: Callable[[], bytes], message: str, context: Context[Any], tmp_path: Path
):
    path = tmp_path / "2026112000z-ens_01.parquet"
    path.write_bytes(content())
    with pytest.raises(CorruptInput, match=message):
        load_published(str(path), context, SCOPE)


def parquet(columns: dict[str, list[Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def test_a_file_of_another_run_or_of_no_member_is_refused(archive: Path, context: Context[Any], tmp_path: Path):
    place = file_of(tmp_path, template_rows(), "2026111912z-ens_01.parquet")
    with pytest.raises(UsageError, match="belongs to another run: expected 2026-11-20T00, found 2026111912"):
        load_published(place, context, SCOPE)
    place = file_of(tmp_path, template_rows(), "unnamed.parquet")
    with pytest.raises(UsageError, match="does not say which member"):
        load_published(place, context, SCOPE)
    table, _ = load_published(place, context, SCOPE, member=2)
    assert steps_of(table) == by_index(archive, 2)


# -- the command -------------------------------------------------------------------------------------------------


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    return subprocess.run(
        [sys.executable, "-m", "flows.references", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def recipe_file(archive: Path, tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    document = demo_recipe(archive.as_uri()).model_dump(mode="json", by_alias=True)
    path.write_bytes(orjson.dumps(document))
    return path


def test_the_command_repairs_a_file_and_says_what(archive: Path, tmp_path: Path):
    place = file_of(tmp_path, index_rows(archive, "ens01", collapsed=True, suffix=""))
    out = tmp_path / "new" / "2026112000z-ens_01.parquet"
    recipe = recipe_file(archive, tmp_path)
    done = command("import", place, "--recipe", recipe, "--run", SCOPE, "--out", out, "--lake", tmp_path / "lake")
    assert done.returncode == 0, done.stderr
    assert "repaired: 15 references had URLs without .grib2" in done.stdout
    assert f"24 references in {out}" in done.stdout
    assert_right(read_table(out.read_bytes(), "out"), archive, 1, tmp_path)
    assert not (tmp_path / "lake").exists()


def test_the_command_ends_as_the_others_do(archive: Path, tmp_path: Path):
    recipe, out = recipe_file(archive, tmp_path), tmp_path / "out.parquet"
    place = file_of(tmp_path, template_rows() | index_rows(archive, "ens01", collapsed=True))
    done = command("import", place, "--recipe", recipe, "--run", SCOPE, "--out", out, "--json")
    assert done.returncode == 1
    assert orjson.loads(done.stdout)["unrepaired"] == ["mx2t6/instant/surface/mx2t6: the index has no mx2t6; left out"]
    assert done.stderr.startswith("not repaired: mx2t6")
    done = command("import", place, "--recipe", recipe, "--run", "2026-11-20T06", "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    done = command("import", tmp_path / "nothing.parquet", "--recipe", recipe, "--run", SCOPE, "--out", out)
    assert done.returncode == 1
    assert "nothing.parquet is not there" in done.stderr
