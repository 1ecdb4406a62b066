"""A catalogue on loopback that answers as CMR does: search-after, hits, offsets, 429, partial results, lost pages.

The shape of its answers is that of the real ones in ``../shared/data/cmr``. Granules of the collections are links to
whatever the test says.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from ..listening import Answering, listening


@dataclass
class Faults:
    """What the catalogue does wrong; each number counts down as it happens.

    ``quota`` answers 429 (Retry-After: ``retry_after``), ``partial`` answers with half a page and the header that says
    so, ``dropped`` hangs up in the middle of a body, ``errors`` answers 503, ``silent`` leaves out a page's last item
    without a word.
    """

    quota: int = 0
    retry_after: int = 0
    partial: int = 0
    partial_header: str = "CMR-Timed-Out"
    dropped: int = 0
    errors: int = 0
    silent: int = 0
    only: str = "/search/"
    latency: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A request: method, path, parameters, the search-after it came with, and the status of the answer."""

    method: str
    path: str
    query: dict[str, list[str]]
    after: str | None
    status: int


@dataclass
class Cmr:
    """A catalogue. ``collections`` maps concept ids to numbers of granules, in the order they are listed."""

    collections: dict[str, int]
    links: Callable[[str, int], list[dict[str, str]]]
    url: str = ""
    faults: Faults = field(default_factory=Faults)
    asked: list[Asked] = field(default_factory=list)
    data_center: Callable[[str], str] = lambda concept: concept.rpartition("-")[2]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, fault: str) -> bool:
        """Whether a fault happens now."""
        with self.lock:
            left = getattr(self.faults, fault)
            if left > 0:
                setattr(self.faults, fault, left - 1)
            return left > 0


def collection_item(concept: str, granules: int, data_center: str) -> dict[str, Any]:
    """An item of ``collections.umm_json``."""
    return {
        "meta": {
            "revision-id": 1,
            "deleted": False,
            "provider-id": concept.rpartition("-")[2],
            "concept-id": concept,
            "granule-count": granules,
            "concept-type": "collection",
        },
        "umm": {
            "ShortName": f"SHORT_{concept.partition('-')[0]}",
            "Version": "1.0",
            "ProcessingLevel": {"Id": "4"},
            "DataCenters": [
                {"Roles": ["PROCESSOR"], "ShortName": "SOMEBODY"},
                {"Roles": ["ARCHIVER"], "ShortName": data_center},
            ],
            "ArchiveAndDistributionInformation": {
                "FileDistributionInformation": [{"FormatType": "Native", "Format": "netCDF-4"}]
            },
        },
    }


# A listing of ten thousand is asked for again and again.
_listed = lru_cache(20_000)(collection_item)


def granule_item(concept: str, index: int, links: list[dict[str, str]]) -> dict[str, Any]:
    """An item of ``granules.umm_json``."""
    number, _, provider = concept.removeprefix("C").partition("-")
    return {
        "meta": {
            "concept-type": "granule",
            "concept-id": f"G{number}{index:06d}-{provider}",
            "collection-concept-id": concept,
            "provider-id": provider,
        },
        "umm": {
            "GranuleUR": f"{concept}.{index}",
            "RelatedUrls": [
                *links,
                {"URL": f"https://opendap.example/{concept}/{index}", "Type": "USE SERVICE API"},
            ],
        },
    }


@contextmanager
def cmr(collections: dict[str, int], links: Callable[[str, int], list[dict[str, str]]], **faults: Any) -> Iterator[Cmr]:
    """Serve a catalogue until the block is left."""
    served = Cmr(collections, links, faults=Faults(**faults))

    class Handler(_Handler):
        catalogue = served

    with listening(Handler) as url:
        served.url = url
        yield served


class _Handler(Answering):
    catalogue: Cmr

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self._answer(parts.path, parse_qs(parts.query))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self._answer(urlsplit(self.path).path, parse_qs(body))

    def _answer(self, path: str, query: dict[str, list[str]]) -> None:
        served, faults = self.catalogue, self.catalogue.faults
        if faults.latency:
            time.sleep(faults.latency)
        hit = faults.only in path
        if hit and served.take("quota"):
            self._send(429, {"errors": ["Too many requests"]}, path, query, {"Retry-After": str(faults.retry_after)})
        elif hit and served.take("errors"):
            self._send(503, {"errors": ["busy"]}, path, query)
        elif path == "/search/collections.umm_json":
            self._collections(path, query)
        elif path == "/search/granules.umm_json":
            self._granules(path, query)
        else:
            self._send(404, {"errors": [f"no {path}"]}, path, query)

    def _collections(self, path: str, query: dict[str, list[str]]) -> None:
        served = self.catalogue
        size = int(query.get("page_size", ["10"])[0])
        if size > 2000:
            self._send(400, {"errors": ["page_size must be a number between 0 and 2000"]}, path, query)
            return
        with served.lock:
            everything = list(served.collections.items())
        wanted = set(query.get("provider[]", query.get("provider", [])))
        chosen = [(c, n) for c, n in everything if not wanted or c.rpartition("-")[2] in wanted]
        if query.get("has_granules") == ["true"]:
            pass  # CMR says so of collections whose granules are gone meanwhile, too
        after = self.headers.get("CMR-Search-After")
        start = orjson.loads(after)[-1] if after else 0
        page = chosen[start : start + size]
        items = [_listed(c, n, served.data_center(c)) for c, n in page]
        headers = {"CMR-Hits": str(len(chosen)), "CMR-Took": "1"}
        following = start + len(page)
        if page and served.take("partial"):
            items = items[: len(items) // 2]
            following = start + len(items)
            headers[served.faults.partial_header] = "true"
        elif page and served.take("silent"):
            items = items[:-1]
        if page:
            headers["CMR-Search-After"] = orjson.dumps(["name", "POCLOUD", following]).decode()
        cut = bool(page) and served.take("dropped")
        self._send(200, {"hits": len(chosen), "took": 1, "items": items}, path, query, headers, cut=cut)

    def _granules(self, path: str, query: dict[str, list[str]]) -> None:
        served = self.catalogue
        concept = query["collection_concept_id"][0]
        hits = served.collections.get(concept, 0)
        size, offset = int(query.get("page_size", ["10"])[0]), int(query.get("offset", ["0"])[0])
        if offset + size > 1_000_000:
            self._send(400, {"errors": ["The paging depth of more than 1 million results is not allowed"]}, path, query)
            return
        places = range(offset, min(offset + size, hits))
        items = [granule_item(concept, i, served.links(concept, i)) for i in places]
        headers = {"CMR-Hits": str(hits), "CMR-Took": "1"}
        if served.faults.only == path and items and served.take("partial"):
            items = []
            headers[served.faults.partial_header] = "true"
        self._send(200, {"hits": hits, "took": 1, "items": items}, path, query, headers)

    def _send(
        self,
        status: int,
        body: dict[str, Any],
        path: str,
        query: dict[str, list[str]],
        headers: dict[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> None:
        after = self.headers.get("CMR-Search-After")
        self.catalogue.asked.append(Asked(self.command, path, query, after, status))
        data = orjson.dumps(body)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/vnd.nasa.cmr.umm_results+json;version=1.18.4; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


def many(count: int, granules: int = 3) -> dict[str, int]:
    """Collections with made-up concept ids, of three data centres."""
    centers = itertools.cycle(("POCLOUD", "LPCLOUD", "NSIDC_ECS"))
    return {f"C{1000000 + i}-{next(centers)}": granules for i in range(count)}
