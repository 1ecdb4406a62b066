"""The block of a lake: where it is, who may write there, and what new data is stored as.

A flow is given its name (``lake=block:weatherlake-lake/NAME``). The URL made from it names the block in place of keys
(see `tasks.lake.credentials`), so the keys stay here until somebody opens the lake.
"""

import uuid
from typing import ClassVar, Literal, Self
from urllib.parse import urlencode, urlsplit

from prefect.blocks.core import Block
from prefect_aws import AwsCredentials
from pydantic import Field, model_validator

from tasks.lake.credentials import Keys, held
from tasks.lake.errors import ConflictError, LakeError, NotFound
from tasks.lake.objects import Objects

StorageClass = Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"]
"""Classes of S3 that can be read at once, as a lake must be."""


class LakeStorage(Block):
    """A lake: a folder, or a prefix in a bucket of S3 or of what speaks its protocol."""

    _block_type_name: ClassVar[str] = "Weatherlake lake"
    _block_type_slug: ClassVar[str] = "weatherlake-lake"
    _description: ClassVar[str] = "Where a weatherlake lies: a folder, or a prefix in an S3 bucket."

    location: str = Field(
        title="Location",
        description="An absolute path of a folder that all workers see, or s3://bucket/prefix.",
        examples=["/data/lake", "s3://my-bucket/lake"],
    )
    credentials: AwsCredentials | None = Field(
        default=None,
        description="AWS keys or a role to assume. Leave out to use the role of the machine, which is best.",
    )
    endpoint: str | None = Field(
        default=None, description="Address of another S3 service than AWS's, such as http://minio:9000."
    )
    region: str | None = Field(default=None, description="Region of the bucket, such as eu-central-1.")
    storage_class: StorageClass = Field(
        default="STANDARD",
        description="Class of S3 for new data of 128 KiB and more; records and indexes always stay STANDARD.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parts = urlsplit(self.location)
        if parts.username or parts.password or parts.query:
            raise ValueError("the location holds no user, password or option: they have fields of their own")
        if parts.scheme == "s3":
            if not parts.netloc:
                raise ValueError("s3://bucket/prefix names a bucket")
            return self
        if parts.scheme not in ("", "file") or not self._folder.startswith("/"):
            raise ValueError("a lake is an absolute path of a folder, or s3://bucket/prefix")
        if self.credentials or self.endpoint or self.region or self.storage_class != "STANDARD":
            raise ValueError("credentials, endpoint, region and storage class are for s3:// only")
        return self

    @property
    def _folder(self) -> str:
        return self.location.removeprefix("file://")

    def url(self, reference: str | None = None) -> str:
        """The lake's URL. ``reference`` (``block:weatherlake-lake/NAME``, by default this block's own name) stands in
        it for the credentials, when there are any."""
        if not self.location.startswith("s3://"):
            return self._folder
        named = reference or f"block:{self.get_block_type_slug()}/{self._block_document_name}"
        options = {
            "endpoint": self.endpoint,
            "region": self.region or (self.credentials.region_name if self.credentials else None),
            "credentials": named if self.credentials else None,
            "storage_class": self.storage_class if self.storage_class != "STANDARD" else None,
        }
        given = {key: value for key, value in options.items() if value}
        return f"{self.location}?{urlencode(given, safe=':/')}" if given else self.location

    def check(self) -> None:
        """Write, read, list and delete a probe, and see that conditional writes hold, which the ledger stands on.

        Raises ``LakeError``: one sentence that says what is wrong.
        """
        name = f"check-{uuid.uuid4().hex}"
        reference = f"{name}:block"
        with held(reference, self._keys):
            store = Objects(self.url(reference))
            probe = f"ledger/.check-{uuid.uuid4().hex}"
            try:
                store.put(probe, b"one")
            except NotFound:
                raise NotFound(f"{self.location}: there is no such bucket") from None
            try:
                self._probed(store, probe)
            finally:
                store.delete(probe)
            if store.head(probe) is not None:
                raise LakeError(f"{self.location}: what is deleted is still there")

    def _probed(self, store: Objects, probe: str) -> None:
        data, etag = store.get_with_etag(probe)
        if data != b"one":
            raise LakeError(f"{self.location}: what is read is not what was written")
        if probe not in [meta.key for meta in store.folder("ledger")]:
            raise LakeError(f"{self.location}: what was written is not listed")
        store.replace(probe, b"two", etag)
        for write, said in (
            (lambda: store.put_new(probe, b"three"), "a new object overwrites one that is there"),
            (lambda: store.replace(probe, b"three", etag), "an object that was changed meanwhile is overwritten"),
        ):
            try:
                write()
            except ConflictError:
                continue
            raise LakeError(
                f"{self.location}: conditional writes do not hold: {said}; two flows could do the same work"
            )

    def _keys(self) -> Keys | None:
        return keys_of(self.credentials)


def keys_of(block: AwsCredentials | None) -> Keys | None:
    """The keys that an AWS block gives, now; None when there is no block. Raises what boto3 raises."""
    found = block.get_boto3_session().get_credentials() if block else None
    if found is None:
        return None
    frozen = found.get_frozen_credentials()
    return Keys(str(frozen.access_key), str(frozen.secret_key), frozen.token)
