"""Ingest of a scene: the item and the tree of its Zarr store become a manifest for each group."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..grids.georef import find_crs, find_transform
from ..lake.errors import CorruptInput, LakeError, Unreachable
from ..lake.ledger import Record
from ..lake.objects import Objects
from ..lake.partition import Input, Output, Partition, Produced, Status, digest_bytes, digest_json, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import manifest
from .items import Scene, parse_time, preflight, store_of
from .layout import keys_within
from .manifest import Manifest, SourceArray, Stored, fetch
from .recipe import SceneRecipe
from .scopes import ingest_scenes
from .tree import Array, Tree, open_tree
from .zarr_array import chunk_key, chunk_shape, dtype, read

_HEADS = 16


class Ingest(Phase[SceneRecipe]):
    """Partition: item x group. Output: ``manifests/<recipe>/<item>/<group>.json`` (+ ``raw/...`` when prestaged)."""

    name = "ingest"
    version = "1"
    threads = 4
    settles = False

    def __init__(self) -> None:
        self._scenes: dict[str, Scene] = {}

    def scopes(self, context: Context[SceneRecipe], window: Window) -> list[str]:
        self._scenes = {s.id: s for s in ingest_scenes(context, window)}
        return list(self._scenes)

    def plan(self, context: Context[SceneRecipe], scope: str) -> ScopePlan:
        recipe, scene = context.recipe, self._scenes[scope]
        store = store_of(scene.store, recipe.source.options)
        done = {k: r for k, r in context.ledger.read_all(self.name, scope).items() if r.status is Status.DONE}
        partitions = []
        notes = [note] if (note := preflight(store)) else []
        try:
            tree = open_tree(store)
            tree.need(recipe.select.groups, scope)
            notes += [f"{scope} at {scene.store}", *tree.lines()]
            digest: str | None = tree.digest
        except Unreachable:
            if not all(f"{scope}/{g}" in done for g in recipe.select.groups):
                raise
            # A source that is silent now leaves alone what was ingested from it.
            digest = None
        for group in recipe.select.groups:
            key = f"{scope}/{group}"
            inputs = _inputs(scene.store, digest or _recorded(done.get(key), scene.store), scene.href, _item(scene))
            params = {"group": group, "store": scene.store, "href": scene.href, "item": _item(scene)}
            partitions.append(Partition(key, fingerprint(self.version, _part(recipe), inputs), inputs, params))
        return ScopePlan(scope, tuple(partitions), tuple(notes))

    def prepare(self, context: Context[SceneRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        """Write the tree of the source into the lake, for people."""
        store = store_of(str(partitions[0].params["store"]), context.recipe.source.options)
        text = "\n".join([f"{scope}: {store.url.split('?')[0]}", *open_tree(store).lines(), ""])
        context.lake.objects.put(f"manifests/{context.recipe.name}/{scope}/tree.txt", text.encode())

    def process(self, context: Context[SceneRecipe], partition: Partition) -> Produced:
        recipe, scope = context.recipe, partition.scope
        group, url = str(partition.params["group"]), str(partition.params["store"])
        store = store_of(url, recipe.source.options)
        tree = open_tree(store)
        tree.need((group,), scope)
        arrays = _arrays(tree, store, group, recipe)
        if not arrays:
            raise CorruptInput(f"/{group} of {scope} holds no array with the dimensions y and x")
        item: Any = partition.params["item"]
        made = _manifest(tree, store, group, arrays, scope, url, recipe, str(partition.params["href"] or ""), item)
        outputs, copied = [], 0
        if recipe.source.prestage:
            made, outputs = _prestaged(context, store, made)
            copied = sum(o.bytes for o in outputs)
        data = manifest.to_bytes(made)
        key = manifest.key_of(recipe.name, scope, group)
        output = context.lake.write(key, data)
        found = _inputs(url, tree.digest, made.href, item)
        there = [s for a in made.arrays.values() for s in a.objects.values()]
        return Produced(
            outputs=(output, *outputs),
            inputs=found,
            fingerprint=fingerprint(self.version, _part(recipe), found),
            metrics={
                "objects": len(there),
                "bytes": sum(s.size for s in there),
                "copied": copied,
                "datetime": _taken(made),
            },
        )


def _part(recipe: SceneRecipe) -> dict[str, Any]:
    return {"prestage": recipe.source.prestage}


def _inputs(store: str, digest: str | None, href: str | None, item: dict[str, Any] | None) -> tuple[Input, ...]:
    """The metadata of the store, and the item that led there."""
    return (Input(store, digest), *((Input(href, digest_json(item)),) if href else ()))


def _taken(made: Manifest) -> str:
    """When the scene was taken (RFC 3339), '' when neither the item nor the product says."""
    for source in (made.item, made.root.get("stac_discovery")):
        properties = (source or {}).get("properties", {})
        if text := properties.get("datetime") or properties.get("start_datetime"):
            return parse_time(text).isoformat()
    return ""


def _recorded(record: Record | None, uri: str) -> str | None:
    return next((i.digest for i in record.inputs if i.uri == uri), None) if record else None


def _item(scene: Scene) -> dict[str, Any] | None:
    """What of the STAC item goes into the result's."""
    if scene.item is None:
        return None
    kept = ("id", "geometry", "bbox", "properties", "collection")
    return {k: scene.item[k] for k in kept if k in scene.item}


