"""Ingest and refine on the real files: what stands in the cube is what ecCodes decodes from the messages."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pyarrow as pa
import pytest

from tasks.executor import Threads
from tasks.forecasts.runs import run_id
from tasks.forecasts.scan import scan, scan_manifest
from tasks.forecasts.sources.source import SourceFile, sources
from tasks.forecasts.template import load, refined_cube
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Context, Window
from tasks.plan import Options
from tasks.runner import run_phase

pytestmark = pytest.mark.real

VARIABLES = 12
"""How many variables of a file with many go into a cube."""


@dataclass(frozen=True)
class Case:
    """A real file, and its index where it has one."""

    path: str
    index: str = "none"
    suffix: str | None = None
    bits: int | None = None
    run: int | None = None
    """Number of the run whose messages are taken, of a file that holds several."""


# Not here: hrrr.wrfsubhf.sample.grib2 holds quarter hours, and the grid of test_icon.grib is in another file;
# test_decode.py has every field of every file.
CASES = {
    "gfs-2p5-idx": Case("gfs/gfs.t00z.pgrb2.2p50.f000", "noaa", ".derived.idx"),
    "gfs-2p5-2011-idx": Case("gfs/gfs.20111008.2p5deg.f072.grib2", "noaa", ".derived.idx"),
    "gfs-10p0-idx": Case("gfs/gfs.t06z.pgrb2.10p0.f010.grib2", "noaa"),
    "gfs-submessages-idx": Case("gfs/subgrids.grib2", "noaa"),
    "gfs-0p25-tmax": Case("gfs/gfs.20240820.t12z.0p25.f044.TMAX.grib2"),
    "gfs-0p25-constant": Case("gfs/gfs.t18z.pgrb2.0p25.f186-RH.grib2"),
    "gfs-0p25-rounded": Case("gfs/gfs.20240820.t12z.0p25.f044.TMAX.grib2", bits=7),
    "gfs-crop": Case("gfs/gfs.2026081406.f000.crop.grib2"),
    "gfs-wave-idx": Case("gfswave/gfswave.t18z.atlocn.0p16.f001.grib2", "noaa"),
    "gefs": Case("gefs/gec00_20250101_00_soilw.grib2"),
    "ecmwf-ens-index": Case("ecmwf/20260702000000-24h-enfo-ef.2t.m1-3.grib2", "ecmwf"),
    "ecmwf-oper": Case("ecmwf/ecmwf-ifs-oper-surface.grib2"),
    "ecmwf-oper-0p4": Case("ecmwf/20230711120000-3h-oper-fc.skt.0p4.grib2"),
    "ecmwf-scda": Case("ecmwf/20220817060000-scda-fc.tuv850.s12-24.grib2"),
    "ecmwf-aifs": Case("ecmwf/aifs-single-t500.grib2"),
    "ecmwf-ens-grib1": Case("ens_small/wgust_ens.grib"),
    "ecmwf-ens-51": Case("ens_small/ens_50.grib"),
    "hrrr-lambert": Case("hrrr_nam/hrrr.t06z.wrfsfcf01-CFRZR.grib2"),
    "nam-lambert-idx": Case("hrrr_nam/nam.t00z.awp21100.tm00.grib2", "noaa", ".derived.idx"),
    "reduced-gaussian": Case("grids/O32_global.grib2"),
    "reduced-gaussian-grib1": Case("grids/t_n48.grib"),
    "rotated": Case("grids/rotated_wind_20x20.grib"),
    "regular": Case("grids/wind_20x20.grib"),
    "mercator": Case("grids/mercator.grib"),
    "pascals": Case("grids/hpa_and_pa.grib"),
    "hours-of-minutes": Case("grids/step_60m.grib"),
    "several-runs-first": Case("grids/pl_regular_ll.grib", run=0),
    "several-runs-last-rounded": Case("grids/pl_regular_ll.grib", run=3, bits=9),
    "arome-wave": Case("grids/meteofrance.mfwam.arome-SWELL.grib2"),
}


def rows_of(case: Case, path: Path) -> tuple[datetime, list[dict[str, Any]]]:
    """The run of a file (its first), and the rows of that run that lie at whole hours."""
    data = path.read_bytes()
    scanned = scan_manifest(data, path.name)
    message = data[scanned["offset"][0].as_py() :]
    run = _init_time(message[: scanned["length"][0].as_py()])
    table: pa.Table = scanned
    if case.index != "none":
        step = int(scanned["lead_time"][0].as_py() // timedelta(hours=1))
        source = _source(case, path, [step], None)
        index = path.parent / source.files(path.parent.as_uri(), run, step)[0].index_url
        table = source.parse(SourceFile(path.name, index.name, step), run, index.read_bytes(), len(data))
    rows = [r for r in table.to_pylist() if r["lead_time"] % timedelta(hours=1) == timedelta(0)]
    return run, [r for r in rows if _init_time(data[r["offset"] : r["offset"] + r["length"]]) == run]


def _source(case: Case, path: Path, steps: list[int], members: list[int] | None) -> Any:

    # A pattern must differ by step where there is an index; these files have one step each, so it is its own name.
    document = {
        "type": "folder",
        "root": path.parent.as_uri(),
        "pattern": path.name,
        "index": case.index,
        "steps": steps,
    }
    if case.suffix:
        document["index_suffix"] = case.suffix
    return sources.build(document | ({"members": members} if members else {}))


def one_run(path: Path, number: int, folder: Path) -> Path:
    """The messages of one run of a file that holds several, unchanged, as a file of its own."""
    data = path.read_bytes()
    messages = [data[p.offset : p.offset + p.length] for p in scan(data)]
    run = sorted({_init_time(m) for m in messages})[number]
    out = folder / "run" / path.name
    out.parent.mkdir()
    out.write_bytes(b"".join(m for m in messages if _init_time(m) == run))
    return out


def _init_time(message: bytes) -> datetime:
    handle = eccodes.codes_new_from_message(message)
    try:
        day, clock = eccodes.codes_get_long(handle, "dataDate"), eccodes.codes_get_long(handle, "dataTime")
        return datetime.strptime(f"{day:08d}{clock:04d}", "%Y%m%d%H%M").replace(tzinfo=UTC)
    finally:
        eccodes.codes_release(handle)


def recipe_of(case: Case, path: Path, run: datetime, rows: list[dict[str, Any]]) -> tuple[Any, dict[str, list[dict]]]:
    """A recipe over the file's variables that can be told apart, and the rows of each."""
    data = path.read_bytes()
    grids = Counter(_grid(data, r) for r in rows)
    common = grids.most_common(1)[0][0]
    members = sorted({r["member"] for r in rows if r["member"] is not None}) or None
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["param"], row["level_type"], row["level"], row["window"]), []).append(row)
    chosen: dict[str, list[dict]] = {}
    variables = []
    for (param, level_type, level, window), found in sorted(groups.items(), key=str):
        cells = Counter((r["lead_time"], r["member"]) for r in found)
        no_level = level is None and any(k[:2] == (param, level_type) and k[2] is not None for k in groups)
        if max(cells.values()) > 1 or no_level or any(_grid(data, r) != common for r in found):
            continue
        name = f"v{len(variables):02d}"
        chosen[name] = found
        variables.append(
            {"name": name, "param": param, "level_type": level_type, "window": window, "keep_bits": case.bits}
            | ({"levels": [level]} if level is not None else {})
        )
        if len(variables) == VARIABLES:
            break
    steps = sorted({int(r["lead_time"] // timedelta(hours=1)) for found in chosen.values() for r in found})
    document = {
        "name": "real",
        "kind": "forecast",
        "source": _source(case, path, steps, members),
        "incomplete": "accept",
        "runs": {"start": run, "every": 1, "default": run_id(run)},
        "select": {"variables": variables, "members": members, "steps": steps},
        "layout": {"rounding": "none"},
    }
    return recipes.parse(document), chosen


def _grid(data: bytes, row: dict[str, Any]) -> str:
    handle = eccodes.codes_new_from_message(data[row["offset"] : row["offset"] + row["length"]])
    try:
        return eccodes.codes_get_string(handle, "md5GridSection")
    finally:
        eccodes.codes_release(handle)


def decoded(message: bytes, sub: int) -> np.ndarray:
    """ecCodes' own values of a field, float32, NaN where the bitmap says missing, rows in one direction."""
    eccodes.codes_grib_multi_support_on()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(message)
            file.seek(0)
            handles = [eccodes.codes_grib_new_from_file(file) for _ in range(sub + 1)]
            field = _values(handles[sub])
            for handle in handles:
                eccodes.codes_release(handle)
            eccodes.codes_grib_multi_support_reset_file(file)
    finally:
        eccodes.codes_grib_multi_support_off()
    return field


def _values(handle: int) -> np.ndarray:
    eccodes.codes_set(handle, "missingValue", 1e20)
    values = eccodes.codes_get_values(handle)
    if eccodes.codes_get_long(handle, "bitmapPresent"):
        values[values == 1e20] = np.nan
    shape = [eccodes.codes_get_long(handle, k) for k in ("Nj", "Ni")] if _has(handle, "Ni") else [-1]
    field = values.reshape(shape).astype("float32")
    if _has(handle, "alternativeRowScanning") and eccodes.codes_get_long(handle, "alternativeRowScanning"):
        field[1::2] = field[1::2, ::-1]
    return field


def _has(handle: int, key: str) -> bool:
    try:
        return eccodes.codes_get_long(handle, key) not in (0x7FFFFFFF, -1) and not eccodes.codes_is_missing(handle, key)
    except eccodes.CodesInternalError:
        return False


@pytest.mark.parametrize("name", CASES)
def test_the_cube_holds_what_eccodes_decodes(name: str, shared: Path, tmp_path: Path):
    case = CASES[name]
    path = shared / "data" / case.path
    if case.run is not None:
        path = one_run(path, case.run, tmp_path)
    run, rows = rows_of(case, path)
    recipe, chosen = recipe_of(case, path, run, rows)
    assert chosen
    lake = Lake(str(tmp_path / "lake"))
    executor = Threads(2)
    try:
        for phase in ("ingest", "refine"):
            report = run_phase(lake, recipe, phase, Window(run=run), Options(), executor)
            assert report.exit_code == 0, report.problems
    finally:
        executor.close()
    context = Context(lake, recipe)
    cube = refined_cube(context, load(context).cube(recipe))
    data = path.read_bytes()
    steps = list(load(context).cube(recipe).lead_time)
    members = recipe.select.members
    for variable, found in chosen.items():
        values = cube.read(variable, 0, f"run/{run_id(run)}")
        for row in found:
            place: tuple[int, ...] = (steps.index(int(row["lead_time"] // timedelta(hours=1))),)
            if members is not None:
                place += (members.index(row["member"]),)
            wanted = decoded(data[row["offset"] : row["offset"] + row["length"]], row["sub"])
            got = values[place]
            assert got.shape == wanted.shape
            if case.bits is None:
                np.testing.assert_array_equal(got, wanted)
            else:
                np.testing.assert_allclose(got, wanted, rtol=2.0 ** -(case.bits + 1), atol=0)


def test_cells_whose_coordinates_are_in_another_file_are_refused(shared: Path, tmp_path: Path):
    case = Case("grids/test_icon.grib")
    path = shared / "data" / case.path
    run, rows = rows_of(case, path)
    recipe, _ = recipe_of(case, path, run, rows)
    executor = Threads(2)
    try:
        report = run_phase(Lake(str(tmp_path / "lake")), recipe, "ingest", Window(run=run), Options(), executor)
    finally:
        executor.close()
    assert report.exit_code == 1
    assert len(report.problems) == 1
    assert "has its coordinates in another file" in report.problems[0]
    assert "expected latitude and longitude of 6 cells" in report.problems[0]
