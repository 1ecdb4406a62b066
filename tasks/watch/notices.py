"""Notifications of a bucket, from an SQS queue: which runs they are about. They say when to look, never what is there.

S3 may send to the queue itself, through SNS, or through EventBridge; a message of any of these forms is understood.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

import orjson

from ..lake.errors import AccessError, Unreachable, UsageError

_LONGEST = 20
_BATCH = 10


@dataclass(frozen=True, slots=True)
class Notices:
    """Messages of one look at the queue: the objects they name, and their receipts."""

    objects: frozenset[tuple[str, str]]
    receipts: tuple[str, ...]
    unreadable: int = 0


class Queue:
    """An SQS queue that a provider's notifications arrive in. It should be this watch's own."""

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        try:
            import boto3
        except ImportError:
            raise UsageError("watching a queue needs the extra 'aws'") from None
        if not url.startswith(("http://", "https://")):
            raise UsageError("a queue is named by its URL", expected="https://sqs.REGION.amazonaws.com/...", found=url)
        self._url = url
        self._client: Any = boto3.client("sqs", endpoint_url=endpoint, region_name=_region(url))

    def receive(self, seconds: float) -> Notices:
        """Wait for messages, at most so long (and 20 seconds). Raises ``AccessError``, ``Unreachable``."""
        found = self._call(
            "receive_message", MaxNumberOfMessages=_BATCH, WaitTimeSeconds=max(0, min(_LONGEST, int(seconds)))
        )
        objects: set[tuple[str, str]] = set()
        receipts, unreadable = [], 0
        for message in found.get("Messages", ()):
            try:
                objects |= set(named(orjson.loads(message["Body"])))
            except (ValueError, KeyError, TypeError, AttributeError):
                # Left to the queue's own rule for what nobody takes (its dead-letter queue).
                unreadable += 1
                continue
            receipts.append(message["ReceiptHandle"])
        return Notices(frozenset(objects), tuple(receipts), unreadable)

    def delete(self, notices: Notices) -> None:
        """Take messages out of the queue: what they are about was looked at."""
        for start in range(0, len(notices.receipts), _BATCH):
            entries = [
                {"Id": str(n), "ReceiptHandle": r} for n, r in enumerate(notices.receipts[start : start + _BATCH])
            ]
            self._call("delete_message_batch", Entries=entries)

    def _call(self, name: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, name)(QueueUrl=self._url, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "an error")
            raise AccessError(f"the queue {self._url} refuses ({code})") from None
        except BotoCoreError as error:
            raise Unreachable(f"the queue {self._url} cannot be reached ({type(error).__name__})") from None


def named(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The objects (bucket, key) that a message's body names: of S3, wrapped by SNS, or of EventBridge. Raises
    ``ValueError`` and its like for a body that is none of them."""
    if isinstance(body.get("Message"), str):
        yield from named(orjson.loads(body["Message"]))
    elif "detail" in body:
        yield body["detail"]["bucket"]["name"], body["detail"]["object"]["key"]
    elif body.get("Event") == "s3:TestEvent":
        return
    else:
        for record in body["Records"]:
            # As RFC 1866 forms encode it: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
            yield record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])


def concerned(
    objects: frozenset[tuple[str, str]], keys: Mapping[datetime, Mapping[tuple[str, str], int]]
) -> list[datetime]:
    """The runs that objects belong to, newest first."""
    return sorted((run for run, known in keys.items() if any(o in known for o in objects)), reverse=True)


def _region(url: str) -> str | None:
    """The region in a queue's own address; None leaves it to the environment."""
    host = url.split("/")[2].split(".")
    return host[1] if host[0] == "sqs" and len(host) > 2 else None
