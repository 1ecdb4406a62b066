"""The lake's static catalogue: STAC, as JSON objects that any STAC client reads where they lie.

``catalogue/catalog.json`` links to a collection a recipe, ``catalogue/<recipe>/collection.json`` to its items, which
lie beside it. All links are relative, so the catalogue moves with the lake. Every change is a conditional write, made
again from what is there when somebody else was first: flows that enter things at the same time lose nothing, and what
is entered twice changes nothing.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .errors import ConflictError, NotFound
from .lake import Lake
from .objects import Objects
from .partition import Output, digest_bytes

VERSION = "1.1.0"
"""Of the STAC specification."""

ROOT = "catalogue/catalog.json"
_TRIES = 60
_INDENT = orjson.OPT_INDENT_2

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What a collection says of itself; ``name`` is its recipe's, and its folder in the catalogue."""

    name: str
    title: str = ""
    description: str = ""
    attribution: str = ""


def enter(lake: Lake, about: About, item_id: str, make: Callable[[], Item]) -> Output:
    """Put an item into a recipe's collection, or in the place of the one with this id; what was written.

    ``make`` gives the item as the world is now, without links. It is called again when somebody else changed the item
    meanwhile, so that the last one to write has seen everything.
    """
    key = item_key(about.name, item_id)
    links = [
        {"rel": "root", "href": "../catalog.json", "type": "application/json"},
        {"rel": "parent", "href": "./collection.json", "type": "application/json"},
        {"rel": "collection", "href": "./collection.json", "type": "application/json"},
    ]

    def entered(_before: Item | None) -> Item:
        made = make()
        own = [link for link in made.get("links", ()) if link["rel"] not in ("root", "parent", "collection", "self")]
        return {
            "type": "Feature", "stac_version": VERSION, "stac_extensions": [], **made, "id": item_id,
            "collection": about.name, "links": links + own,
        }  # fmt: skip

    data = _changed(lake.objects, key, entered)
    found = orjson.loads(data)
    _changed(lake.objects, _collection_key(about.name), lambda before: _with_item(before, about, found))
    _changed(lake.objects, ROOT, lambda before: _with_child(before, about))
    return Output(key, digest_bytes(data), len(data))


def remove(lake: Lake, name: str, item_id: str) -> None:
    """Take an item out of a recipe's collection; nothing happens when it is not in it."""

    def without(before: Item | None) -> Item | None:
        if before is None:
            return None
        return before | {"links": [link for link in before["links"] if link["href"] != f"./{item_id}.json"]}

    _changed(lake.objects, _collection_key(name), without)
    lake.objects.delete(item_key(name, item_id))


def item_key(name: str, item_id: str) -> str:
    """Where an item of a recipe lies in the lake."""
    return f"catalogue/{name}/{item_id}.json"


def items(lake: Lake, name: str | None = None) -> Iterator[Item]:
    """Every item of a recipe's collection, or of all, by collection and id; those that are gone meanwhile left out."""
    for collection in [name] if name is not None else names(lake):
        try:
            found = orjson.loads(lake.objects.get(_collection_key(collection)))
        except NotFound:
            continue
        keys = sorted(
            f"catalogue/{collection}/{link['href'].removeprefix('./')}"
            for link in found["links"]
            if link["rel"] == "item"
        )
        for key in keys:
            try:
                yield orjson.loads(lake.objects.get(key))
            except NotFound:
                continue


def names(lake: Lake) -> list[str]:
    """The recipes that have a collection."""
    try:
        found = orjson.loads(lake.objects.get(ROOT))
    except NotFound:
        return []
    return sorted(link["href"].split("/")[1] for link in found["links"] if link["rel"] == "child")


def from_item(key: str) -> str:
    """A key of the lake as the ``href`` of an asset: relative to the item, so that both may move together."""
    return f"../../{key}"


def checksum(output: Output) -> dict[str, Any]:
    """Size and SHA-256 of an output as an asset of the file extension has them (the digest as a multihash)."""
    return {"file:size": output.bytes, "file:checksum": f"1220{output.digest.removeprefix('sha256:')}"}


FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"


def _collection_key(name: str) -> str:
    return f"catalogue/{name}/collection.json"


def _with_item(before: Item | None, about: About, item: Mapping[str, Any]) -> Item:
    """A collection with an item in it: its links by id, its extent grown by the item's."""
    properties = item["properties"]
    start, end = (properties.get(k) or properties["datetime"] for k in ("start_datetime", "end_datetime"))
    box, interval = list(item["bbox"]), [start, end]
    links: dict[str, Any] = {}
    if before is not None:
        old, span = before["extent"]["spatial"]["bbox"][0], before["extent"]["temporal"]["interval"][0]
        box = [*map(min, old[:2], box[:2]), *map(max, old[2:], box[2:])]
        interval = [min(span[0], start), max(span[1], end)]
        links = {link["href"]: link for link in before["links"] if link["rel"] == "item"}
    href = f"./{item['id']}.json"
    links[href] = {"rel": "item", "href": href, "type": "application/geo+json"}
    words = {"title": about.title, "weatherlake:attribution": about.attribution}
    return {
        "type": "Collection", "stac_version": VERSION, "id": about.name,
        "description": about.description or about.title or about.name, **{k: v for k, v in words.items() if v},
        "license": "other",
        "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [interval]}},
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *(links[h] for h in sorted(links)),
        ],
    }  # fmt: skip


def _with_child(before: Item | None, about: About) -> Item:
    links = {link["href"]: link for link in (before or {"links": []})["links"] if link["rel"] == "child"}
    href = f"./{about.name}/collection.json"
    links[href] = {"rel": "child", "href": href, "type": "application/json", "title": about.title or about.name}
    root = {"rel": "root", "href": "./catalog.json", "type": "application/json"}
    return {
        "type": "Catalog", "stac_version": VERSION, "id": "weatherlake", "description": "What this lake has published.",
        "links": [root, *(links[h] for h in sorted(links))],
    }  # fmt: skip


def _changed(objects: Objects, key: str, change: Callable[[Item | None], Item | None]) -> bytes:
    """Replace an object by what ``change`` makes of it, while nobody else does; its content now.

    Nothing is written when nothing changes. Raises ``ConflictError`` when others kept being first.
    """
    for attempt in range(_TRIES):
        try:
            data, etag = objects.get_with_etag(key)
        except NotFound:
            data, etag = b"", None
        made = change(orjson.loads(data) if data else None)
        new = b"" if made is None else orjson.dumps(made, option=_INDENT)
        if new == data:
            return data
        try:
            objects.replace(key, new, etag) if data else objects.put_new(key, new)
        except ConflictError:
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
            continue
        return new
    raise ConflictError(f"{key} kept changing")
