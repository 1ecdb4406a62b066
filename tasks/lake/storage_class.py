"""Storage classes of S3: moving an object to another one where it lies, and rules by which a bucket does it itself."""

from typing import Any

from . import credentials
from .errors import AccessError, NotFound, UsageError
from .objects import Objects
from .storage_rules import merged

CLASSES = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
"""Storage classes of S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html"""


def move(objects: Objects, key: str, storage_class: str) -> None:
    """Move an object to a storage class of S3, inside the store: its bytes do not travel.

    Raises ``UsageError`` for a class that is none, a store that has none, or without the extra ``aws``.
    """
    at = objects.location
    if storage_class not in CLASSES:
        raise UsageError("there is no such storage class", expected=", ".join(CLASSES), found=storage_class)
    if at.scheme != "s3":
        raise UsageError(f"{objects.url} has no storage classes; only S3 does")
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise UsageError("moving objects between storage classes needs the extra 'aws'") from None
    keys = credentials.boto(at.option("credentials"))
    client = boto3.client("s3", endpoint_url=at.option("endpoint"), region_name=at.option("region"), **keys)
    name = f"{at.prefix}/{key}" if at.prefix else key
    try:
        # The managed copy: in parts where the object is larger than one request may copy.
        client.copy({"Bucket": at.bucket, "Key": name}, at.bucket, name, ExtraArgs={"StorageClass": storage_class})
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("404", "NoSuchKey"):
            raise NotFound(f"{objects.url.split('?')[0]}/{key} is not there") from None
        raise AccessError(f"{key} cannot be moved to {storage_class} ({code})") from None
    except BotoCoreError as error:
        raise AccessError(f"{key} cannot be moved to {storage_class} ({type(error).__name__})") from None


def put_lifecycle(objects: Objects, recipe: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """Put a recipe's lifecycle rules at the bucket of a store, in the place of those it had; other rules stay.

    Returns the whole configuration as it is then. Raises ``UsageError`` without the extra ``aws``, ``AccessError``.
    """
    at = objects.location
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise UsageError("lifecycle rules of a bucket need the extra 'aws'") from None
    keys = credentials.boto(at.option("credentials"))
    client = boto3.client("s3", endpoint_url=at.option("endpoint"), region_name=at.option("region"), **keys)
    try:
        try:
            there = client.get_bucket_lifecycle_configuration(Bucket=at.bucket)["Rules"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchLifecycleConfiguration":
                raise
            there = []
        whole = merged(recipe, configuration, there)
        client.put_bucket_lifecycle_configuration(Bucket=at.bucket, LifecycleConfiguration=whole)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise AccessError(f"the lifecycle rules of bucket {at.bucket} cannot be put ({code})") from None
    except BotoCoreError as error:
        raise AccessError(f"the lifecycle rules of bucket {at.bucket} cannot be put ({type(error).__name__})") from None
    return whole
