"""The catalogue's search API (CMR): all collections of a query, and single granules of one.

https://cmr.earthdata.nasa.gov/search/site/docs/search/api.html
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from ..lake.errors import CorruptInput, LakeError, QuotaError, TransientError
from ..lake.http import Http, TokenBucket
from . import recipe
from .collection import Collection, Sample, collection, sample
from .sampling import place

_TIMEOUT = httpx.Timeout(connect=10, read=200, write=60, pool=200)
"""The catalogue gives up on a request after 180 s by itself."""

_LONG = 2000
"""Queries with more characters than this go into the body of a POST: servers cut long addresses."""

_LISTINGS = 3
_COUNTS = 3
_TRIES = 5
_QUOTA_WAITS = 6
_LONGEST_WAIT = 60.0
_REMEMBERED = 300.0


@dataclass(frozen=True)
class Listing:
    """All collections of a query, and how many the catalogue said there are."""

    collections: tuple[Collection, ...]
    hits: int
    pages: int


class Catalogue:
    """One catalogue, for one process: requests of all threads share the rate."""

    def __init__(self, settings: recipe.Catalogue) -> None:
        self.settings = settings
        self._http = Http(f"{settings.url.rstrip('/')}/search", limit=TokenBucket(settings.rate, burst=settings.rate))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def collections(self) -> Listing:
        """Every collection of the query, page after page, each once.

        The count is compared with the catalogue's own. A page that comes back partial is asked for again, in smaller
        pages; a listing that lacks collections is made again. Raises ``TransientError`` rather than hand on a listing
        that lacks some, ``QuotaError`` when the catalogue keeps asking to slow down.
        """
        for number in range(1, _LISTINGS + 1):
            listing = self._list()
            # More than the count: some were taken out while the listing went on.
            if len(listing.collections) >= listing.hits or number == _LISTINGS:
                break
        if len(listing.collections) >= listing.hits:
            return listing
        raise TransientError(
            "the catalogue's listing of collections stays incomplete",
            expected=f"{listing.hits} collections",
            found=len(listing.collections),
        )

    def _list(self) -> Listing:
        found: dict[str, Collection] = {}
        after: str | None = None
        pages = 0
        while True:
            response, items, hits = self._page(after)
            pages += 1
            for item in items:
                one = collection(item)
                found.setdefault(one.id, one)
            before, after = after, response.headers.get("cmr-search-after")
            # The header also comes with the last page that holds something, so the end is the page without it.
            if after is None or not items:
                return Listing(tuple(found.values()), hits, pages)
            if after == before:
                raise CorruptInput("the catalogue's listing stands still: its search-after does not change")

    def _page(self, after: str | None) -> tuple[httpx.Response, list[Any], int]:
        size = self.settings.page_size
        for _ in range(_TRIES):
            query = {**self.settings.query, "page_size": size, "include_granule_counts": True}
            response = self._search("collections.umm_json", query, after)
            if not _partial(response):
                return response, *_parsed(response)
            # A search that was cut short at the catalogue's own limit of time: less at once takes less time.
            size = max(1, size // 4)
        raise TransientError(f"the catalogue answers with parts of a page only, {_TRIES} times in a row")

    def sample(self, of: Collection, seed: int) -> Sample:
        """The granule that stands for a collection (see `sampling.place`), with its links.

        One request where the number of granules in the listing is still right, two otherwise.
        """
        hits = of.granules
        for number in range(1, _COUNTS + 1):
            index = place(of.id, seed, hits) if hits else 0
            found, item = self._granule(of.id, index)
            if not found:
                return Sample(of, seed)
            # Where granules arrive all the time, the count of the last but one request has to do.
            if item is not None and (found == hits or (number == _COUNTS and hits)):
                return sample(of, seed, found, index, item)
            hits = found
        raise TransientError(f"the granules of {of.id} change while they are counted", partition=of.id)

    def _granule(self, collection_id: str, index: int) -> tuple[int, Any]:
        query = {
            "collection_concept_id": collection_id,
            "sort_key": "start_date",
            "page_size": 1,
            "offset": index,
        }
        for _ in range(_TRIES):
            response = self._search("granules.umm_json", query, None)
            if not _partial(response):
                items, hits = _parsed(response)
                return hits, items[0] if items else None
        raise TransientError(f"the catalogue's search for granules of {collection_id} is cut short every time")

    def _search(self, path: str, query: Mapping[str, Any], after: str | None) -> httpx.Response:
        """One search; waits as long as the catalogue says where it asks to slow down."""
        values = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items()}
        headers = {"CMR-Search-After": after} if after else {}
        options: dict[str, Any] = {"headers": headers, "timeout": _TIMEOUT}
        long = len(urlencode(values, doseq=True)) > _LONG
        options["data" if long else "params"] = values
        for number in range(1, _QUOTA_WAITS + 1):
            try:
                return self._http.request("POST" if long else "GET", path, **options)
            except QuotaError as error:
                if number == _QUOTA_WAITS:
                    raise
                asked = error.retry_after if error.retry_after is not None else 2.0**number
                time.sleep(min(asked, _LONGEST_WAIT))
        raise AssertionError("unreachable")


def _partial(response: httpx.Response) -> bool:
    """Whether the search was cut short; the catalogue's documentation spells the header in both ways."""
    return any(response.headers.get(name, "").lower() == "true" for name in ("cmr-timed-out", "cmr-time-out"))


def _parsed(response: httpx.Response) -> tuple[list[Any], int]:
    """Items and number of hits of an answer. Raises ``CorruptInput``."""
    try:
        items = orjson.loads(response.content)["items"]
        return items, int(response.headers["cmr-hits"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise CorruptInput(
            f"the catalogue's answer is not what its search API says ({type(error).__name__})",
            expected="items, and the header CMR-Hits",
            found=response.headers.get("content-type", "no content type"),
        ) from None


_open: dict[str, Catalogue] = {}
_opening = threading.Lock()


def catalogue(settings: recipe.Catalogue) -> Catalogue:
    """The catalogue of a recipe, one a process: threads and batches share its connections and its rate."""
    key = settings.model_dump_json()
    with _opening:
        if key not in _open:
            _open[key] = Catalogue(settings)
        return _open[key]


_listings: dict[str, tuple[float, Listing]] = {}


def listing(settings: recipe.Catalogue) -> Listing:
    """All collections of a recipe's query; asked for again after five minutes.

    A run plans, says what it is going to do, and plans again: that is one listing.
    """
    key = settings.model_dump_json()
    at, found = _listings.get(key, (0.0, None))
    if found is None or time.monotonic() - at > _REMEMBERED:
        try:
            found = catalogue(settings).collections()
        except LakeError:
            _listings.pop(key, None)
            raise
        _listings[key] = (time.monotonic(), found)
    return found


def forget() -> None:
    """Drop remembered listings and close connections."""
    _listings.clear()
    with _opening:
        while _open:
            _open.popitem()[1].close()
