"""Copies that an S3 service makes itself, between two places of one endpoint: the bytes do not travel through us."""

import base64
import threading
from functools import cached_property
from typing import Any

from . import credentials
from .errors import AccessError, Changed, LakeError, NotFound, Overloaded, QuotaError, Unreachable
from .objects import Location, Meta, Objects

_ONE_REQUEST = 5 * 2**30
"""Bytes that one CopyObject may copy: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""


def server_side(source: Objects, target: Objects) -> "ServerCopy | None":
    """What copies between two stores without us; None where they are not of one service, or boto3 is not there."""
    one, two = source.location, target.location
    same = ("endpoint", "region", "credentials")
    if not (one.scheme == two.scheme == "s3") or any(one.option(n) != two.option(n) for n in same):
        return None
    if "true" in (one.option("anonymous"), two.option("anonymous")):
        return None
    try:
        import boto3  # noqa: F401
    except ImportError:
        return None
    return ServerCopy(one, two)


class ServerCopy:
    """Copies objects inside one S3 service. ``works`` turns False for good when the service will not do it."""

    def __init__(self, source: Location, target: Location) -> None:
        self._source = source
        self._target = target
        self._making = threading.Lock()
        self.works = True

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        at = self._target
        settings = Config(retries={"max_attempts": 3, "mode": "standard"}, max_pool_connections=64)
        keys = credentials.boto(at.option("credentials"))
        return boto3.client(
            "s3", endpoint_url=at.option("endpoint"), region_name=at.option("region"), config=settings, **keys
        )

    def copy(self, key: str, meta: Meta, storage_class: str | None) -> str | None:
        """Copy the version of an object that ``meta`` tells of; its SHA-256 (hexadecimal) as the service took it of the
        copy, or None when it tells none. Raises ``NotFound``, ``AccessError``, ``Unreachable``."""
        from botocore.exceptions import BotoCoreError, ClientError

        with self._making:
            client = self._client
        origin = {"Bucket": self._source.bucket, "Key": _name(self._source, key)}
        place = {"Bucket": self._target.bucket, "Key": _name(self._target, key)}
        wanted: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        try:
            if meta.size > _ONE_REQUEST:
                # In parts, whose digests are no digest of the whole.
                client.copy(origin, place["Bucket"], place["Key"], ExtraArgs=wanted)
                return None
            answer = client.copy_object(
                CopySource=origin, CopySourceIfMatch=meta.etag, ChecksumAlgorithm="SHA256", **place, **wanted
            )
        except ClientError as error:
            failure = _typed(error, key)
            if isinstance(failure, AccessError):
                # Two owners, whose buckets are not open to each other: the bytes go through us.
                self.works = False
                return None
            raise failure from None
        except BotoCoreError as error:
            raise Unreachable(f"{key} cannot be copied ({type(error).__name__})") from None
        checksum = answer.get("CopyObjectResult", {}).get("ChecksumSHA256")
        return base64.b64decode(checksum).hex() if checksum and "-" not in checksum else None


def _name(at: Location, key: str) -> str:
    return f"{at.prefix}/{key}" if at.prefix else key


def _typed(error: Any, key: str) -> LakeError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ("404", "NoSuchKey") or status == 404:
        return NotFound(f"{key} is not at the source any more")
    if status == 412:
        return Changed(f"{key} changed at the source")
    if code == "SlowDown" or status == 429:
        return QuotaError(f"{key}: the server asks to slow down")
    if status >= 500:
        return Overloaded(f"{key}: the server is overloaded ({status})")
    return AccessError(f"{key} cannot be copied inside the service ({code or status})")
