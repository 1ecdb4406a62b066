"""A STAC API on loopback: landing page, item search with pages, items, and the transaction extension."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..listening import Answering, listening

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/ogcapi-features/extensions/transaction",
]


@dataclass
class StacApi:
    """Items by collection and id; writing needs ``token`` as a bearer token when it is set.

    ``requests`` are (method, path, status) in order.
    """

    url: str = ""
    token: str | None = None
    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    def add(self, item: dict[str, Any]) -> None:
        """Put an item into its collection."""
        self.items[item["collection"], item["id"]] = item


@contextmanager
def stac_api() -> Iterator[StacApi]:
    """A server that ends with the block."""
    api = StacApi()
    with listening(type("Handler", (_Handler,), {"api": api})) as url:
        api.url = url
        yield api


class _Handler(Answering):
    api: StacApi

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = parts.path.strip("/").split("/")
        if path == [""]:
            self._landing()
        elif path == ["search"]:
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            self._search(query | {"collections": query.get("collections", "").split(",")})
        elif len(path) == 4:
            found = self.api.items.get((path[1], path[3]))
            self._send(200 if found else 404, found or {"code": "NotFound"})
        else:
            self._send(404, {"code": "NotFound"})

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.strip("/").split("/")
        if path == ["search"]:
            self._search(body)
        elif self._allowed():
            key = (path[1], body["id"])
            if key in self.api.items:
                self._send(409, {"code": "ConflictError", "description": f"{body['id']} already exists"})
            else:
                self.api.items[key] = body
                self._send(201, body)

    def do_PUT(self) -> None:
        body = self._body()
        path = self.path.strip("/").split("/")
        if self._allowed():
            there = (path[1], path[3]) in self.api.items
            self.api.items[path[1], path[3]] = body
            self._send(200 if there else 404, body)

    def _landing(self) -> None:
        url = self.api.url
        links = [
            {"rel": "self", "href": url}, {"rel": "root", "href": url},
            {"rel": "search", "href": f"{url}/search", "method": "POST", "type": "application/geo+json"},
        ]  # fmt: skip
        catalog = {"type": "Catalog", "id": "test", "description": "test", "stac_version": "1.0.0"}
        self._send(200, catalog | {"conformsTo": CONFORMS, "links": links})

    def _search(self, asked: dict[str, Any]) -> None:
        found = [i for i in self.api.items.values() if i["collection"] in asked["collections"]]
        if box := asked.get("bbox"):
            west, south, east, north = box
            found = [i for i in found if i["bbox"][0] <= east and i["bbox"][2] >= west]
            found = [i for i in found if i["bbox"][1] <= north and i["bbox"][3] >= south]
        if when := asked.get("datetime"):
            start, end = (None if t == ".." else datetime.fromisoformat(t) for t in when.split("/"))
            times = {i["id"]: datetime.fromisoformat(i["properties"]["datetime"]) for i in found}
            found = [i for i in found if (not start or times[i["id"]] >= start) and (not end or times[i["id"]] <= end)]
        down = any(s["direction"] == "desc" for s in asked.get("sortby", []))
        found.sort(key=lambda i: i["properties"]["datetime"], reverse=down)
        # One item a page, so that every search of several follows links.
        start = int(asked.get("token", 0))
        links = []
        if start + 1 < len(found):
            body = {**asked, "token": str(start + 1)}
            links.append({"rel": "next", "href": f"{self.api.url}/search", "method": "POST", "body": body})
        self._send(200, {"type": "FeatureCollection", "features": found[start : start + 1], "links": links})

    def _allowed(self) -> bool:
        if self.api.token is None or self.headers["Authorization"] == f"Bearer {self.api.token}":
            return True
        self._send(401, {"code": "Unauthorized"})
        return False

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        self.api.requests.append((self.command, urlsplit(self.path).path, status))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
