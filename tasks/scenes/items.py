"""Items: STAC items or bare Zarr stores as scenes with a name, and the search for them in a STAC API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson

from ..lake import secrets
from ..lake.errors import AccessError, CorruptInput, LakeError, NotFound, Unreachable, UsageError
from ..lake.http import Http
from ..lake.objects import Objects
from ..lake.phase import Window
from .recipe import Catalogue, Search, Source

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True, slots=True)
class Scene:
    """One item: its id, the Zarr store, where the item itself lies, and the item as JSON (both None without one)."""

    id: str
    store: str
    href: str | None = None
    item: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def datetime(self) -> datetime | None:
        """When it was taken (UTC), as the item says."""
        properties = (self.item or {}).get("properties", {})
        text = properties.get("datetime") or properties.get("start_datetime")
        return parse_time(text) if text else None


def parse_time(text: str) -> datetime:
    """A time of a STAC item (RFC 3339) in UTC. Raises ``CorruptInput``."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise CorruptInput(f"{text!r} is no time", expected="such as 2025-11-13T10:23:11Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def absolute(reference: str) -> str:
    """A URL or path as recorded: absolute, without a query (it may hold a signature). Raises ``UsageError``."""
    if "://" not in reference:
        return str(Path(reference).expanduser().resolve())
    parts = urlsplit(reference)
    if parts.username or parts.password:
        raise UsageError("a source's URL may not hold a user or a password; name secrets by reference instead")
    return reference if parts.scheme == "s3" else f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def store_of(url: str, options: str = "") -> Objects:
    """The objects of a Zarr store or of a folder; ``options`` are for ``s3://`` without any."""
    if url.startswith("s3://") and "?" not in url and options:
        url = f"{url}?{options}"
    return Objects(url)


def resolve(reference: str, source: Source) -> Scene:
    """The scene behind a STAC item or a Zarr store, by URL or file.

    Raises ``UsageError`` for what is neither, ``NotFound``, ``Unreachable``.
    """
    url = absolute(reference)
    path = urlsplit(url).path if "://" in url else url
    if path.endswith(".zarr") or ("://" not in url and Path(url).is_dir()):
        return _scene(Path(path).name.removesuffix(".zarr"), url)
    base, _, name = url.split("?")[0].rpartition("/")
    query = f"?{url.partition('?')[2]}" if "?" in url else ""
    try:
        data = store_of((base or "/") + query, source.options).get(name)
    except NotFound as error:
        raise UsageError(f"{reference} is not there: neither a STAC item nor a Zarr store ({error.message})") from None
    try:
        item = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise UsageError(
            f"{reference} is neither a STAC item (JSON) nor a Zarr store (its path ends in .zarr)"
        ) from None
    return of_item(item, url, source.asset)


def of_item(item: Any, href: str, asset: str) -> Scene:
    """The scene of a STAC item. ``asset`` names the whole product; else the first whose href leads into a Zarr."""
    if not isinstance(item, dict) or item.get("type") != "Feature" or "assets" not in item:
        kind = item.get("type") if isinstance(item, dict) else type(item).__name__
        raise UsageError(f"{href} is no STAC item", expected="type Feature with assets", found=kind)
    assets = item["assets"]
    hrefs = [assets[asset]["href"]] if asset in assets else [a.get("href", "") for a in assets.values()]
    for link in hrefs:
        before, found, _ = link.partition(".zarr")
        if found:
            place = before + found
            joined = place if "://" in place or place.startswith("/") else _joined(href, place)
            return _scene(str(item["id"]), absolute(joined), href, item)
    raise UsageError(
        f"{href}: no asset of the item is a Zarr store", expected=f"asset {asset!r}", found=", ".join(assets)
    )


def _joined(href: str, place: str) -> str:
    return urljoin(href, place) if "://" in href else str(Path(href).parent / place)


def _scene(name: str, store: str, href: str | None = None, item: Mapping[str, Any] | None = None) -> Scene:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a scene", expected="letters, digits, '.', '_' and '-'", found=repr(name)
        )
    return Scene(name, store, href, item)


def search(wanted: Search, window: Window, asset: str) -> list[Scene]:
    """Scenes that a STAC API has in a window of time and an area, oldest first. ``latest`` gives the newest one.

    Raises ``UsageError`` without a window, ``Unreachable``, ``AccessError``.
    """
    if window.start is None and window.end is None and not window.latest:
        raise UsageError("which scenes? name an item (--item), a window of time (--start, --end) or --latest")
    try:
        from pystac_client import Client
        from pystac_client.exceptions import APIError
    except ImportError:
        raise UsageError("searching a STAC API needs the extra 'scenes'") from None
    from requests.exceptions import RequestException

    headers = authorisation(wanted.token)
    when = None if window.latest else (window.start, window.end)
    order = "-properties.datetime" if window.latest else "+properties.datetime"
    try:
        client = Client.open(wanted.url, headers=headers)
        found = client.search(
            collections=[wanted.collection], bbox=list(wanted.bbox) if wanted.bbox else None, datetime=when,
            max_items=1 if window.latest else wanted.limit, sortby=order,
        )  # fmt: skip
        items = list(found.items_as_dicts())
    except (APIError, RequestException) as error:
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            raise AccessError(f"the STAC API {wanted.url} refuses ({status})") from None
        said = str(status or type(error).__name__)
        raise Unreachable(f"the STAC API {wanted.url} cannot be searched ({said})") from None
    return [of_item(item, _self(item, wanted), asset) for item in sorted(items, key=_taken)]


def _self(item: Mapping[str, Any], wanted: Search) -> str:
    links = {link.get("rel"): link.get("href") for link in item.get("links", ())}
    return links.get("self") or f"{wanted.url}/collections/{wanted.collection}/items/{item['id']}"


def _taken(item: Mapping[str, Any]) -> tuple[str, str]:
    properties = item.get("properties", {})
    return str(properties.get("datetime") or properties.get("start_datetime") or ""), str(item.get("id"))


def authorisation(reference: str | None) -> dict[str, str]:
    """The header with the bearer token that a secret reference means; empty without one."""
    return {"authorization": f"Bearer {secrets.reveal(reference).get_secret_value()}"} if reference else {}


def catalogued(catalogue: Catalogue, scenes: list[Scene]) -> set[str]:
    """Ids of scenes whose results a STAC API has already, made from the same item."""
    there = set()
    with Http(catalogue.url, headers=authorisation(catalogue.token)) as http:
        for scene in scenes:
            try:
                item = http.get(f"collections/{catalogue.collection}/items/{scene.id}").json()
            except NotFound:
                continue
            origins = {link.get("href") for link in item.get("links", ()) if link.get("rel") == "derived_from"}
            if scene.href in origins:
                there.add(scene.id)
    return there


def preflight(store: Objects) -> str | None:
    """A look whether a store answers; a sentence when it does not. Never an error: what follows will say it better."""
    try:
        for name in ("zarr.json", ".zmetadata", ".zgroup"):
            if store.head(name) is not None:
                return None
    except LakeError as error:
        return f"preflight: {error}"
    return f"preflight: nothing that begins a Zarr store answers at {store.url.split('?')[0]}"
