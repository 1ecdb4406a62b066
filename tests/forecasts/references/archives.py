"""Archives of GRIB files for the tests of references: recipes over them, their manifests, and what ecCodes reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from tasks.forecasts import manifest
from tasks.forecasts.archive import Archive
from tasks.forecasts.recipe import ForecastRecipe
from tasks.forecasts.runs import run_id, steps_of
from tasks.forecasts.scan import scan_manifest
from tasks.forecasts.select import rows_of
from tasks.forecasts.sources import demo
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Context

RUN = datetime(2026, 11, 20, tzinfo=UTC)
SCOPE = run_id(RUN)
STEPS, MEMBERS = (0, 3, 6), (0, 1, 2)
PATTERN = "{init:%Y%m%d}/{init:%H}z/demo/2p0/enfo/{init:%Y%m%d%H}0000-{step}h-enfo-ef.grib2"


def write_demo(folder: Path, run: datetime = RUN) -> Path:
    """The first steps of the demo's archive, as a provider's: GRIB files and indexes."""
    for key, data in demo.archive(run):
        if int(key.rpartition("-")[0].split("-")[1].removesuffix("h")) in STEPS:
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        elif "-9h-" in key:
            break
    return folder


def demo_recipe(root: str, **changes: Any) -> ForecastRecipe:
    """The demo's variables, read from an archive of `write_demo`."""
    document = yaml.safe_load((recipes.folder() / "demo.yaml").read_text())
    document = {k: document[k] for k in ("name", "kind", "title", "attribution", "runs", "select")}
    document["source"] = {
        "type": "folder", "root": root, "pattern": PATTERN, "index": "ecmwf", "steps": STEPS, "members": MEMBERS,
    }  # fmt: skip
    document["select"] |= {"members": list(MEMBERS), "steps": list(STEPS)}
    for variable in document["select"]["variables"]:
        variable.pop("keep_bits", None)
    document.update(changes)
    recipe = recipes.parse(document)
    assert isinstance(recipe, ForecastRecipe)
    return recipe


def context_of(lake: Path | str, recipe: ForecastRecipe) -> Context[ForecastRecipe]:
    """A recipe on a new lake."""
    opened = Lake(str(lake))
    opened.prepare()
    return Context(opened, recipe)


def manifests(context: Context[ForecastRecipe], run: datetime = RUN) -> Iterator[pa.Table]:
    """What ingest records of a run, a table a step, made by scanning the files."""
    archive = Archive(context)
    for step in steps_of(context.recipe, run):
        parts = []
        for file in archive.files(run, step):
            store = archive.mirrors[0]
            data, meta = store.get_with_meta(file.url)
            table = scan_manifest(data, file.url, run=run, member=file.member)
            table = table.filter(pc.equal(table["lead_time"].cast(pa.int64()), step * 3600))
            if file.index_url is not None:
                table = archive.source.parse(file, run, store.get(file.index_url), len(data))
            values = {
                "url": archive.url(store, file.url), "etag": store.version(meta),
                "last_modified": meta.last_modified.replace(microsecond=0),
            }  # fmt: skip
            for name, value in values.items():
                table = manifest.with_column(table, name, [value] * len(table))
            parts.append(table.cast(manifest.SCHEMA))
        recipe = context.recipe
        yield rows_of(pa.concat_tables(parts), recipe.select, step, recipe.select.members)[0]


@dataclass(frozen=True)
class Field:
    """A field as ecCodes reads it from its file, without any index."""

    step: int
    member: int
    short_name: str
    level: int
    values: np.ndarray


def fields(folder: Path, pattern: str = "*.grib2") -> Iterator[Field]:
    """Every field of the GRIB files below a folder."""
    for path in sorted(folder.rglob(pattern)):
        with open(path, "rb") as file:
            while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
                shape = eccodes.codes_get(handle, "Nj", int), eccodes.codes_get(handle, "Ni", int)
                yield Field(
                    eccodes.codes_get(handle, "endStep", int), eccodes.codes_get(handle, "perturbationNumber", int),
                    eccodes.codes_get(handle, "shortName"), eccodes.codes_get(handle, "level", int),
                    eccodes.codes_get_values(handle).reshape(shape).astype(np.float32),
                )  # fmt: skip
                eccodes.codes_release(handle)


NAMES: Mapping[str, str] = {"2t": "t2m", "10u": "u10", "10v": "v10"}
"""ecCodes' short name -> the demo recipe's, where they differ."""
