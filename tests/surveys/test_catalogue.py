"""The catalogue's listing is complete or there is none, whatever its server does."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.lake.errors import QuotaError, TransientError, UsageError
from tasks.surveys import catalogue as module
from tasks.surveys import recipe
from tasks.surveys.catalogue import Catalogue
from tasks.surveys.collection import Collection, collection, sample
from tasks.surveys.formats import choose
from tasks.surveys.sampling import place

from .cmr_server import Cmr, cmr, many


def data(concept: str, index: int) -> list[dict[str, str]]:
    return [{"URL": f"https://data.example/{concept}/{index}.nc", "Type": "GET DATA"}]


@pytest.fixture
def served() -> Iterator[Cmr]:
    with cmr(many(1080), data) as served:
        yield served


_open: list[Catalogue] = []


def opened(served: Cmr, **settings: Any) -> Catalogue:
    config = recipe.Catalogue(url=served.url, rate=10_000, **{"page_size": 100, **settings})
    _open.append(Catalogue(config))
    return _open[-1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    yield
    while _open:
        _open.pop().close()


def test_a_listing_follows_search_after_to_its_end(served: Cmr) -> None:
    listing = opened(served).collections()
    assert [c.id for c in listing.collections] == list(served.collections)
    assert (listing.hits, listing.pages) == (1080, 12)
    # The first request has no search-after, each of the others the one before it was answered with.
    afters = [a.after for a in served.asked]
    assert afters[0] is None
    assert len(set(afters)) == 12
    one = listing.collections[1]
    assert one == Collection("C1000001-LPCLOUD", "SHORT_C1000001", "1.0", "LPCLOUD", "4", 3, "netCDF-4")


@pytest.mark.parametrize("fault", ["quota", "errors", "dropped", "partial", "silent"])
def test_a_fault_that_passes_loses_nothing(served: Cmr, fault: str) -> None:
    setattr(served.faults, fault, 3 if fault != "silent" else 1)
    listing = opened(served).collections()
    assert [c.id for c in listing.collections] == list(served.collections)
    assert getattr(served.faults, fault) == 0, "the fault happened"


@pytest.mark.parametrize("header", ["CMR-Timed-Out", "CMR-Time-Out"])
def test_partial_results_are_told_by_either_header(served: Cmr, header: str) -> None:
    served.faults.partial, served.faults.partial_header = 1, header
    assert len(opened(served).collections().collections) == 1080
    # The page that was cut short is asked for again, a quarter the size.
    assert [a.query["page_size"][0] for a in served.asked[:3]] == ["100", "25", "100"]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("silent", TransientError, "stays incomplete: expected 1080 collections, found 10"),
        ("partial", TransientError, "parts of a page only"),
        ("quota", QuotaError, "answered 429"),
    ],
)
def test_a_fault_that_stays_gives_no_listing(served: Cmr, fault: str, error: type[Exception], said: str) -> None:
    setattr(served.faults, fault, 10_000)
    with pytest.raises(error, match=said):
        opened(served).collections()


def test_a_query_that_the_catalogue_refuses(served: Cmr) -> None:
    config = recipe.Catalogue.model_construct(url=served.url, query={}, page_size=5000, rate=100.0)
    _open.append(Catalogue(config))
    with pytest.raises(UsageError, match=r"answered 400: .*page_size"):
        _open[-1].collections()


def test_a_long_query_goes_into_the_body_of_a_post(served: Cmr) -> None:
    providers = tuple(f"PROVIDER_{i:04}" for i in range(200))
    listing = opened(served, query={"provider[]": ("LPCLOUD", *providers), "has_granules": True}).collections()
    assert {a.method for a in served.asked} == {"POST"}
    assert len(listing.collections) == 360
    served.asked.clear()
    assert len(opened(served, query={"provider[]": ("LPCLOUD",)}).collections().collections) == 360
    assert {a.method for a in served.asked} == {"GET"}


def test_a_collection_that_comes_twice_counts_once(served: Cmr, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = opened(served)
    page = catalogue._page

    def doubled(after: str | None):
        response, items, hits = page(after)
        return response, [*items, *items[:3]], hits

    monkeypatch.setattr(catalogue, "_page", doubled)
    assert len(catalogue.collections().collections) == 1080


def test_the_sample_is_the_same_every_time(served: Cmr) -> None:
    served.collections.update({f"C{i}-POCLOUD": 5000 for i in range(20)})
    of = [Collection(f"C{i}-POCLOUD", granules=5000) for i in range(20)]
    first = [opened(served).sample(c, 7) for c in of]
    assert first == [opened(served).sample(c, 7) for c in of]
    assert [s.index for s in first] == [place(c.id, 7, 5000) for c in of]
    assert len({s.index for s in first}) > 15, "not all the same place"
    assert [s.index for s in first] != [opened(served).sample(c, 8).index for c in of]
    assert first[0].links == (f"https://data.example/C0-POCLOUD/{first[0].index}.nc",)
    # One request each: the listing's count was right.
    assert len(served.asked) == 60


@pytest.mark.parametrize("listed", [None, 0, 2, 900])
def test_a_count_that_is_out_of_date_does_not_matter(served: Cmr, listed: int | None) -> None:
    served.collections["C1-POCLOUD"] = 40
    found = opened(served).sample(Collection("C1-POCLOUD", granules=listed), 3)
    assert (found.hits, found.index) == (40, place("C1-POCLOUD", 3, 40))


def test_a_collection_without_granules(served: Cmr) -> None:
    served.collections["C1-POCLOUD"] = 0
    found = opened(served).sample(Collection("C1-POCLOUD", granules=12), 3)
    assert (found.granule, found.links, found.hits) == (None, (), 0)


def test_a_collection_with_more_granules_than_can_be_paged(served: Cmr) -> None:
    served.collections["C1-POCLOUD"] = 30_000_000
    found = opened(served).sample(Collection("C1-POCLOUD", granules=30_000_000), 3)
    assert found.index is not None
    assert found.index < 1_000_000


@pytest.mark.real
def test_real_answers(shared) -> None:
    """Shape and values as CMR gave them; the expected ones are read off the files by eye."""
    import orjson

    folder = shared / "data" / "cmr"
    listed = orjson.loads((folder / "collections_POCLOUD_20.umm_json").read_bytes())["items"]
    found = [collection(item) for item in listed]
    assert len(found) == 20
    river = found[0]
    assert (river.id, river.short_name, river.version) == ("C2758162622-POCLOUD", "SWOT_L2_HR_RiverSP_1.1", "1.1")
    assert (river.data_center, river.processing_level, river.granules) == ("NASA/JPL/PODAAC", "2", 1698)
    assert river.credentials == "https://archive.swot.podaac.earthdata.nasa.gov/s3credentials"
    assert river.format == "Shapefile"

    item = orjson.loads((folder / "granules_GAMSSA_20241011.umm_json").read_bytes())["items"][0]
    granule = sample(river, 1, 9, 2, item)
    assert granule.granule == "G3264876018-POCLOUD"
    assert granule.credentials == "https://archive.podaac.earthdata.nasa.gov/s3credentials"
    for access, start in (("https", "https://archive.podaac"), ("s3", "s3://podaac-ops-cumulus-protected/GAMSSA")):
        link = choose(granule.links, None, access)
        assert link is not None
        assert link.url.startswith(start)
        assert (link.extension, link.family) == ("nc", "netcdf")
    # Checksums and services are no data.
    assert len(granule.links) == 2

    item = orjson.loads((folder / "granules_HLSL30_2.umm_json").read_bytes())["items"][0]
    link = choose(sample(river, 1, 2, 0, item).links, None, "https")
    assert link is not None
    assert link.url.endswith("HLS.L30.T15UWP.2024283T165135.v2.0.VAA.tif")
    assert link.family == "tiff"

    items = orjson.loads((folder / "granules_GRAC_163.umm_json").read_bytes())["items"]
    links = [choose(sample(river, 1, 163, i, item).links, None, "https") for i, item in enumerate(items)]
    assert len(links) == 163
    assert {link.extension for link in links if link} == {"nc"}