def _arrays(tree: Tree, store: Objects, group: str, recipe: SceneRecipe) -> dict[str, SourceArray]:
    """The bands of a group and the coordinates of their other dimensions, with every object that is there."""
    inside = tree.within(group)
    bands = {n: a for n, a in inside.items() if a.dims[-2:] == ("y", "x")}
    others = {d for a in bands.values() for d in a.dims[:-2]}
    wanted = bands | {n: a for n, a in inside.items() if n in others and a.dims == (n,)}
    return {n: _array(store, f"{group}/{n}", a, recipe.source.tries) for n, a in sorted(wanted.items())}


def _array(store: Objects, path: str, array: Array, tries: int) -> SourceArray:
    chunks = chunk_shape(array.document)
    dtype(array.document)
    keys = [chunk_key(array.document, i) for i in keys_within((0,) * len(chunks), array.shape, chunks)]

    def look(key: str) -> Stored | None:
        for number in range(1, tries + 1):
            try:
                meta = store.head(f"{path}/{key}")
                return Stored(meta.size, store.version(meta)) if meta else None
            except Unreachable:
                if number == tries:
                    raise
        raise AssertionError("unreachable")

    with ThreadPoolExecutor(_HEADS) as pool:
        found = dict(zip(keys, pool.map(look, keys), strict=True))
    document = {k: v for k, v in array.document.items() if k != "attributes"}
    return SourceArray(document, dict(array.attributes), array.dims, {k: s for k, s in found.items() if s})


def _manifest(
    tree: Tree, store: Objects, group: str, arrays: dict[str, SourceArray], scope: str, url: str,
    recipe: SceneRecipe, href: str, item: dict[str, Any] | None,
) -> Manifest:  # fmt: skip
    where = f"/{group} of {scope}"
    bands = [a for a in arrays.values() if a.dims[-2:] == ("y", "x")]
    sizes = {a.shape[-2:] for a in bands}
    if len(sizes) > 1:
        raise CorruptInput(f"{where} holds bands of several sizes", expected="one size", found=sorted(sizes))
    root = dict(tree.groups.get("", {}))
    discovery = root.get("stac_discovery") or {}
    inside = tree.within(group)
    grids = [dict(a.attributes) for n, a in inside.items() if n in ("spatial_ref", "crs")]
    properties = [(item or {}).get("properties", {}), discovery.get("properties", {})]
    attributes = dict(tree.groups.get(group, {}))
    own = [a.attributes for a in bands]
    y, x = (_coordinate(store, group, inside.get(n), n, recipe.source.tries) for n in ("y", "x"))
    return Manifest(
        scene=scope,
        group=group,
        store=url,
        crs=find_crs([*own, attributes, *grids, *properties, root], where),
        transform=find_transform([*own, attributes, *grids], y, x, where),
        attributes=attributes,
        arrays=arrays,
        root={"stac_discovery": discovery} if discovery else {},
        href=href or None,
        item=item,
        options=recipe.source.options,
    )


def _coordinate(store: Objects, group: str, array: Array | None, name: str, tries: int) -> np.ndarray | None:
    if array is None or len(array.shape) != 1:
        return None
    keys = [chunk_key(array.document, i) for i in keys_within((0,), array.shape, chunk_shape(array.document))]
    held = {key: fetch(store, f"{group}/{name}/{key}", tries) for key in keys}
    return read(array.document, held, (slice(None),), f"/{group}/{name}")


def _prestaged(context: Context[SceneRecipe], store: Objects, made: Manifest) -> tuple[Manifest, list[Output]]:
    """The group's objects copied into the lake, each read back; the manifest that points at the copies.

    Raises ``LakeError`` when count or bytes of the copies are not those of the source.
    """
    prefix = f"raw/{context.recipe.name}/{made.scene}"
    jobs = [(n, k, s) for n, a in made.arrays.items() for k, s in a.objects.items()]

    def copy(job: tuple[str, str, Stored]) -> tuple[Stored, Output]:
        name, key, stored = job
        data = fetch(store, f"{made.group}/{name}/{key}", context.recipe.source.tries)
        if len(data) != stored.size:
            raise CorruptInput(f"{made.group}/{name}/{key} changed while it was copied", expected=stored.size)
        target, digest = f"{prefix}/{made.group}/{name}/{key}", digest_bytes(data)
        context.lake.objects.put(target, data)
        return Stored(stored.size, None, digest), Output(target, digest, len(data))

    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(copy, jobs))
    there = {m.key: m.size for m in context.lake.objects.listing(f"{prefix}/{made.group}")}
    lost = [o.uri for _, o in copies if there.get(o.uri) != o.bytes]
    if lost or len(copies) != len(jobs):
        raise LakeError(
            f"/{made.group} of {made.scene} was not copied in full",
            expected=f"{len(jobs)} objects of {sum(s.size for _, _, s in jobs)} bytes",
            found=f"{len(copies) - len(lost)} objects",
        )
    arrays = dict(made.arrays)
    for (name, key, _), (stored, _) in zip(jobs, copies, strict=True):
        array = arrays[name]
        arrays[name] = SourceArray(array.document, array.attributes, array.dims, array.objects | {key: stored})
    return (
        Manifest(**{f: getattr(made, f) for f in made.__struct_fields__} | {"store": prefix, "arrays": arrays}),
        [o for _, o in copies],
    )
