"""What the lake's catalogue says of a run: a STAC item for each of its cubes, with the exports made of that cube."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..exports import stac
from ..exports.placing import CHECKSUMS
from ..lake import catalogue
from ..lake.cube_upkeep import TAG
from ..lake.cubes import Cube
from ..lake.errors import LakeError, UsageError
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Status, fingerprint
from ..lake.phase import Context
from ..lake.reading import cube_path
from .recipe import ForecastRecipe
from .runs import one_run
from .validate import published

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run was published: zone, path of the cube, and the snapshot of its publication (None when expired)."""

    zone: str
    path: str
    snapshot: str | None


def settling(context: Context[ForecastRecipe], scope: str, partition: Partition) -> Partition:
    """The settling of an export with the run's publications as inputs, which the catalogue names, too."""
    recipe = context.recipe
    inputs = tuple(Input(f"catalogue:{p.zone}:{p.path}", p.snapshot) for p in places(context, scope))
    part = recipe.part("title", "description", "attribution")
    return replace(
        partition,
        fingerprint=fingerprint("export-catalogue-1", [partition.fingerprint, part], inputs),
        inputs=(*partition.inputs, *inputs),
    )


def places(context: Context[ForecastRecipe], scope: str) -> list[Place]:
    """The cubes that a run is published in: the refined one, and those of the target grids."""
    found = []
    for zone in _zones(context, scope):
        try:
            path = cube_path(context.lake, context.recipe.name, zone)
            snapshot = _snapshot(context.lake.cube(path), scope)
        except LakeError:
            # Its cube was lost: what made it will be done again.
            continue
        found.append(Place(zone, path, snapshot))
    return found


def _snapshot(cube: Cube, scope: str) -> str | None:
    """The snapshot with which a run was published last: by its tag, or, of a cube without tags, by looking back."""
    repository = cube.repository
    versions = [m for m in map(TAG.fullmatch, repository.list_tags()) if m and m["run"] == scope]
    if versions:
        return repository.lookup_tag(max(versions, key=lambda m: int(m["number"])).group())
    ancestry = repository.ancestry(branch="main")
    return next((s.id for s in ancestry if s.metadata.get("run") == scope), None)


def enter_run(context: Context[ForecastRecipe], scope: str) -> list[Output]:
    """Enter a run into the catalogue, an item for each of its cubes; what was written."""
    recipe = context.recipe
    about = catalogue.About(recipe.name, recipe.title, recipe.description, recipe.attribution)
    outputs = []
    for place in places(context, scope):
        made = partial(_item, context, scope, place)
        outputs.append(catalogue.enter(context.lake, about, f"{place.zone}-{scope}", made))
    return outputs


def _zones(context: Context[ForecastRecipe], scope: str) -> Iterator[str]:
    try:
        published(context, scope)
    except UsageError:
        return
    yield "refined"
    record = context.ledger.read("regrid", f"{scope}/{SETTLE}")
    if record is not None and record.status is Status.DONE and not record.held:
        yield from (g.name for g in context.recipe.grids)


def _item(context: Context[ForecastRecipe], scope: str, place: Place) -> catalogue.Item:
    recipe, lake = context.recipe, context.lake
    run: xr.Dataset = one_run(lake.cube(place.path).open(), scope)
    record = published(context, scope)
    verdict = str(record.metrics.get("verdict", "accepted"))
    made = stac.item(run, recipe.title or recipe.name)
    made["properties"] |= {"weatherlake:zone": place.zone, "weatherlake:run": scope, "weatherlake:verdict": verdict}
    made["assets"]["cube"] = {
        "href": catalogue.from_item(place.path),
        "title": f"Icechunk repository of zone {place.zone}",
        "type": stac.ICECHUNK,
        "roles": ["data"],
        "weatherlake:run": scope,
        **({"weatherlake:snapshot": place.snapshot} if place.snapshot else {}),
    }
    for output in record.outputs:
        if output.uri.startswith(f"verdicts/{recipe.name}/{scope}/") and output.uri.endswith((".html", "verdict.json")):
            name = PurePosixPath(output.uri)
            made["assets"]["report" if name.suffix == ".html" else "verdict"] = stac.asset(output, ["metadata"])
    records = context.ledger.read_all("export", scope)
    made["assets"] |= _exports(recipe, scope, place.zone, records)
    return made


def _exports(recipe: ForecastRecipe, scope: str, zone: str, records: Mapping[str, Record]) -> dict[str, dict[str, Any]]:
    """Assets of the exports made of a cube, by their names; a store of many objects is one asset."""
    assets: dict[str, dict[str, Any]] = {}
    for exporter in recipe.exports:
        record = records.get(f"{scope}/{exporter.name}")
        if exporter.zone != zone or record is None or not record.outputs:
            continue
        prefix = f"exports/{recipe.name}/{scope}/{exporter.name}/"
        products = _by_product(prefix, record.outputs)
        if all(len(outputs) == 1 for outputs in products.values()):
            # Each file's checksum is with its asset; only a store's are in the file.
            products.pop(f"{prefix}{CHECKSUMS}", None)
        for key, outputs in products.items():
            name = key.removeprefix(prefix) if key.startswith(prefix) else PurePosixPath(key).name
            single = f"{exporter.name}.{PurePosixPath(name).suffix.removeprefix('.')}" == name
            assets[exporter.name if single else f"{exporter.name}/{name}"] = {
                **_asset(key, outputs),
                "weatherlake:export": exporter.name,
                "weatherlake:exporter": exporter.type,
            }
    return assets


def _asset(key: str, outputs: Sequence[Output]) -> dict[str, Any]:
    if outputs[0].uri.startswith("cube:"):
        # A repository of several runs: what this run put into it says nothing of its size.
        return {"href": catalogue.from_item(key), "type": stac.ICECHUNK, "roles": ["data"]}
    return stac.asset(outputs[0] if outputs[0].uri == key else outputs, ["data"], key)


def _by_product(prefix: str, outputs: Sequence[Output]) -> dict[str, list[Output]]:
    """Outputs by what a user takes away: the files, and the folders that are one store."""
    found: dict[str, list[Output]] = {}
    for output in outputs:
        key = output.uri.removeprefix("cube:").partition("#")[0]
        parts = key.removeprefix(prefix).split("/")
        depth = next((n for n, p in enumerate(parts, 1) if p.endswith((".zarr", ".icechunk"))), len(parts))
        inside = prefix if key.startswith(prefix) else ""
        found.setdefault(inside + "/".join(parts[:depth]), []).append(output)
    return found
