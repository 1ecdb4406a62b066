"""Objects in the coldest classes of S3: asking for them back, and seeing how far that is."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from . import credentials
from .errors import AccessError, LakeError, NotFound, Unreachable, UsageError
from .objects import Objects

FROZEN = ("GLACIER", "DEEP_ARCHIVE")
"""Classes that are not read before they are restored; GLACIER_IR is."""

TIERS = ("Standard", "Bulk", "Expedited")
"""How soon: hours, a day or two, minutes (not of DEEP_ARCHIVE):
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html"""

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Thaw:
    """How far the restoring of objects is, by count: those at hand, those on their way, those asked for just now."""

    ready: int
    under_way: int
    asked: int

    @property
    def waiting(self) -> int:
        """How many cannot be read yet."""
        return self.under_way + self.asked


def thaw(objects: Objects, keys: Sequence[str], days: int, tier: str, *, ask: bool = True) -> Thaw:
    """Ask for those objects that are frozen, for so many days; how far it is. Repeatable: asks for nothing twice.

    Stores without storage classes have everything at hand. Raises ``UsageError`` without the extra ``aws``,
    ``NotFound``, ``AccessError``, ``Unreachable``.
    """
    at = objects.location
    if at.scheme != "s3":
        return Thaw(len(keys), 0, 0)
    try:
        import boto3
    except ImportError:
        raise UsageError("restoring objects needs the extra 'aws'") from None
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=at.option("endpoint"), region_name=at.option("region"),
        config=Config(max_pool_connections=_AT_ONCE), **credentials.boto(at.option("credentials")),
    )  # fmt: skip

    def one(key: str) -> str:
        place = {"Bucket": at.bucket, "Key": f"{at.prefix}/{key}" if at.prefix else key}
        return _one(client, place, key, days, tier, ask)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        states = list(pool.map(one, keys))
    return Thaw(states.count("ready"), states.count("under way"), states.count("asked"))


def _one(client: Any, place: dict[str, str], key: str, days: int, tier: str, ask: bool) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        head = client.head_object(**place)
        if head.get("StorageClass") not in FROZEN:
            return "ready"
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html: ongoing-request="true", or "false" with
        # the day to which the copy is kept; nothing before it was asked for.
        said = head.get("Restore", "")
        if 'ongoing-request="false"' in said:
            return "ready"
        if 'ongoing-request="true"' in said or not ask:
            return "under way"
        request = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
        client.restore_object(**place, RestoreRequest=request)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "RestoreAlreadyInProgress":
            return "under way"
        raise _typed(code, key) from None
    except BotoCoreError as error:
        raise Unreachable(f"{key} cannot be asked for ({type(error).__name__})") from None
    return "asked"


def _typed(code: str, key: str) -> LakeError:
    if code in ("404", "NoSuchKey"):
        return NotFound(f"{key} is not there")
    if code == "GlacierExpeditedRetrievalNotAvailable":
        return Unreachable(f"{key}: there is no capacity for expedited retrieval now")
    return AccessError(f"{key} cannot be restored ({code})")
