"""The tree of groups and arrays of a Zarr store, from its consolidated metadata."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..lake.errors import CorruptInput, LakeError, NotFound, UsageError
from ..lake.objects import Objects
from ..lake.partition import digest_json
from .zarr_array import Document

DOCUMENTS = ("zarr.json", ".zmetadata", ".zgroup")
"""What a store begins with: version 3, version 2 consolidated, version 2."""


@dataclass(frozen=True)
class Array:
    """An array of a store: metadata apart from its attributes, attributes, and names of dimensions."""

    document: Document
    attributes: Mapping[str, Any]
    dims: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""
        return tuple(self.document["shape"])


@dataclass(frozen=True)
class Tree:
    """Path -> attributes of groups, path -> arrays; the root is the empty path."""

    groups: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, Array]
    digest: str = ""
    consolidated: bool = field(default=True, compare=False)

    def within(self, group: str) -> dict[str, Array]:
        """Name -> arrays that lie directly in a group."""
        return {path.rpartition("/")[2]: a for path, a in self.arrays.items() if path.rpartition("/")[0] == group}

    def lines(self) -> Iterator[str]:
        """The tree for people: a line a group, with its arrays."""
        for path in sorted(self.groups):
            inside = self.within(path)
            shapes = sorted({"x".join(map(str, a.shape)) for a in inside.values() if len(a.shape) > 1})
            names = ", ".join(sorted(n for n, a in inside.items() if len(a.shape) > 1))
            indent = "  " * path.count("/")
            text = f"{indent}/{path.rpartition('/')[2]}" if path else "/"
            yield f"{text}  {names} ({', '.join(shapes)})" if names else text

    def need(self, wanted: tuple[str, ...], where: str) -> None:
        """See that groups are there and hold arrays.

        Raises ``UsageError`` that names the closest groups, those below /measurements first.
        """
        filled = {p for p in self.groups if any(len(a.shape) >= 2 for a in self.within(p).values())}
        for path in wanted:
            if path in filled:
                continue
            below = sorted(filled, key=lambda p: (not p.startswith("measurements"), p))
            close = sorted(below, key=lambda p: -difflib.SequenceMatcher(None, p, path).ratio())
            first = [p for p in close if p.startswith("measurements")][:3]
            names = first + [p for p in close if p not in first and _alike(p, path)][:2]
            what = "has no arrays of its own" if path in self.groups else "is not there"
            hint = f"; closest are: {', '.join('/' + p for p in names or close[:3])}" if filled else ""
            raise UsageError(f"group /{path} {what} in {where}{hint}")


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one, other).ratio() > 0.6


def open_tree(store: Objects) -> Tree:
    """The tree of a store. Raises ``CorruptInput`` with one sentence for what is no Zarr store."""
    for name in DOCUMENTS:
        try:
            data = store.get(name)
        except NotFound:
            continue
        try:
            content = orjson.loads(data)
            if name == "zarr.json":
                return _version_3(store, content)
            if name == ".zmetadata":
                return _version_2(content["metadata"])
            return _version_2(_collected(store, (".zarray", ".zattrs", ".zgroup")), consolidated=False)
        except LakeError:
            raise
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CorruptInput(
                f"{_where(store)} is not a Zarr store: {name} cannot be read ({type(error).__name__})"
            ) from None
    raise CorruptInput(f"{_where(store)} is not a Zarr store: there is no {' and no '.join(DOCUMENTS)}")


def _where(store: Objects) -> str:
    return store.url.split("?")[0].rstrip("/")


def _collected(store: Objects, names: tuple[str, ...]) -> dict[str, Any]:
    """Metadata documents of a store that has none consolidated; only where objects can be listed."""
    if store.location.scheme not in ("file", "s3"):
        raise CorruptInput(f"{_where(store)} has no consolidated metadata, and a web server cannot list its groups")
    keys = [m.key for m in store.listing() if m.key.rpartition("/")[2] in names]
    return {k: orjson.loads(d) for k, (d, _) in zip(keys, store.get_many(keys), strict=True)}


def _version_2(documents: Mapping[str, Any], *, consolidated: bool = True) -> Tree:
    groups: dict[str, dict[str, Any]] = {}
    arrays: dict[str, Array] = {}
    for key, document in documents.items():
        path, _, name = key.rpartition("/")
        attributes = dict(documents.get(f"{path}/.zattrs" if path else ".zattrs", {}))
        if name == ".zgroup":
            groups[path] = attributes
        elif name == ".zarray":
            dims = attributes.pop("_ARRAY_DIMENSIONS", None)
            dims = dims if dims is not None else [f"dim_{i}" for i in range(len(document["shape"]))]
            arrays[path] = Array(document, attributes, tuple(dims))
    return _tree(groups, arrays, documents, consolidated)


def _version_3(store: Objects, root: dict[str, Any]) -> Tree:
    if root["zarr_format"] != 3 or root["node_type"] != "group":
        raise CorruptInput(f"{_where(store)} is not a group of Zarr version 3", found=root.get("node_type"))
    inside = (root.get("consolidated_metadata") or {}).get("metadata")
    consolidated = inside is not None
    if inside is None:
        found = _collected(store, ("zarr.json",))
        inside = {k.removesuffix("zarr.json").rstrip("/"): d for k, d in found.items() if k != "zarr.json"}
    groups = {"": dict(root.get("attributes") or {})}
    arrays: dict[str, Array] = {}
    for path, node in inside.items():
        attributes = dict(node.get("attributes") or {})
        if node["node_type"] == "group":
            groups[path] = attributes
        else:
            document = {k: v for k, v in node.items() if k not in ("attributes", "consolidated_metadata")}
            dims = node.get("dimension_names") or [f"dim_{i}" for i in range(len(node["shape"]))]
            arrays[path] = Array(document, attributes, tuple(dims))
    return _tree(groups, arrays, {"": root.get("attributes"), **inside}, consolidated)


def _tree(
    groups: dict[str, dict[str, Any]], arrays: dict[str, Array], documents: Mapping[str, Any], consolidated: bool
) -> Tree:
    # Groups above arrays need no document of their own in every store.
    for path in [*arrays, *groups]:
        while path:
            path = path.rpartition("/")[0]
            groups.setdefault(path, {})
    return Tree(groups, arrays, digest_json(documents), consolidated)
