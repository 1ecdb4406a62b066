"""Many small objects at once: contents in order, outputs looked for by listing, claims without a look before."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from tasks.lake import lake as lake_module
from tasks.lake.contents import contents
from tasks.lake.errors import NotFound
from tasks.lake.lake import Lake
from tasks.lake.ledger import Busy, Ledger, lineage
from tasks.lake.objects import Objects
from tasks.lake.partition import Output, Partition, Produced, Status

PARTITION = Partition("one/a", "print", seen=0)
MADE = Produced((Output("out/a", "digest"),))


def test_contents_come_in_the_order_of_the_keys(store_url: str) -> None:
    store = Objects(store_url)
    for i in range(7):
        store.put(f"a/{i}", str(i).encode())
    assert contents(store, ["a/3", "a/0", "a/6"]) == [b"3", b"0", b"6"]
    assert contents(store, []) == []
    with pytest.raises(NotFound, match="a/9 is not there"):
        contents(store, ["a/1", "a/9", "a/2"])


@pytest.mark.parametrize("listed", [1, 5, 1000])
def test_outputs_are_missed_however_they_are_looked_for(store_url: str, listed: int) -> None:
    lake = Lake(store_url)
    there = [f"out/{folder}/{i}" for folder in ("x", "y") for i in range(6)]
    for key in [*there, "out/x/below/1", "out/single"]:
        lake.objects.put(key, b"1")
    gone = ["out/x/7", "out/x/belo", "out/nowhere/1", "out/nowhere/2", "out/nowhere/3", "out/y"]
    with patch.object(lake_module, "_LISTED", listed):
        assert lake.missing([*there, *gone, "out/x/below/1", "out/single"]) == set(gone)
        assert lake.missing(gone[:1]) == set(gone[:1])
        assert lake.missing([]) == set()


def test_a_claim_of_what_nobody_had_tried_takes_one_request(store_url: str) -> None:
    ledger = Ledger(Objects(store_url), "demo")
    with patch.object(Objects, "get_with_etag", side_effect=AssertionError("read before it was claimed")):
        claim = ledger.claim("ingest", PARTITION, lineage())
    assert (claim.record.attempt, claim.record.status) == (1, Status.RUNNING)
    assert ledger.finish("ingest", claim, MADE).status is Status.DONE


def test_what_changed_since_the_plan_is_seen_all_the_same(store_url: str) -> None:
    ledger = Ledger(Objects(store_url), "demo")
    claim = ledger.claim("ingest", PARTITION, lineage("other"))
    with pytest.raises(Busy, match="is being worked on by"):
        ledger.claim("ingest", PARTITION, lineage())
    ledger.mark_lost("ingest", PARTITION.key, "gone")
    again = ledger.claim("ingest", PARTITION, lineage())
    assert (again.record.attempt, [a.status for a in again.record.history]) == (2, [Status.LOST])
    assert claim.record.attempt == 1
    ledger.finish("ingest", again, MADE)
    with pytest.raises(Busy, match="done by somebody else meanwhile"):
        ledger.claim("ingest", PARTITION, lineage())
    assert ledger.claim("ingest", replace(PARTITION, seen=2), lineage()).record.attempt == 3
