"""What sending objects to another store will cost: requests and money, before anything is sent. Estimates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .objects import LARGE, Location
from .prices import Prices
from .storage_rules import StorageRule, stages
from .transfer import PIECE

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests to either end, and USD for them and for bytes that leave AWS; None where no end is on AWS."""

    reads: int
    writes: int
    usd: float | None


def on_aws(at: Location) -> bool:
    """Whether a store is billed by AWS: other services speak S3, too, and have prices of their own."""
    endpoint = at.option("endpoint")
    return at.scheme == "s3" and (endpoint is None or "amazonaws.com" in endpoint)


def cost(source: Location, target: Location, sizes: Sequence[int], storage_class: str | None, prices: Prices) -> Cost:
    """The cost of copying objects of these sizes, large ones into a storage class."""
    inside = source.scheme == target.scheme == "s3" and source.option("endpoint") == target.option("endpoint")
    pieces = [1 if inside else max(1, math.ceil(size / PIECE)) for size in sizes]
    # An object that goes in parts takes a request to begin and one to end, and is looked at before and after.
    parted = [n > 1 for n in pieces]
    reads = sum(n + p for n, p in zip(pieces, parted, strict=True))
    writes = [n + 2 * p for n, p in zip(pieces, parted, strict=True)]
    if not (on_aws(source) or on_aws(target)):
        return Cost(reads, sum(writes), None)
    usd = 0.0
    if on_aws(source) and not inside:
        usd += reads * prices.storage["STANDARD"].get_1000 / 1000
        if not on_aws(target):
            usd += sum(sizes) / _GIB * prices.egress_gib
    if on_aws(target):
        for count, size in zip(writes, sizes, strict=True):
            name = storage_class if storage_class and size >= LARGE else "STANDARD"
            usd += count * prices.storage[name].put_1000 / 1000
    return Cost(reads, sum(writes), usd)


def sentences(
    source: Location,
    target: Location,
    sizes: Sequence[int],
    rules: Sequence[StorageRule],
    storage_class: str | None,
    age: int,
    prices: Prices,
) -> list[str]:
    """What a plan says of sending a run that is ``age`` days old: objects, bytes, requests, money."""
    found = cost(source, target, sizes, storage_class, prices)
    words = [
        f"{len(sizes):,} objects, {sum(sizes) / 1e9:.3g} GB, about {found.reads:,} reads and {found.writes:,} writes"
    ]
    if found.usd is not None:
        words[0] += f", USD {found.usd:.2f} to send"
    if on_aws(target):
        for stage in stages(rules, sizes, prices, age):
            until = f"to day {stage.last}" if stage.last is not None else "on"
            early = f" (and USD {stage.early:.2f} for leaving it early)" if stage.early else ""
            words.append(
                f"USD {stage.month:.2f} a month in {stage.storage_class} from day {stage.first} {until}{early}"
            )
    return words
