"""What the lake holds and what that costs a month: bytes per zone and storage class, times list prices."""

from collections.abc import Iterator
from typing import Any

from ..lake import credentials
from ..lake.errors import AccessError
from ..lake.lake import Lake
from ..lake.objects import Objects
from ..lake.prices import prices
from .chore import Chore

_GIB = 2**30
_STANDARD = "STANDARD"


def cost(lake: Lake) -> Chore:
    """Bytes of the whole lake by zone, recipe and storage class, and an estimate of the money a month."""
    totals: dict[tuple[str, str, str], list[int]] = {}
    for key, size, storage_class in _objects(lake.objects):
        parts = key.split("/")
        if len(parts) > 1:
            entry = totals.setdefault((parts[0], parts[1] if len(parts) > 2 else "", storage_class), [0, 0])
            entry[0] += 1
            entry[1] += size
    known = prices()
    rows, money = [], 0.0
    for (zone, recipe, storage_class), (count, size) in sorted(totals.items()):
        price = known.storage.get(storage_class, known.storage[_STANDARD])
        usd = size / _GIB * price.gib_month
        money += usd
        rows.append((zone, recipe, storage_class, count, size, round(usd, 4)))
    total = sum(r[4] for r in rows)
    said = f"{total} bytes in {sum(r[3] for r in rows)} objects, about {money:.2f} USD a month"
    said += f" (list prices of {known.region}, {known.as_of})"
    if lake.objects.location.is_local:
        said += " if it lay in S3"
    columns = ("zone", "recipe", "class", "objects", "bytes", "USD/month")
    return Chore("cost", said, columns, tuple(rows), facts={"bytes": total, "usd_month": round(money, 2)})


def _objects(objects: Objects) -> Iterator[tuple[str, int, str]]:
    """Key, size and storage class of every object of a store."""
    at = objects.location
    if at.scheme != "s3":
        for meta in objects.listing():
            yield meta.key, meta.size, _STANDARD
        return
    try:
        pages = _pages(objects)
    except ImportError:
        # Without the extra "aws" nothing here tells the classes apart.
        for meta in objects.listing():
            yield meta.key, meta.size, _STANDARD
        return
    start = len(at.prefix) + 1 if at.prefix else 0
    for page in pages:
        for found in page.get("Contents", ()):
            yield found["Key"][start:], found["Size"], found.get("StorageClass", _STANDARD)


def _pages(objects: Objects) -> Iterator[Any]:
    """The listing of a store in pages. Raises ``ImportError`` without the extra ``aws``."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    at = objects.location
    keys = credentials.boto(at.option("credentials"))
    client = boto3.client("s3", endpoint_url=at.option("endpoint"), region_name=at.option("region"), **keys)
    prefix = f"{at.prefix}/" if at.prefix else ""

    def pages() -> Iterator[Any]:
        try:
            yield from client.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=prefix)
        except (BotoCoreError, ClientError) as error:
            raise AccessError(f"{objects.url.split('?')[0]} cannot be listed ({type(error).__name__})") from None

    return pages()
