"""A cluster of somebody else's with TLS: let in by certificates, kept out without; and the keys that clusters get."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import dask
import pytest
from distributed import Scheduler, Security

from blocks.clusters.aws import tls
from blocks.clusters.node import keys_from_store, own_address
from blocks.clusters.protocol import build
from flows.runtime import open_cluster
from tasks.lake.errors import Unreachable, UsageError

from .aws import REGION, Aws


@pytest.fixture(scope="module")
def security() -> Any:
    return Security.temporary()


@pytest.fixture(scope="module")
def address(security: Any) -> Iterator[str]:
    """A scheduler that lets in who has the keys."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def start() -> Scheduler:
        return await Scheduler(
            host="127.0.0.1", port=0, protocol="tls", security=security, dashboard_address="127.0.0.1:0"
        )

    scheduler = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    yield scheduler.address
    asyncio.run_coroutine_threadsafe(scheduler.close(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)


@pytest.fixture
def files(security: Any, tmp_path: Path) -> dict[str, str]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(security.tls_client_cert)
    key.write_text(security.tls_client_key)
    return {"ca_file": str(certificate), "cert_file": str(certificate), "key_file": str(key)}


def test_certificates_let_in(address: str, files: dict[str, str]):
    with build({"type": "existing", "address": address, **files}, "here").opened("run") as place:
        assert place.address == address
        assert place.security is not None


def test_strangers_are_kept_out(address: str, tmp_path: Path):
    other = Security.temporary()
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_text(str(other.tls_client_cert))
    key.write_text(str(other.tls_client_key))
    settings = {"type": "existing", "address": address, "ca_file": str(certificate), "cert_file": str(certificate)}
    cluster = build(settings | {"key_file": str(key)}, "here")
    with pytest.raises(Unreachable, match="no Dask scheduler answers"), cluster.opened("run"):
        pytest.fail("a stranger was let in")


def test_without_any_certificate_it_says_what_is_missing(address: str):
    with pytest.raises(UsageError, match="certificates"), open_cluster(address):
        pytest.fail("nobody was asked who he is")


def test_dasks_own_configuration_counts(address: str, files: dict[str, str]):
    found = {
        "distributed.comm.tls.ca-file": files["ca_file"],
        "distributed.comm.tls.client.cert": files["cert_file"],
        "distributed.comm.tls.client.key": files["key_file"],
    }
    with dask.config.set(found), build({"type": "existing", "address": address}, "h").opened("run") as place:
        assert place.address == address


def test_a_file_that_is_not_there_is_named(address: str, files: dict[str, str]):
    cluster = build({"type": "existing", "address": address} | files | {"key_file": "/nowhere.pem"}, "here")
    with pytest.raises(UsageError, match=r"no file /nowhere\.pem"), cluster.opened("run"):
        pytest.fail("it opened")


def test_keys_go_through_the_store_and_come_back(aws: Aws):
    session = boto3.session.Session(region_name=REGION)
    security, parameter = tls.keep(session, "abc", {"weatherlake:cluster": "abc"})
    described = aws.client("ssm").describe_parameters()["Parameters"]
    assert [(p["Name"], p["Type"]) for p in described] == [("/weatherlake/clusters/abc/tls", "SecureString")]
    raw = aws.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
    assert raw.startswith("kms:"), "encrypted"
    there = keys_from_store(parameter, REGION)
    for role in ("scheduler", "worker", "client"):
        assert there.get_connection_args(role)["require_encryption"]
    assert there.tls_worker_key == security.tls_client_key
    value = f"{security.tls_client_key}{security.tls_client_cert}"
    assert len(value) < 3900, "a standard parameter holds 4 KB"


def test_the_platform_is_asked_for_the_address(aws: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", f"{aws.metadata}/task/10.1.2.3")
    assert own_address("ecs") == "10.1.2.3"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{aws.metadata}/instance/i-1/10.1.2.4")
    assert own_address("ec2") == "10.1.2.4"
