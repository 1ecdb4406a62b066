"""Moving an object to another storage class where it lies."""

from .errors import AccessError, NotFound, UsageError
from .objects import Objects

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
    client = boto3.client("s3", endpoint_url=at.option("endpoint"), region_name=at.option("region"))
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
