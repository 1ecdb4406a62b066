"""The lake's static catalogue: valid STAC, and nothing lost when many write at once."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import orjson
import pytest

from tasks.lake import catalogue
from tasks.lake.catalogue import About
from tasks.lake.lake import Lake

ABOUT = About("wind", "Wind", "How it blows", "Nobody's")


def item(number: int) -> dict:
    """An item as a kind of data makes it: a day of 2026 and a box."""
    west = float(number)
    ring = [[west, 0.0], [west + 1, 0.0], [west + 1, 1.0], [west, 1.0], [west, 0.0]]
    return {
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, 0.0, west + 1, 1.0],
        "properties": {"datetime": f"2026-11-{number + 1:02d}T00:00:00Z"},
        "assets": {"data": {"href": catalogue.from_item(f"cubes/{number}"), "roles": ["data"]}},
    }


@pytest.fixture
def lake(store_url: str) -> Lake:
    made = Lake(store_url)
    made.prepare()
    return made


def read(lake: Lake, key: str) -> dict:
    return orjson.loads(lake.objects.get(key))


def test_what_is_entered_is_found(lake: Lake):
    for n in (3, 1):
        catalogue.enter(lake, ABOUT, f"day-{n}", lambda n=n: item(n))
    catalogue.enter(lake, About("rain"), "day-0", lambda: item(0))
    assert [i["id"] for i in catalogue.items(lake, "wind")] == ["day-1", "day-3"]
    assert [i["collection"] for i in catalogue.items(lake)] == ["rain", "wind", "wind"]
    assert catalogue.names(lake) == ["rain", "wind"]
    extent = read(lake, "catalogue/wind/collection.json")["extent"]
    assert extent["spatial"]["bbox"] == [[1.0, 0.0, 4.0, 1.0]]
    assert extent["temporal"]["interval"] == [["2026-11-02T00:00:00Z", "2026-11-04T00:00:00Z"]]
    assert list(catalogue.items(lake, "nosuch")) == []


def test_the_same_again_writes_nothing(lake: Lake):
    def listed() -> dict[str, str | None]:
        return {m.key: m.etag for m in lake.objects.listing("catalogue")}

    first = catalogue.enter(lake, ABOUT, "day-1", lambda: item(1))
    before = listed()
    assert catalogue.enter(lake, ABOUT, "day-1", lambda: item(1)) == first
    assert listed() == before
    assert set(before) == {"catalogue/catalog.json", "catalogue/wind/collection.json", "catalogue/wind/day-1.json"}


def test_an_item_is_replaced_and_removed(lake: Lake):
    catalogue.enter(lake, ABOUT, "a", lambda: item(1))
    catalogue.enter(lake, ABOUT, "a", lambda: item(2))
    catalogue.enter(lake, ABOUT, "b", lambda: item(3))
    assert [i["bbox"][0] for i in catalogue.items(lake, "wind")] == [2.0, 3.0]
    catalogue.remove(lake, "wind", "a")
    catalogue.remove(lake, "wind", "a")
    assert [i["id"] for i in catalogue.items(lake, "wind")] == ["b"]
    assert lake.objects.head("catalogue/wind/a.json") is None


def test_what_changed_while_an_item_was_made_is_looked_at_again(lake: Lake):
    """The last to write has seen what the others did: an older view never replaces a newer one."""
    world = ["old"]
    asked = []

    def slow() -> dict:
        asked.append(world[0])
        seen = item(1) | {"seen": world[0]}
        if len(asked) == 1:
            world[0] = "new"
            catalogue.enter(lake, ABOUT, "a", lambda: item(1) | {"seen": world[0]})
        return seen

    catalogue.enter(lake, ABOUT, "a", slow)
    assert asked == ["old", "new"]
    assert next(catalogue.items(lake))["seen"] == "new"


def enter_some(url: str, first: int, together: Barrier) -> None:
    for n in range(first, first + 6):
        together.wait(60)
        catalogue.enter(Lake(url), ABOUT, f"day-{n:02d}", lambda n=n: item(n))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path):
    url = str(tmp_path / "lake")
    Lake(url).prepare()
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(4)
    writers = [context.Process(target=enter_some, args=(url, first, together)) for first in (0, 6, 12, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [w.exitcode for w in writers] == [0] * 4
    assert [i["id"] for i in catalogue.items(Lake(url))] == [f"day-{n:02d}" for n in range(18)]


def test_pystac_takes_it(tmp_path: Path):
    pystac = pytest.importorskip("pystac", reason="pystac is not installed")
    url = str(tmp_path / "lake")
    Lake(url).prepare()
    for n in (1, 2):
        catalogue.enter(Lake(url), ABOUT, f"day-{n}", lambda n=n: item(n))
    found = pystac.Catalog.from_file(str(tmp_path / "lake" / "catalogue" / "catalog.json"))
    # Every schema of the core comes with pystac: nothing is fetched.
    assert found.validate_all() == 2
    (collection,) = found.get_children()
    assert (collection.id, collection.title) == ("wind", "Wind")
    assert [i.get_parent().id for i in found.get_items(recursive=True)] == ["wind", "wind"]
    first = next(found.get_items(recursive=True))
    assert first.assets["data"].get_absolute_href() == str(tmp_path / "lake" / "cubes" / "1")
