"""Items found by a search, served over HTTP and S3, and results put into a catalogue."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import zarr

from tasks.lake.errors import CorruptInput, Unreachable, UsageError
from tasks.lake.objects import Objects
from tasks.lake.phase import Window
from tests.servers import Archive, S3Server

from . import eopf
from .converting import RECIPE, convert, files, run
from .stac_api import StacApi, stac_api

R60 = eopf.REFLECTANCE[2]
DAY = Window(start=datetime(2025, 10, 8, tzinfo=UTC), end=datetime(2025, 10, 8, 23, tzinfo=UTC))


@pytest.fixture
def api() -> Iterator[StacApi]:
    with stac_api() as server:
        yield server


def searching(api: StacApi, **more) -> dict:
    return {
        "source__search": {"url": api.url, "collection": "sentinel-2-l2a", **more}, "select__groups": [R60],
        "outputs__tar": False,
    }  # fmt: skip


def add(api: StacApi, product: eopf.Product, name: str, when: str, bbox: list[float] | None = None) -> None:
    item = eopf.stac_item(name, str(product.store))
    item["properties"]["datetime"] = when
    item["bbox"] = bbox or item["bbox"]
    api.add(item)


def test_a_search_takes_a_window_and_an_area(api: StacApi, product: eopf.Product, tmp_path: Path) -> None:
    add(api, product, "before", "2025-10-07T23:59:59Z")
    add(api, product, "first", "2025-10-08T10:00:00Z")
    add(api, product, "second", "2025-10-08T12:00:00Z")
    add(api, product, "elsewhere", "2025-10-08T12:00:00Z", [100.0, 0.0, 101.0, 1.0])
    settings = searching(api, bbox=[11, 41, 13, 43])
    report = run(tmp_path / "lake", ("ingest",), DAY, **settings)["ingest"]
    assert report.scopes == ("first", "second")
    latest = run(tmp_path / "lake", ("ingest", "refine"), Window(latest=True), **settings)
    assert [r.scopes for r in latest.values()] == [("second",), ("second",)]
    assert run(tmp_path / "lake", ("refine",), DAY, **settings)["refine"].scopes == ("first", "second")
    with pytest.raises(UsageError, match="which scenes"):
        run(tmp_path / "lake", ("ingest",), **settings)
    with pytest.raises(UsageError, match="no runs"):
        run(tmp_path / "lake", ("ingest",), Window(run=DAY.start), **settings)


def test_results_go_into_a_catalogue_and_are_not_taken_again(
    api: StacApi, product: eopf.Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAC_TOKEN", "open-sesame")
    api.token = "open-sesame"
    add(api, product, "scene", "2025-10-08T10:00:00Z")
    catalogue = {"url": api.url, "collection": "geozarr", "token": "env:STAC_TOKEN"}
    settings = searching(api) | {"outputs__catalogue": catalogue}
    reports = run(tmp_path / "lake", window=DAY, **settings)
    assert [r.exit_code for r in reports.values()] == [0] * 5
    made = api.items["geozarr", "scene"]
    assert made["collection"] == "geozarr"
    assert [k["href"] for k in made["links"] if k["rel"] == "derived_from"] == [
        f"{api.url}/collections/sentinel-2-l2a/items/scene"
    ]
    everything = b"".join(files(tmp_path / "lake").values())
    assert b"open-sesame" not in everything
    assert run(tmp_path / "other", ("ingest",), DAY, **settings)["ingest"].scopes == ()
    # Another picture of the same scene replaces the item.
    reports = run(tmp_path / "lake", window=Window(), **(settings | {"source__items": [str(product.item)]}))
    assert reports["export"].exit_code == 0
    reports = run(tmp_path / "lake", ("export",), **(settings | {"outputs__stretch": [0, 0.5]}))
    assert ("PUT", "/collections/geozarr/items/scene", 200) in api.requests


def test_a_catalogue_that_refuses(
    api: StacApi, product: eopf.Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAC_TOKEN", "wrong")
    api.token = "right"
    catalogue = {"url": api.url, "collection": "geozarr", "token": "env:STAC_TOKEN"}
    settings = {"source__items": [str(product.item)], "select__groups": [R60], "outputs__catalogue": catalogue}
    report = run(tmp_path / "lake", **settings)["export"]
    assert report.exit_code == 1
    assert "401" in report.problems[0]
    assert "wrong" not in " ".join(report.problems)


def test_a_search_that_is_not_answered(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot be searched"):
        run(tmp_path, ("ingest",), DAY, source__search={"url": "http://127.0.0.1:1", "collection": "c"})


def test_over_http_with_a_relative_asset(
    product: eopf.Product, http_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    archive = http_archive(product.store.parent)
    item = eopf.stac_item(product.id, f"./{product.store.name}")
    path = product.store.parent / "relative.json"
    path.write_text(json.dumps(item))
    found = convert(tmp_path / "lake", f"{archive.url}/relative.json?signature=secret", select__groups=[R60])
    path.unlink()
    root = zarr.open_group(found, mode="r")
    np.testing.assert_array_equal(root[f"{R60}/0/b09"][:], product.raw(f"{R60}/b09"))
    reads = [r.path for r in archive.requests if r.method == "GET" and "/r60m/b" in r.path]
    assert len(reads) == len(set(reads)) == 11
    assert b"signature" not in b"".join(files(tmp_path / "lake").values())


def test_a_source_that_stumbles(product: eopf.Product, http_archive: Callable[..., Archive], tmp_path: Path) -> None:
    archive = http_archive(product.store.parent, fail_first=1, only="r60m/b09")
    convert(tmp_path / "lake", f"{archive.url}/{product.store.name}", select__groups=[R60])
    assert 503 in {r.status for r in archive.requests}


def test_a_chunk_that_vanished_is_no_empty_chunk(
    product: eopf.Product, http_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    archive = http_archive(product.store.parent)
    settings = {"source__items": [f"{archive.url}/{product.store.name}"], "select__groups": [R60]}
    assert run(tmp_path / "lake", ("ingest",), **settings)["ingest"].exit_code == 0
    archive.faults.error_status, archive.faults.error_rate, archive.faults.only = 404, 1.0, "r60m/b09/0.0"
    report = run(tmp_path / "lake", ("refine",), **settings)["refine"]
    assert report.exit_code == 1
    assert "is not there any more" in report.problems[0]


def test_lake_and_source_on_s3(product: eopf.Product, s3: S3Server) -> None:
    source = s3.lake("source")
    objects = Objects(source)
    for key, data in files(product.store).items():
        objects.put(f"{product.store.name}/{key}", data)
    base, _, query = source.partition("?")
    lake = s3.lake()
    settings = {"source__items": [f"{base}/{product.store.name}"], "source__options": query}
    reports = run(lake, **settings, select__groups=[R60], outputs__url=s3.lake("out"))
    assert [r.exit_code for r in reports.values()] == [0] * 5, [r.problems for r in reports.values()]
    keys = [m.key for m in Objects(lake).listing(f"scenes/{RECIPE}")]
    assert sum(k.endswith(f"{R60}/0/b09/c/0/0") for k in keys) == 1


def test_an_s3_bucket_that_is_not_there(s3: S3Server, tmp_path: Path) -> None:
    url = s3.lake().replace("bucket-", "nobucket-")
    base, _, query = url.partition("?")
    with pytest.raises(CorruptInput, match="is not a Zarr store"):
        run(tmp_path, ("ingest",), source__items=[f"{base}/x.zarr"], source__options=query)
