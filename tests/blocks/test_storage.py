"""The lake's block: its URL without a key, its check on real stores, and what it says when something is wrong."""

import pickle
from pathlib import Path

import boto3
import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr, ValidationError

from blocks.storage import LakeStorage
from tasks.lake import credentials
from tasks.lake.cube_storage import storage
from tasks.lake.errors import AccessError, LakeError, UsageError
from tasks.lake.objects import LARGE, Objects

from ..servers import S3Server

SECRET = "planted-secret-key-0815"
REFERENCE = "block:weatherlake-lake/prod"


def keys() -> AwsCredentials:
    return AwsCredentials(
        aws_access_key_id="AKIAPLANTED", aws_secret_access_key=SecretStr(SECRET), region_name="us-east-1"
    )


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def block(s3: S3Server, **more: object) -> LakeStorage:
    return LakeStorage.model_validate(
        {"location": f"s3://{s3.bucket()}/lake", "endpoint": s3.endpoint, "credentials": keys(), **more}
    )


def test_a_lake_in_s3_passes(s3: S3Server, no_keys: None) -> None:
    lake = block(s3)
    lake.check()
    bucket = boto3.client(
        "s3", endpoint_url=s3.endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    assert "Contents" not in bucket.list_objects_v2(Bucket=lake.location.split("/")[2])


def test_a_lake_in_a_folder_passes(tmp_path: Path) -> None:
    LakeStorage(location=str(tmp_path / "lake")).check()
    assert not [p for p in (tmp_path / "lake").rglob("*") if p.is_file() and p.name != ".lock"]


def test_what_is_wrong_is_said(s3: S3Server, no_keys: None, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="there is no such bucket"):
        block(s3, location="s3://nobody-made-this/lake").check()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(AccessError, match="cannot be made"):
        LakeStorage(location=f"{file}/lake").check()


def test_a_store_without_conditional_writes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some S3 services are: If-None-Match and If-Match are taken and not looked at."""
    monkeypatch.setattr(Objects, "put_new", lambda self, key, data: self.put(key, data))
    with pytest.raises(LakeError, match="conditional writes do not hold: a new object overwrites"):
        LakeStorage(location=str(tmp_path)).check()
    monkeypatch.undo()
    monkeypatch.setattr(Objects, "replace", lambda self, key, data, etag: self.put(key, data))
    with pytest.raises(LakeError, match="conditional writes do not hold: an object that was changed"):
        LakeStorage(location=str(tmp_path)).check()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"location": "lake"}, "absolute path"),
        ({"location": "s3:///lake"}, "names a bucket"),
        ({"location": "s3://key:secret@bucket/lake"}, "no user"),
        ({"location": "s3://bucket/lake?endpoint=x"}, "no user"),
        ({"location": "https://bucket/lake"}, "absolute path"),
        ({"location": "/lake", "endpoint": "http://minio:9000"}, "for s3:// only"),
        ({"location": "s3://bucket", "storage_class": "DEEP_ARCHIVE"}, "storage_class"),
    ],
)
def test_what_is_no_lake_is_refused(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LakeStorage.model_validate(fields)


def test_the_url_names_the_block_and_holds_no_key(s3: S3Server) -> None:
    url = block(s3).url(REFERENCE)
    assert f"credentials={REFERENCE}" in url
    assert SECRET not in url
    assert "AKIAPLANTED" not in url


def test_keys_are_asked_for_where_they_are_used(s3: S3Server, no_keys: None) -> None:
    """By objects and by cubes, in a process that knows the source; a pickled cube holds the reference only."""
    import icechunk

    lake = block(s3)
    asked: list[str] = []

    def source(place: str) -> credentials.Keys:
        asked.append(place)
        return credentials.Keys("AKIAPLANTED", SECRET)

    with pytest.raises(UsageError, match="only flow and task runs can load"):
        Objects(lake.url("elsewhere:prod")).put("a", b"1")
    credentials.source("here", source)
    objects = Objects(lake.url("here:prod"))
    objects.put("a", b"1")
    assert objects.get("a") == b"1"
    repository = icechunk.Repository.create(storage(objects, "cube"))
    fork = pickle.dumps(repository.writable_session("main").fork())
    assert set(asked) == {"prod"}
    assert SECRET.encode() not in fork + pickle.dumps(objects)
    assert pickle.loads(fork).store is not None


def test_large_objects_go_to_the_storage_class(s3: S3Server, no_keys: None) -> None:
    lake = block(s3, storage_class="STANDARD_IA")
    credentials.source("here", lambda _place: credentials.Keys("x", "y"))
    objects = Objects(lake.url("here:prod"))
    objects.put("large", bytes(LARGE))
    objects.put("small", bytes(LARGE - 1))
    client = boto3.client(
        "s3", endpoint_url=s3.endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    found = client.list_objects_v2(Bucket=lake.location.split("/")[2])["Contents"]
    assert {o["Key"]: o["StorageClass"] for o in found} == {"lake/large": "STANDARD_IA", "lake/small": "STANDARD"}
