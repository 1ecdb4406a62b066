"""An ensemble larger than memory: 85 steps of 51 members at 0.25 degrees, 18 GB a variable, in bounded memory."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import eccodes
import numpy as np
import orjson
import pytest
import yaml

from tasks.forecasts.runs import index_of, parse_run
from tasks.forecasts.template import load, refined_cube
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Context

ROOT = Path(__file__).resolve().parents[2]
RUN = datetime(2026, 11, 20, tzinfo=UTC)
STEPS = (*range(0, 145, 3), *range(150, 361, 6))
MEMBERS = tuple(range(51))
NY, NX = 721, 1440
PATTERNS = 5


def encoded(pattern: int) -> bytes:
    """A smooth field of 2 m temperature, CCSDS as ECMWF packs it."""
    lat, lon = np.radians(np.linspace(90, -90, NY))[:, None], np.radians(np.arange(NX) / 4)[None, :]
    values = 280 - 30 * np.sin(lat) ** 2 + 8 * np.sin((pattern + 2) * lon) * np.cos(3 * lat)
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    try:
        settings = {
            "centre": "ecmf", "dataDate": int(f"{RUN:%Y%m%d}"), "dataTime": 0, "productDefinitionTemplateNumber": 1,
            "shortName": "2t", "Ni": NX, "Nj": NY, "latitudeOfFirstGridPointInDegrees": 90,
            "latitudeOfLastGridPointInDegrees": -90, "longitudeOfFirstGridPointInDegrees": 0,
            "longitudeOfLastGridPointInDegrees": 359.75, "iDirectionIncrementInDegrees": 0.25,
            "jDirectionIncrementInDegrees": 0.25, "numberOfForecastsInEnsemble": 51, "bitsPerValue": 10,
        }  # fmt: skip
        for key, value in settings.items():
            eccodes.codes_set(handle, key, value)
        eccodes.codes_set_values(handle, values.ravel())
        eccodes.codes_set(handle, "packingType", "grid_ccsds")
        return eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)


def write(folder: Path) -> dict[int, np.ndarray]:
    """The archive, a file a step with ECMWF's index; the fields of each pattern as ecCodes decodes them."""
    folder.mkdir()
    patterns = [encoded(number) for number in range(PATTERNS)]
    handles = [eccodes.codes_new_from_message(p) for p in patterns]
    for step in STEPS:
        lines, offset = [], 0
        with open(folder / f"{RUN:%Y%m%d%H}0000-{step}h-enfo-ef.grib2", "wb") as file:
            for member in MEMBERS:
                handle = handles[(step + member) % PATTERNS]
                eccodes.codes_set(handle, "step", step)
                eccodes.codes_set(handle, "number", member)
                message = eccodes.codes_get_message(handle)
                file.write(message)
                number = {"number": str(member)} if member else {}
                lines.append(
                    orjson.dumps(
                        {
                            "domain": "g", "date": f"{RUN:%Y%m%d}", "time": "0000", "expver": "0001", "class": "od",
                            "type": "pf" if member else "cf", "stream": "enfo", "step": str(step), "levtype": "sfc",
                            "param": "2t", "_offset": offset, "_length": len(message), **number,
                        }
                    )
                )  # fmt: skip
                offset += len(message)
        (folder / f"{RUN:%Y%m%d%H}0000-{step}h-enfo-ef.index").write_bytes(b"\n".join(lines) + b"\n")
    values = {n: eccodes.codes_get_values(h).reshape(NY, NX).astype("float32") for n, h in enumerate(handles)}
    for handle in handles:
        eccodes.codes_release(handle)
    return values


def run(*command: object) -> dict:
    done = subprocess.run([sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_an_ensemble_larger_than_memory(tmp_path: Path) -> None:
    wanted = write(tmp_path / "archive")
    recipe = tmp_path / "large.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "name": "large", "kind": "forecast",
                "source": {
                    "type": "folder", "root": (tmp_path / "archive").as_uri(), "index": "ecmwf",
                    "pattern": "{init:%Y%m%d%H}0000-{step}h-enfo-ef.grib2", "steps": list(STEPS),
                    "members": list(MEMBERS),
                },
                "runs": {"start": "2026-11-20T00:00:00Z", "every": 12, "default": "2026-11-20T00"},
                "select": {"members": list(MEMBERS), "variables": [{"name": "t2m", "param": "2t"}]},
            }
        )
    )  # fmt: skip
    lake = tmp_path / "lake"
    run("benchmarks.phase_run", recipe, "ingest", lake)
    plan = run("flows.refine", recipe, "--lake", lake, "--plan", "--json")
    planned = [p["memory"] for p in plan["plan"] if p["runs"]]
    assert len(planned) == len(MEMBERS)
    whole = 4 * len(STEPS) * len(MEMBERS) * NY * NX
    assert whole > 18e9
    done = run("benchmarks.phase_run", recipe, "refine", lake)
    assert done["fields"] == len(STEPS) * len(MEMBERS)
    # Two blocks at once, and what the process takes before it has done anything.
    assert done["peak"] - done["peak_before"] < 2 * max(planned)
    assert done["peak"] < 2.5e9
    loaded = recipes.load(str(recipe))
    context = Context(Lake(str(lake)), loaded)
    cube = refined_cube(context, load(context).cube(loaded))
    stored = cube.group("run/2026-11-20T00")["t2m"]
    index = index_of(loaded, parse_run("2026-11-20T00"))
    for place, member in ((0, 0), (17, 50), (84, 23)):
        expected = wanted[(STEPS[place] + member) % PATTERNS]
        found = stored[index, place, member]
        # 11 bits of the mantissa are kept of kelvins.
        assert np.abs(found / expected - 1).max() <= 2.0**-12 + 1e-7
