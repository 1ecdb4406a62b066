"""The examples of docs/references.md, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.forecasts import references

from .archives import SCOPE, context_of, demo_recipe, fields, manifests, write_demo

ROOT = Path(__file__).resolve().parents[3]


def test_the_examples_print_what_the_files_hold(tmp_path: Path):
    archive = write_demo(tmp_path / "archive")
    context = context_of(tmp_path / "lake", demo_recipe(archive.as_uri()))
    # As the demo: the archive is a part of the lake.
    store = context.lake.objects
    tables = []
    for table in manifests(context):
        from tasks.forecasts import manifest

        key = f"archive/demo/{table['url'][0].as_py().removeprefix(archive.as_uri() + '/')}"
        store.put(key, (archive / key.removeprefix("archive/demo/")).read_bytes())
        tables.append(manifest.with_column(table, "url", [key] * len(table)))
    references.write(context, SCOPE, tables, ["kerchunk", "icechunk"])
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "references.md").read_text(), re.MULTILINE | re.DOTALL
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    mine = {(f.short_name, f.level): f.values for f in fields(archive) if (f.step, f.member) == (6, 1)}
    t500, t2m = mine["t", 500].mean(dtype="f4"), mine["2t", 2].max()
    found = [float(line) for line in done.stdout.splitlines()]
    np.testing.assert_allclose(found, [t500, t2m, t500, t500, t2m], rtol=1e-6)


@pytest.mark.real
def test_real_ensemble_members_through_the_index(shared: Path, tmp_path: Path):
    """Members 1 to 3 of a real ensemble file, by ECMWF's own index, as the published layout has them."""
    from tasks.forecasts.references.published import load_published
    from tasks.forecasts.references.reading import open_member

    folder = shared / "data" / "ecmwf"
    changes = {
        "source": {
            "type": "folder", "root": folder.as_uri(), "index": "ecmwf", "steps": [24], "members": [1, 2, 3],
            "pattern": "{init:%Y%m%d%H}0000-{step}h-enfo-ef.2t.m1-3.grib2",
        },
        "runs": {"start": "2026-07-02T00:00:00Z", "every": 12},
        "select": {"steps": [24], "members": [1, 2, 3], "variables": [{"name": "t2m", "param": "2t"}]},
    }  # fmt: skip
    import pyarrow as pa
    import pyarrow.parquet as pq

    context = context_of(tmp_path / "lake", demo_recipe("file:///", **changes))
    wanted = list(fields(folder, "*.2t.m1-3.grib2"))
    assert len(wanted) == 3
    for field in wanted:
        place = tmp_path / f"2026070200z-ens_{field.member:02d}.parquet"
        url = "s3://ecmwf-forecasts/20260702/00z/ifs/0p25/enfo/20260702000000-24h-enfo-ef"
        rows = {f"step_024/2t/sfc/ens{field.member:02d}/0.0.0": f'["{url}", 0, 1]'.encode()}
        pq.write_table(pa.table({"key": list(rows), "value": list(rows.values())}), place)
        table, report = load_published(str(place), context, "2026-07-02T00")
        assert set(report.repaired) == {"url", "ranges"}
        assert report.unrepaired == []
        pq.write_table(table, place)
        values = open_member(str(place))["t2m/instant/heightAboveGround/t2m"].isel(step=0).values
        np.testing.assert_array_equal(values, field.values)
