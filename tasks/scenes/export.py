"""Export of a scene: the metadata that makes it a GeoZarr store, and what else is handed out."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ..grids import geozarr_validators as validators
from ..lake import catalogue
from ..lake.errors import AccessError, CorruptInput, LakeError, UsageError
from ..lake.lake import Lake
from ..lake.ledger import Record
from ..lake.partition import SETTLE, Input, Output, Partition, Produced, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import archive, performance, pictures
from .catalogue import item, upsert
from .conventions import documents
from .items import store_of
from .recipe import SceneRecipe
from .scopes import published_scopes
from .stored import Stored, outputs_of
from .structure import Band, Structure, structure


class Export(Phase[SceneRecipe]):
    """Partition: item x what is made of it: ``store``, ``archive``, ``quicklook``, ``cog/...``, ``copy``, ``report``.

    ``store`` writes the metadata once the validators have accepted it, the root's last: until then there is nothing
    that a reader could take for a store. Settling writes the STAC item and enters it into the catalogues.
    """

    name = "export"
    version = "1"

    def scopes(self, context: Context[SceneRecipe], window: Window) -> list[str]:
        return published_scopes(context, window)

    def plan(self, context: Context[SceneRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        built = structure(context.lake, recipe, scope)
        found = _objects(context, built)
        inputs = tuple(Input(o.uri, o.digest) for o in found)
        size = sum(o.bytes for o in found)
        made = recipe.outputs
        words = recipe.part("title", "attribution")
        wanted: dict[str, tuple[Any, int]] = {"store": ([words, sorted(made.validators)], 0)}
        if made.tar:
            wanted["archive"] = (words, size)
        if made.quicklook:
            _quicklook_bands(built, recipe)
            wanted["quicklook"] = ([made.quicklook, made.stretch], 0)
        if made.cog:
            wanted |= {f"cog/{band.path}": ([], 0) for band in built.own()}
        if made.url:
            wanted["copy"] = ([made.url, words, sorted(made.validators)], size)
        if made.report:
            wanted["report"] = ([made.report], 0)
        partitions = []
        for key, (part, size) in wanted.items():
            mark = fingerprint(self.version, [built.version, part], inputs)
            partitions.append(Partition(f"{scope}/{key}", mark, params={"what": key}, bytes=size))
        return ScopePlan(scope, tuple(partitions))

    def process(self, context: Context[SceneRecipe], partition: Partition) -> Produced:
        recipe = context.recipe
        built = structure(context.lake, recipe, partition.scope)
        what, _, band = str(partition.params["what"]).partition("/")
        if what == "cog":
            return _cog(context, built, built.bands[band])
        makers = {"store": _store, "archive": _archive, "quicklook": _quicklook, "copy": _copy, "report": _report}
        return makers[what](context, built)

    def settle(self, context: Context[SceneRecipe], scope: str, records: Mapping[str, Record]) -> Produced:
        recipe, lake = context.recipe, context.lake
        built = structure(lake, recipe, scope)
        base = lake.url.split("?")[0].rstrip("/")
        files = {}
        for key, record in records.items():
            role = key.removeprefix(f"{scope}/").replace("/", "-")
            if role not in ("store", "copy"):
                files[role] = (f"{base}/{record.outputs[0].uri}", record.outputs[0])
        url = f"{base}/{built.prefix(recipe.name)}"
        if recipe.outputs.url:
            url = f"{recipe.outputs.url.split('?')[0].rstrip('/')}/{scope}.zarr"
        made = item(built, recipe, url, files)
        data = orjson.dumps(made, option=orjson.OPT_INDENT_2)
        key = f"exports/{recipe.name}/{scope}/{scope}.json"
        output = lake.write(key, data)
        about = catalogue.About(recipe.name, recipe.title, recipe.description, recipe.attribution)
        entered = catalogue.enter(lake, about, scope, lambda: made)
        if recipe.outputs.catalogue:
            upsert(recipe.outputs.catalogue, made)
        gone = _sweep(lake, recipe, built)
        return Produced((output, entered), {"superseded": gone})

    def settle_part(self, context: Context[SceneRecipe]) -> object:
        return [context.recipe.part("outputs"), context.recipe.part("title", "attribution")]


def _objects(context: Context[SceneRecipe], built: Structure) -> list[Output]:
    """Every object of the store but its metadata, by key. Raises ``UsageError`` when one is on no record."""
    prefix = built.prefix(context.recipe.name)
    refined = context.ledger.read_all("refine", built.scene)
    regridded = context.ledger.read_all("regrid", built.scene)
    found: dict[str, Output] = {}
    for band in built.bands.values():
        outputs = outputs_of(refined if band.parent is None else regridded, prefix, band)
        if outputs is None:
            phase = "refined" if band.parent is None else "regridded"
            raise UsageError(f"/{band.path} of {built.scene} is not {phase} (or not from this recipe)")
        found |= outputs
    settled = refined.get(f"{built.scene}/{SETTLE}")
    axes = [o for o in settled.outputs if o.uri.startswith(f"{prefix}/")] if settled else []
    if not axes:
        raise UsageError(f"{built.scene} has no coordinates yet; run flows.refine first")
    found |= {o.uri: o for o in axes}
    return [found[uri] for uri in sorted(found)]


def _checked(built: Structure, recipe: SceneRecipe) -> dict[str, bytes]:
    """The metadata of the store, accepted by the validators."""
    made = documents(built, recipe)
    validators.check(made, recipe.outputs.validators, built.scene)
    return made


def _store(context: Context[SceneRecipe], built: Structure) -> Produced:
    prefix = built.prefix(context.recipe.name)
    gone = context.lake.missing(o.uri for o in _objects(context, built))
    if gone:
        raise CorruptInput(f"{sorted(gone)[0]} was recorded and is gone")
    # All of it is written: what lies there besides was left by a writer that was killed.
    context.lake.objects.sweep(prefix)
    outputs = []
    for key, data in _checked(built, context.recipe).items():
        outputs.append(context.lake.write(f"{prefix}/{key}", data))
    return Produced(tuple(reversed(outputs)), {"objects": len(outputs)})


def _archive(context: Context[SceneRecipe], built: Structure) -> Produced:
    recipe, scene = context.recipe, built.scene
    prefix, key = built.prefix(recipe.name), f"exports/{recipe.name}/{scene}/{scene}.tar"
    with tempfile.TemporaryDirectory(prefix="weatherlake-") as folder:
        path = Path(folder) / f"{scene}.tar"
        made = documents(built, recipe)
        digest = archive.write(context.lake, prefix, _objects(context, built), made, scene, path)
        size = path.stat().st_size
        context.lake.objects.put(key, path)
    return Produced((Output(key, digest, size),), {"bytes": size})


def _stored(context: Context[SceneRecipe], built: Structure, band: Band) -> Stored:
    phase = "refine" if band.parent is None else "regrid"
    prefix = built.prefix(context.recipe.name)
    outputs = outputs_of(context.ledger.read_all(phase, built.scene), prefix, band)
    if outputs is None:
        raise UsageError(f"/{band.path} of {built.scene} is on no record")
    return Stored(context.lake, prefix, band, outputs)


def _quicklook_bands(built: Structure, recipe: SceneRecipe) -> list[Band]:
    """The bands of the quick-look, at the finest level that is not too large. Raises ``UsageError``."""
    found = []
    for path in recipe.outputs.quicklook:
        group, _, name = path.rpartition("/")
        bands = [b for b in built.bands.values() if (b.group, b.name) == (group, name)]
        if not bands:
            known = ", ".join(sorted({f"{b.group}/{b.name}" for b in built.own()})[:6])
            raise UsageError(f"the quick-look has no {path}", expected=f"such as {known}", found=path)
        bands.sort(key=lambda b: b.level.rows)
        small = [b for b in bands if max(b.level.rows, b.level.columns) <= pictures.QUICKLOOK_SIDE]
        found.append(small[-1] if small else bands[0])
    if len({(b.level.rows, b.level.columns) for b in found}) > 1:
        raise UsageError(
            "the variables of the quick-look lie on different grids", found=", ".join(b.path for b in found)
        )
    return found


def _quicklook(context: Context[SceneRecipe], built: Structure) -> Produced:
    recipe = context.recipe
    bands = [_stored(context, built, band) for band in _quicklook_bands(built, recipe)]
    data = pictures.quicklook(bands, recipe.outputs.stretch)
    return _put(context.lake, f"exports/{recipe.name}/{built.scene}/{built.scene}.png", data)


def _cog(context: Context[SceneRecipe], built: Structure, band: Band) -> Produced:
    key = f"exports/{context.recipe.name}/{built.scene}/{band.group}/{band.name}.tif"
    with tempfile.TemporaryDirectory(prefix="weatherlake-") as folder:
        path = Path(folder) / f"{band.name}.tif"
        pictures.geotiff(_stored(context, built, band), path)
        data = path.read_bytes()
    return _put(context.lake, key, data)


def _report(context: Context[SceneRecipe], built: Structure) -> Produced:
    recipe, place = context.recipe, str(context.recipe.outputs.report)
    records = [r for p in ("refine", "regrid") for r in context.ledger.read_all(p, built.scene).values()]
    data = performance.report(min(r.started for r in records), f"{recipe.name}: {built.scene}")
    base, _, name = place.rpartition("/")
    store_of(base or ".", recipe.source.options).put(name, data)
    return _put(context.lake, f"exports/{recipe.name}/{built.scene}/performance.html", data)


def _put(lake: Lake, key: str, data: bytes) -> Produced:
    return Produced((lake.write(key, data),), {"bytes": len(data)})


def _copy(context: Context[SceneRecipe], built: Structure) -> Produced:
    """The store at the place that the recipe names, the root's metadata last.

    Raises ``LakeError`` when something else is there. What an earlier attempt left is completed.
    """
    recipe, scene = context.recipe, built.scene
    made = _checked(built, recipe)
    prefix = built.prefix(recipe.name)
    target = store_of(_below(str(recipe.outputs.url), f"{scene}.zarr"), recipe.source.options)
    objects = {o.uri.removeprefix(f"{prefix}/"): o for o in _objects(context, built)}
    there = {m.key: m.size for m in target.listing()}
    for key, size in there.items():
        expected = len(made[key]) if key in made else objects[key].bytes if key in objects else None
        if size != expected or (key == "zarr.json" and target.get(key) != made[key]):
            raise LakeError(f"{target.url.split('?')[0]} holds other content ({key}); name another place, or empty it")
    try:
        for key, output in objects.items():
            data = context.lake.objects.get(output.uri)
            if digest_bytes(data) != output.digest:
                raise CorruptInput(f"{output.uri} is not what was recorded")
            target.put(key, data)
        for key, data in made.items():
            target.put(key, data)
    except AccessError as error:
        raise AccessError(f"{target.url.split('?')[0]} cannot be written to ({error.message})") from None
    receipt = orjson.dumps({"url": target.url.split("?")[0], "objects": len(objects) + len(made)})
    return _put(context.lake, f"exports/{recipe.name}/{scene}/copy.json", receipt)


def _below(url: str, name: str) -> str:
    base, question, query = url.partition("?")
    return f"{base.rstrip('/')}/{name}{question}{query}"


def _sweep(lake: Lake, recipe: SceneRecipe, built: Structure) -> int:
    """Remove stores of the scene from other inputs or layouts, now that this one stands; how many objects."""
    scene = f"scenes/{recipe.name}/{built.scene}"
    old = [m.key for m in lake.objects.listing(scene) if not m.key.startswith(f"{scene}/{built.version}/")]
    for key in old:
        lake.objects.delete(key)
    return len(old)
